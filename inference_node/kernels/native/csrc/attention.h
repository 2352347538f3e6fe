// Attention over a paged cache, for prompts and single tokens alike.
//
// Keys are taken 32 at a time, in rounds that begin at multiples of 32, with a running maximum (Milakov & Gimelshein, "Online
// normalizer calculation for softmax", 2018), so a row's sums have one order, whatever its company. A layer with a window begins at
// the round of the first key that the task's first token sees; rounds in which a row sees nothing leave it as it is.
//
// Keys and values of 8 bits are whole numbers, which bf16 holds exactly: they are opened to it and multiplied as they are. A key's
// scale goes onto its scores, a value's onto the weight that it gets. So what is summed, and in which order, is the same for every
// row that reads them.
#pragma once
#include <algorithm>
#include <vector>

#include "kv_cache.h"
#include "tiles.h"

namespace trimtab {

constexpr int kKeys = 32;  // keys of one round

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

  // Before each step: what was opened of the cache may be others' by now.
  void forget() { opened_pages_ = nullptr; }

  // window: how many keys a token sees, its own the last; 0 for all.
  void run(bool amx, const AttentionTask& task, const Run& run, const KvLayout& kv, const bf16* q, size_t q_stride, int fold, int window) {
    const int dim = kv.dim;
    q_ = q_buffer_.get<bf16>(static_cast<size_t>(kTileRows) * dim);
    out = out_buffer_.get<float>(static_cast<size_t>(kTileRows) * dim);
    for (int r = 0; r < task.rows; ++r) {
      const int query = task.first + r, token = query / fold, head = task.head * fold + query % fold;
      std::memcpy(q_ + r * dim, q + (run.row + token) * q_stride + head * dim, dim * sizeof(bf16));
    }
    const int keys = run.start + (task.first + task.rows - 1) / fold + 1;
    const int hidden = window ? std::max(0, run.start + task.first / fold + 1 - window) : 0;  // keys that no row sees any more
    const int begin = hidden / kKeys * kKeys;
    for (int r = 0; r < task.rows; ++r) largest_[r] = -INFINITY, _mm512_store_ps(total_ + r * 16, _mm512_setzero_ps());
    const bool in_tiles = amx && dim <= 64;  // all sums of a task fit into four tiles
    in_tiles ? zero_tiles() : void(std::memset(out, 0, sizeof(float) * task.rows * dim));
    if (kv.narrow) begin_opening(task, run, kv, begin);
    for (int key = begin; key < keys; key += kKeys) {
      if (run.count == 1 && key + 2*kKeys < keys) load_ahead(task, run, kv, key + 2*kKeys, keys);
      const bf16* v;
      bool grew;
      if (kv.narrow) {
        const Opened opened = open(task, run, kv, key);
        for (int half = 0; half < 2 && key + half * 16 < keys; ++half) score(amx, opened.keys + half * 16 * dim, half, task.rows, dim);
        // While the scores are on their way.
        if (run.count == 1 && key + kKeys < keys) open(task, run, kv, key + kKeys);
        grew = weigh<true>(task, run.start - key, fold, window, opened.scales);
        v = opened.values;
      } else {
        v = values(task, run, kv, key, keys);
        for (int half = 0; half < 2 && key + half * 16 < keys; ++half) {
          const int at = key + half * 16;
          const bf16* k = kv.keys(run.table[at / kv.block_size], task.head) + static_cast<size_t>(at % kv.block_size) * dim;
          score(amx, k, half, task.rows, dim);
        }
        grew = weigh<false>(task, run.start - key, fold, window, nullptr);
      }
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

  // A round of keys and values of 8 bits as bf16. scales: of its keys, then of its values.
  struct Opened {
    bf16 *keys, *values;
    float* scales;
  };

  // Room for what a task reads. The tiles of one prompt read the same keys over and over, so those stay open from task to task; a
  // single token reads each once, through room for one round.
  void begin_opening(const AttentionTask& task, const Run& run, const KvLayout& kv, int begin) {
    const bool keeps = run.count > 1, is_same = kv.pages == opened_pages_ && task.run == opened_run_ && task.head == opened_head_;
    if (keeps && is_same && begin >= opened_from_ && begin <= opened_keys_) return;
    const int rounds = keeps ? ceil_div(run.start + run.count, kKeys) : 2;
    opened_ = opened_buffer_.get<bf16>(static_cast<size_t>(rounds) * 2 * kKeys * kv.dim);
    opened_scales_ = scales_buffer_.get<float>(static_cast<size_t>(rounds) * 2 * kKeys);
    opened_pages_ = keeps ? kv.pages : nullptr;
    opened_run_ = task.run;
    opened_head_ = task.head;
    opened_from_ = opened_keys_ = begin;
  }

  Opened open(const AttentionTask& task, const Run& run, const KvLayout& kv, int key) {
    const bool keeps = run.count > 1;
    const size_t round = keeps ? key / kKeys : key / kKeys % 2, half = static_cast<size_t>(16) * kv.dim;
    bf16* k = opened_ + round * 4 * half;
    const Opened opened{k, k + 2 * half, opened_scales_ + round * 2 * kKeys};
    if (key < opened_keys_) return opened;
    // To the run's end, not the task's: another tile of the run sees more of this round.
    const int end = run.start + run.count;
    for (int part = 0; part < 2; ++part) {
      const int at = key + part * 16;
      float* scales = opened.scales + part * 16;
      if (at >= end) {  // weights of 0 are multiplied all the same
        std::memset(opened.values + part * half, 0, half * sizeof(bf16));
        std::memset(scales, 0, 16 * sizeof(float));
        std::memset(scales + kKeys, 0, 16 * sizeof(float));
        continue;
      }
      const int block = run.table[at / kv.block_size], offset = at % kv.block_size;
      open_int8(kv.narrow_keys(block, task.head) + static_cast<size_t>(offset) * kv.dim, opened.keys + part * half, half);
      open_int8(kv.narrow_values(block, task.head) + static_cast<size_t>(offset) * kv.dim, opened.values + part * half, half);
      _mm512_storeu_ps(scales, load_bf16(kv.key_scales(block, task.head) + offset));
      _mm512_storeu_ps(scales + kKeys, load_bf16(kv.value_scales(block, task.head) + offset));
    }
    opened_keys_ = key + kKeys;
    return opened;
  }

  // b: 16 keys.
  void score(bool amx, const bf16* b, int half, int rows, int dim) {
    if (!amx) {
      tile_product(false, scores_[half], q_, dim, b, 64, 1024, rows, dim / 32);
      return;
    }
    settle_stores();
    _tile_zero(5);
    for (int step = 0; step < dim / 32; ++step) {
      _tile_loadd(4, q_ + step * 32, dim * 2);
      _tile_loadd(6, b + step * 512, 64);
      _tile_dpbf16ps(5, 4, 6);
    }
    _tile_stored(5, scores_[half], 64);
  }

  static uint32_t first_keys(int count) { return count >= kKeys ? 0xffffffffu : count <= 0 ? 0u : (1u << count) - 1; }

  // Scores to weights. `ahead`: how many keys of this round the first token of the run sees, less one, without a window. Returns
  // whether some row's sums must be multiplied by scale_ first. scales: of narrow keys, then of narrow values.
  template <bool kNarrow>
  bool weigh(const AttentionTask& task, int ahead, int fold, int window, const float* scales) {
    bool grew = false;
    const __m512 gone = _mm512_set1_ps(-INFINITY);
    for (int r = 0; r < task.rows; ++r) {
      const int visible = ahead + (task.first + r) / fold + 1;
      const uint32_t mask = first_keys(visible) & ~(window ? first_keys(visible - window) : 0u);
      scale_[r] = 1.0f;
      if (window && !mask) {  // behind this row's window, or ahead of it
        _mm512_store_si512(weights_ + r * kKeys, _mm512_setzero_si512());
        continue;
      }
      const __mmask16 low = static_cast<__mmask16>(mask), high = static_cast<__mmask16>(mask >> 16);
      __m512 a = _mm512_load_ps(scores_[0] + r * 16), b = _mm512_load_ps(scores_[1] + r * 16);
      if (kNarrow) {
        a = _mm512_mul_ps(a, _mm512_loadu_ps(scales));
        b = _mm512_mul_ps(b, _mm512_loadu_ps(scales + 16));
      }
      a = _mm512_mask_mov_ps(gone, low, a);
      b = _mm512_mask_mov_ps(gone, high, b);
      __m512 total = _mm512_load_ps(total_ + r * 16);
      if (largest_[r] == -INFINITY) {
        largest_[r] = _mm512_reduce_max_ps(_mm512_max_ps(a, b));
      } else {
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
      // What no row sees yet may have a scale that is no number.
      const __m512 wa = kNarrow ? _mm512_maskz_mul_ps(low, pa, _mm512_loadu_ps(scales + 32)) : pa;
      const __m512 wb = kNarrow ? _mm512_maskz_mul_ps(high, pb, _mm512_loadu_ps(scales + 48)) : pb;
      _mm256_store_si256(reinterpret_cast<__m256i*>(weights_ + r * kKeys), to_bf16(wa));
      _mm256_store_si256(reinterpret_cast<__m256i*>(weights_ + r * kKeys + 16), to_bf16(wb));
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
    const size_t half = 16 * kv.row_bytes();
    for (int at = key; at < std::min(keys, key + kKeys); at += 16) {
      const int block = run.table[at / kv.block_size], offset = at % kv.block_size;
      const uint8_t* k = kv.key_rows(block, task.head) + offset * kv.row_bytes();
      const uint8_t* v = kv.value_rows(block, task.head) + offset * kv.row_bytes();
      for (size_t line = 0; line < half; line += 64) _mm_prefetch(k + line, _MM_HINT_T0), _mm_prefetch(v + line, _MM_HINT_T0);
      if (!kv.narrow) continue;
      _mm_prefetch(kv.key_scales(block, task.head) + offset, _MM_HINT_T0);
      _mm_prefetch(kv.value_scales(block, task.head) + offset, _MM_HINT_T0);
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
    const size_t stride = static_cast<size_t>(dim) * 4;
    if (!amx) {
      const char* b = reinterpret_cast<const char*>(v);
      int d = 0;
      for (; d + 64 <= dim; d += 64) add_block<false, 4>(weights_, kKeys, {b + d * 4, stride, 64, 0}, rows, 1, true, {out + d, static_cast<size_t>(dim), 16});
      for (; d < dim; d += 16) add_block<false, 1>(weights_, kKeys, {b + d * 4, stride, 0, 0}, rows, 1, true, {out + d, static_cast<size_t>(dim), 0});
      return;
    }
    for (int d = 0; d < dim; d += 16) {
      tile_product(amx, part_, weights_, kKeys, v + d * 2, stride, 0, rows, 1);
      for (int r = 0; r < rows; ++r) {
        float* to = out + r * dim + d;
        _mm512_store_ps(to, _mm512_add_ps(_mm512_load_ps(to), _mm512_load_ps(part_ + r * 16)));
      }
    }
  }

  Buffer q_buffer_, out_buffer_, v_buffer_, opened_buffer_, scales_buffer_;
  bf16 *q_ = nullptr, *v_ = nullptr, *opened_ = nullptr;
  float* opened_scales_ = nullptr;
  // Whose keys are open, and how many of them. The pages are one layer's.
  const uint8_t* opened_pages_ = nullptr;
  int opened_run_ = 0, opened_head_ = 0, opened_from_ = 0, opened_keys_ = 0;
  float largest_[kTileRows], scale_[kTileRows];
  alignas(64) float scores_[2][kTileRows * 16] = {};
  alignas(64) float part_[kTileRows * 16];
  alignas(64) float total_[kTileRows * 16];
  alignas(64) bf16 weights_[kTileRows * kKeys] = {};
};

}  // namespace trimtab
