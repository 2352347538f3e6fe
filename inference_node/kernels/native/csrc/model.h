// A model's weights as the step reads them. Owns nothing: whoever made the tensors keeps them.
#pragma once
#include <vector>

#include "linear_bf16.h"
#include "product_q.h"

namespace trimtab {

enum Site { kAttentionIn, kAttentionOut, kMlpIn, kMlpMiddle, kSites };

struct Linear {
  bool quantized = false;
  LinearBf16 exact;
  LinearQ packed;
  const float* bias = nullptr;  // [panels * panel], or null
  int panels() const { return quantized ? packed.panels() : exact.panels(); }
  int panel() const { return quantized ? kPanelQ : kPanelBf16; }
  // Cuts the sums of a matrix of few panels. By its shape alone: what a row gives may not depend on the number of threads.
  void split() {
    if (quantized && packed.panels() <= 8 && packed.groups() >= 4) packed.splits = 2;
  }
  int splits() const { return quantized ? packed.splits : 1; }
};

struct Layer {
  const float *attention_norm = nullptr, *mlp_norm = nullptr;          // [C]
  const float *attention_out_norm = nullptr, *mlp_out_norm = nullptr;  // [C], or null
  const float *q_norm = nullptr, *k_norm = nullptr;                    // [D], or null
  const float* turns = nullptr;  // [positions][2][D]: cosines, then sines, each twice in a row
  int window = 0;                // how many tokens back it sees, itself included; 0 for all
  Linear qkv, output, gate_up, down;
  const float* norms[kSites] = {};  // [inputs] of each site: what an activation's size is multiplied by before it is compared
};

struct Model {
  int hidden = 0, heads = 0, key_heads = 0, dim = 0, middle = 0, vocabulary = 0;
  float eps = 0;
  float attention_scale = 0;  // what products of queries and keys are multiplied with
  float embedding_scale = 1;
  bool gelu = false;          // what gates go through; else SiLU
  const float* norm = nullptr;
  const bf16* embedding = nullptr;   // [V][C]; null: read from the head
  Linear head;
  std::vector<Layer> layers;
};

// One step, as Python lays it out.
struct Step {
  int64_t rows, sampled_rows, num_runs;
  const int64_t *tokens, *positions, *sampled;
  const int32_t* runs;     // [num_runs][4]: row, start, count, where its table begins
  const int32_t* tables;
  uint8_t* pages;
  int64_t layer_stride;    // bytes
  int64_t block_size;
  int64_t narrow;          // whether keys and values are of 8 bits
  float* logits;           // [sampled_rows][V], or null
  int32_t* best;           // [sampled_rows]: the likeliest token
  float* best_logit;
  const float* cutoffs;    // [layers][4], or null
  int64_t* kept;           // [layers][4]: activations that were not dropped, or null
  float* const* capture;   // [layers][4] to [rows][inputs], or null
};

}  // namespace trimtab
