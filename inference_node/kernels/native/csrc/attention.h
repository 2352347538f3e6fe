// Attention over a paged cache, for prompts and single tokens alike.
//
// A block of the cache holds, for each key head, its keys as [16 keys each][D / 2][16][2] and its values as [pairs of keys][D][2]:
// both are the B of a tile product as they lie there. Keys are taken 32 at a time from position 0 on, with a running maximum
// (Milakov & Gimelshein, "Online normalizer calculation for softmax", 2018), so a row's sums have one order, whatever its company.
#pragma once
#include <algorithm>
#include <vector>

#include "tiles.h"

namespace trimtab {

constexpr int kKeys = 32;  // keys of one round

struct KvLayout {
  bf16* pages = nullptr;    // of one layer: [blocks][key heads of K, then of V]
  int block_size = 0, key_heads = 0, dim = 0;

  size_t head_size() const { return static_cast<size_t>(block_size) * dim; }
  size_t block_elements() const { return 2 * head_size() * key_heads; }
  bf16* keys(int block, int head) const { return pages + block * block_elements() + head * head_size(); }
  bf16* values(int block, int head) const { return keys(block, key_heads + head); }

  void write_key(int block, int offset, int head, const float* key) const {
    bf16* to = keys(block, head) + static_cast<size_t>(offset / 16) * 16 * dim + (offset % 16) * 2;
    for (int d = 0; d < dim; d += 16) {
      alignas(32) uint32_t pairs[8];
      _mm256_store_si256(reinterpret_cast<__m256i*>(pairs), to_bf16(_mm512_loadu_ps(key + d)));
      for (int i = 0; i < 8; ++i, to += 32) std::memcpy(to, pairs + i, 4);
    }
  }

  void write_value(int block, int offset, int head, const float* value) const {
    bf16* to = values(block, head) + static_cast<size_t>(offset / 2) * 2 * dim;
    // The other half of each pair is another token's, which another thread may be writing just now.
    const __mmask32 mine = offset % 2 ? 0xaaaaaaaau : 0x55555555u;
    for (int d = 0; d < dim; d += 16, to += 32) {
      const __m512i wide = _mm512_cvtepu16_epi32(to_bf16(_mm512_loadu_ps(value + d)));
      _mm512_mask_storeu_epi16(to, mine, offset % 2 ? _mm512_slli_epi32(wide, 16) : wide);
    }
  }
};

// Consecutive tokens of one sequence, as rows of the step.
struct Run {
  int row, start, count;
  const int32_t* table;
};

// Up to 16 queries, each a token and one of the query heads that share a key head.
struct AttentionTask {
  int run, head, first, rows;
};

class AttentionPlan {
 public:
  std::vector<Run> runs;
  std::vector<AttentionTask> single, many;  // runs of one token, and tiles of longer ones

  void plan(int key_heads, int fold) {
    single.clear();
    many.clear();
    for (int i = 0; i < static_cast<int>(runs.size()); ++i) {
      const int queries = runs[i].count * fold;
      for (int head = 0; head < key_heads; ++head) {
        for (int first = 0; first < queries; first += kTileRows) {
          const int rows = queries - first < kTileRows ? queries - first : kTileRows;
          (runs[i].count == 1 ? single : many).push_back({i, head, first, rows});
        }
      }
    }
  }
};

// q: [rows of the step][heads * D] bf16, scaled by log2(e) / sqrt(D). `out` takes [16][D] fp32, row r for query first + r.
// With AMX, tiles are configured for the task's rows and a depth of 64.
class AttentionScratch {
 public:
  float* out = nullptr;

  void run(bool amx, const AttentionTask& task, const Run& run, const KvLayout& kv, const bf16* q, size_t q_stride, int fold) {
    const int dim = kv.dim;
    q_ = q_buffer_.get<bf16>(static_cast<size_t>(kTileRows) * dim);
    out = out_buffer_.get<float>(static_cast<size_t>(kTileRows) * dim);
    for (int r = 0; r < task.rows; ++r) {
      const int query = task.first + r, token = query / fold, head = task.head * fold + query % fold;
      std::memcpy(q_ + r * dim, q + (run.row + token) * q_stride + head * dim, dim * sizeof(bf16));
    }
    const int keys = run.start + (task.first + task.rows - 1) / fold + 1;
    const bool in_tiles = amx && dim <= 64;  // all sums of a task fit into four tiles
    in_tiles ? zero_tiles() : void(std::memset(out, 0, sizeof(float) * task.rows * dim));
    for (int key = 0; key < keys; key += kKeys) {
      const bf16* v = values(task, run, kv, key, keys);
      if (run.count == 1 && key + kKeys < keys) load_ahead(task, run, kv, key + kKeys, keys);
      score(amx, task, run, kv, key, keys);
      const bool grew = weigh(task, run.start - key, fold, key == 0);
      if (in_tiles) {
        if (grew) rescale_tiles(task.rows, dim);
        settle_stores();
        _tile_loadd(4, weights_, kKeys * 2);
        add_tiles(v, dim);
      } else {
        if (grew) rescale(task.rows, dim);
        add(amx, v, task.rows, dim);
      }
    }
    if (in_tiles) store_tiles(dim);
    for (int r = 0; r < task.rows; ++r) {
      const __m512 inverse = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(_mm512_load_ps(total_ + r * 16)));
      for (int d = 0; d < dim; d += 16) _mm512_store_ps(out + r * dim + d, _mm512_mul_ps(_mm512_load_ps(out + r * dim + d), inverse));
    }
  }

 private:
  // Exponents may reach this (base 2) before sums are brought down: the maximum need not be the largest of all, only near it.
  static constexpr float kSlack = 8.0f;

  void score(bool amx, const AttentionTask& task, const Run& run, const KvLayout& kv, int key, int keys) {
    for (int half = 0; half < 2 && key + half * 16 < keys; ++half) {
      const int at = key + half * 16;
      const bf16* b = kv.keys(run.table[at / kv.block_size], task.head) + static_cast<size_t>(at % kv.block_size) * kv.dim;
      if (!amx) {
        tile_product(false, scores_[half], q_, kv.dim, b, 64, 1024, task.rows, kv.dim / 32);
        continue;
      }
      settle_stores();
      _tile_zero(5);
      for (int step = 0; step < kv.dim / 32; ++step) {
        _tile_loadd(4, q_ + step * 32, kv.dim * 2);
        _tile_loadd(6, b + step * 512, 64);
        _tile_dpbf16ps(5, 4, 6);
      }
      _tile_stored(5, scores_[half], 64);
    }
  }

  // Scores to weights. `ahead`: how many keys of this round the first token of the run sees, less one. Returns whether some row's
  // sums must be multiplied by scale_ first.
  bool weigh(const AttentionTask& task, int ahead, int fold, bool first) {
    bool grew = false;
    const __m512 gone = _mm512_set1_ps(-INFINITY);
    for (int r = 0; r < task.rows; ++r) {
      const int visible = ahead + (task.first + r) / fold + 1;
      const uint32_t mask = visible >= kKeys ? 0xffffffffu : visible <= 0 ? 0u : (1u << visible) - 1;
      const __mmask16 low = static_cast<__mmask16>(mask), high = static_cast<__mmask16>(mask >> 16);
      const __m512 a = _mm512_mask_mov_ps(gone, low, _mm512_load_ps(scores_[0] + r * 16));
      const __m512 b = _mm512_mask_mov_ps(gone, high, _mm512_load_ps(scores_[1] + r * 16));
      __m512 total = _mm512_setzero_ps();
      if (first) {
        largest_[r] = _mm512_reduce_max_ps(_mm512_max_ps(a, b));
      } else {
        total = _mm512_load_ps(total_ + r * 16);
        scale_[r] = 1.0f;
        const __m512 limit = _mm512_set1_ps(largest_[r] + kSlack);
        if (_mm512_cmp_ps_mask(_mm512_max_ps(a, b), limit, _CMP_GT_OQ)) {
          const float now = _mm512_reduce_max_ps(_mm512_max_ps(a, b));
          scale_[r] = _mm512_cvtss_f32(exp2_ps(_mm512_set1_ps(largest_[r] - now)));
          largest_[r] = now;
          total = _mm512_mul_ps(total, _mm512_set1_ps(scale_[r]));
          grew = true;
        }
      }
      const __m512 m = _mm512_set1_ps(largest_[r]);
      const __m512 pa = _mm512_maskz_mov_ps(low, exp2_ps(_mm512_sub_ps(a, m)));
      const __m512 pb = _mm512_maskz_mov_ps(high, exp2_ps(_mm512_sub_ps(b, m)));
      _mm256_store_si256(reinterpret_cast<__m256i*>(weights_ + r * kKeys), to_bf16(pa));
      _mm256_store_si256(reinterpret_cast<__m256i*>(weights_ + r * kKeys + 16), to_bf16(pb));
      _mm512_store_ps(total_ + r * 16, _mm512_add_ps(total, _mm512_add_ps(pa, pb)));
    }
    return grew;
  }

  // The round's values as pairs of keys, 32 keys in a row: where blocks hold 16, they are brought together first.
  const bf16* values(const AttentionTask& task, const Run& run, const KvLayout& kv, int key, int keys) {
    const int dim = kv.dim;
    const bf16* v = kv.values(run.table[key / kv.block_size], task.head) + static_cast<size_t>(key % kv.block_size) * dim;
    if (key % kv.block_size + kKeys <= kv.block_size) return v;
    v_ = v_buffer_.get<bf16>(static_cast<size_t>(kKeys) * dim);
    std::memcpy(v_, v, sizeof(bf16) * 16 * dim);
    if (key + 16 < keys) {
      std::memcpy(v_ + 16 * dim, kv.values(run.table[(key + 16) / kv.block_size], task.head), sizeof(bf16) * 16 * dim);
    } else {
      std::memset(v_ + 16 * dim, 0, sizeof(bf16) * 16 * dim);
    }
    return v_;
  }

  // One token reads each key once, from memory; asks for those of the next round while this one is computed.
  static void load_ahead(const AttentionTask& task, const Run& run, const KvLayout& kv, int key, int keys) {
    const size_t half = static_cast<size_t>(kv.dim) * 32;  // bytes of 16 keys
    for (int at = key; at < std::min(keys, key + kKeys); at += 16) {
      const int block = run.table[at / kv.block_size];
      const size_t offset = static_cast<size_t>(at % kv.block_size) * kv.dim;
      const char* k = reinterpret_cast<const char*>(kv.keys(block, task.head) + offset);
      const char* v = reinterpret_cast<const char*>(kv.values(block, task.head) + offset);
      for (size_t line = 0; line < half; line += 64) _mm_prefetch(k + line, _MM_HINT_T0), _mm_prefetch(v + line, _MM_HINT_T0);
    }
  }

  static void zero_tiles() {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }

  static void add_tiles(const bf16* v, int dim) {
    const size_t stride = static_cast<size_t>(dim) * 4;
    _tile_loadd(6, v, stride);
    _tile_dpbf16ps(0, 4, 6);
    if (dim > 16) {
      _tile_loadd(7, v + 32, stride);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (dim > 32) {
      _tile_loadd(6, v + 64, stride);
      _tile_dpbf16ps(2, 4, 6);
    }
    if (dim > 48) {
      _tile_loadd(7, v + 96, stride);
      _tile_dpbf16ps(3, 4, 7);
    }
  }

  void store_tiles(int dim) {
    const size_t stride = static_cast<size_t>(dim) * 4;
    _tile_stored(0, out, stride);
    if (dim > 16) _tile_stored(1, out + 16, stride);
    if (dim > 32) _tile_stored(2, out + 32, stride);
    if (dim > 48) _tile_stored(3, out + 48, stride);
  }

  void rescale_tiles(int rows, int dim) {
    store_tiles(dim);
    rescale(rows, dim);
    settle_stores();
    const size_t stride = static_cast<size_t>(dim) * 4;
    _tile_loadd(0, out, stride);
    if (dim > 16) _tile_loadd(1, out + 16, stride);
    if (dim > 32) _tile_loadd(2, out + 32, stride);
    if (dim > 48) _tile_loadd(3, out + 48, stride);
  }

  void rescale(int rows, int dim) {
    for (int r = 0; r < rows; ++r) {
      const __m512 scale = _mm512_set1_ps(scale_[r]);
      for (int d = 0; d < dim; d += 16) _mm512_store_ps(out + r * dim + d, _mm512_mul_ps(_mm512_load_ps(out + r * dim + d), scale));
    }
  }

  void add(bool amx, const bf16* v, int rows, int dim) {
    for (int d = 0; d < dim; d += 16) {
      tile_product(amx, part_, weights_, kKeys, v + d * 2, static_cast<size_t>(dim) * 4, 0, rows, 1);
      for (int r = 0; r < rows; ++r) {
        float* to = out + r * dim + d;
        _mm512_store_ps(to, _mm512_add_ps(_mm512_load_ps(to), _mm512_load_ps(part_ + r * 16)));
      }
    }
  }

  Buffer q_buffer_, out_buffer_, v_buffer_;
  bf16 *q_ = nullptr, *v_ = nullptr;
  float largest_[kTileRows], scale_[kTileRows];
  alignas(64) float scores_[2][kTileRows * 16] = {};
  alignas(64) float part_[kTileRows * 16];
  alignas(64) float total_[kTileRows * 16];
  alignas(64) bf16 weights_[kTileRows * kKeys] = {};
};

}  // namespace trimtab
