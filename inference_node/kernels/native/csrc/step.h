// One forward pass: all of it between one call and its return, on the threads of a team.
#pragma once
#include <algorithm>
#include <memory>

#include "attention.h"
#include "model.h"
#include "team.h"

namespace trimtab {

// Rows on their way into a product; into a quantized one, on a grid, few as whole numbers, more as bf16.
class Rows {
 public:
  enum Form { kExact, kGridded, kWhole };

  void resize(int rows, int inputs, Form form) {
    form_ = form;
    whole.width = width = round_up(inputs, kChannels);
    const size_t size = static_cast<size_t>(padded_rows(rows)) * width;
    if (form == kWhole) {
      whole.first = first_buffer_.get<int8_t>(size);
      whole.second = second_buffer_.get<int8_t>(size);
      whole.grids = grids_buffer_.get<float>(size / kGridGroup);
      whole.sums = sums_buffer_.get<float>(size / kGridGroup);
    } else {
      data = buffer_.get<bf16>(size);
    }
  }

  // 16 * kParts activations of a row, at inputs `at` and on.
  template <int kParts>
  void put(int row, int at, __m512 (&x)[kParts]) {
    for (int i = 0; form_ != kExact && i + 1 < kParts; i += 2) {
      const Whole32 numbers = to_grid(x[i], x[i + 1]);
      if (form_ == kWhole) {
        whole.put(row, at + i * 16, numbers);
      } else {
        x[i] = _mm512_mul_ps(numbers.low, _mm512_set1_ps(numbers.grid));
        x[i + 1] = _mm512_mul_ps(numbers.high, _mm512_set1_ps(numbers.grid));
      }
    }
    if (form_ == kWhole) return;
    bf16* to = data + static_cast<size_t>(row) * width + at;
    for (int i = 0; i < kParts; ++i) _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i * 16), to_bf16(x[i]));
  }

  bool is_whole() const { return form_ == kWhole; }

  bf16* data = nullptr;
  GridRows whole;
  int width = 0;

 private:
  Form form_ = kExact;
  Buffer buffer_, first_buffer_, second_buffer_, grids_buffer_, sums_buffer_;
};

class Forward {
 public:
  // walk_above: see ActiveList.
  Forward(int threads, bool amx, float walk_above) : team_(threads), amx_(amx), walk_above_(walk_above), local_(threads) {
    for (auto& local : local_) local = std::make_unique<Local>();
  }

  int threads() const { return team_.size(); }
  int pin(const int* cpus, int count) { return team_.pin(cpus, count); }

  void run(const Model& model, const Step& step) {
    model_ = &model;
    step_ = &step;
    rows_ = static_cast<int>(step.rows);
    reserve();
    plan();
    team_.run([this](int id) { work(id); });
    gather_best();
    if (step.kept) gather_kept();
  }

 private:
  static constexpr size_t kAskedFor = 8192;  // bytes of each plane

  enum Adder { kOutput, kDown };  // matrices whose products go onto the rows

  // What a part of a layer left for the rows that nobody has added yet: the second halves of sums, or, where a norm comes before
  // they are added, all of them. None but `rest` where there is no norm.
  struct Left {
    const float *sums = nullptr, *rest = nullptr, *norm = nullptr;
    explicit operator bool() const { return rest || norm; }
  };

  struct Local {
    ScratchQ scratch;
    AttentionScratch attention;
    Buffer row, sum;
    Rows into;  // of a step of one row, which every thread prepares for itself
    std::vector<float> best_logit;
    std::vector<int32_t> best;
    std::vector<int64_t> kept;
  };

  void reserve() {
    const Model& m = *model_;
    hidden_ = round_up(m.hidden, kChannels);
    attention_ = m.heads * m.dim;
    qkv_width_ = m.layers[0].qkv.panels() * m.layers[0].qkv.panel();
    x_ = x_buffer_.get<float>(static_cast<size_t>(rows_) * hidden_);
    for (int i = 0; i < 2; ++i) {
      rest_[i] = rest_buffer_[i].get<float>(static_cast<size_t>(rows_) * hidden_);
      sums_[i] = m.layers[0].attention_out_norm ? sums_buffer_[i].get<float>(static_cast<size_t>(rows_) * hidden_) : nullptr;
    }
    qkv_ = qkv_buffer_.get<float>(static_cast<size_t>(rows_) * qkv_width_);
    q_ = q_buffer_.get<bf16>(static_cast<size_t>(rows_) * attention_);
    const auto form = [&](const Linear& w, int rows) {
      return !w.quantized ? Rows::kExact : rows <= most_whole_rows(amx_, w.packed) ? Rows::kWhole : Rows::kGridded;
    };
    const Layer& layer = m.layers[0];
    into_.resize(rows_, hidden_, form(layer.qkv, rows_));
    mixed_.resize(rows_, attention_, form(layer.output, rows_));
    middle_.resize(rows_, layer.gate_up.panels() * layer.gate_up.panel() / 2, form(layer.down, rows_));
    head_.resize(static_cast<int>(step_->sampled_rows), hidden_, form(m.head, static_cast<int>(step_->sampled_rows)));
    for (auto& local : local_) {
      local->into.resize(1, hidden_, form(layer.qkv, 1));
      local->attention.forget();
      local->best_logit.assign(step_->sampled_rows, -INFINITY);
      local->best.assign(step_->sampled_rows, 0);
      local->kept.assign(m.layers.size() * kSites, 0);
    }
  }

  void plan() {
    attention_plan_.runs.clear();
    for (int64_t i = 0; i < step_->num_runs; ++i) {
      const int32_t* run = step_->runs + i * 4;
      attention_plan_.runs.push_back({run[0], run[1], run[2], step_->tables + run[3]});
    }
    const int fold = model_->heads / model_->key_heads;
    attention_plan_.plan(model_->key_heads, fold);
    // Where each run is one token, one task needs what one task turned: nobody has to wait.
    turned_in_attention_ = attention_plan_.many.empty() && fold <= kTileRows;
  }

  void work(int id) {
    const Model& m = *model_;
    Local& local = *local_[id];
    embed(id, local);
    team_.barrier();
    for (int layer = 0; layer < static_cast<int>(m.layers.size()); ++layer) {
      const Layer& w = m.layers[layer];
      Left left = layer ? left_by_mlp(m.layers[layer - 1]) : Left{};
      const Rows& attending = enter(id, local, layer, w.attention_norm, kAttentionIn, left);
      multiply(id, local, w.qkv, w.output, attending, rows_, [&](int panel, int, int row, int rows, const float* tiles) {
        keep(w.qkv, panel, row, rows, tiles, qkv_, qkv_width_);
      });
      team_.barrier();
      if (!turned_in_attention_) {
        turn(id, layer);
        team_.barrier();
      }
      attend(id, local, layer);
      team_.barrier();
      multiply(id, local, w.output, w.gate_up, mixed_, rows_, [&](int panel, int split, int row, int rows, const float* tiles) {
        add(w.output, kOutput, left, panel, split, row, rows, tiles);
      });
      team_.barrier();
      left = left_by_attention(w);
      const Rows& thinking = enter(id, local, layer, w.mlp_norm, kMlpIn, left);
      multiply(id, local, w.gate_up, w.down, thinking, rows_, [&](int panel, int, int row, int rows, const float* tiles) {
        gate(local, layer, panel, row, rows, tiles);
      });
      team_.barrier();
      multiply(id, local, w.down, layer + 1 < static_cast<int>(m.layers.size()) ? m.layers[layer + 1].qkv : m.head, middle_, rows_, [&](int panel, int split, int row, int rows, const float* tiles) {
        add(w.down, kDown, left, panel, split, row, rows, tiles);
      });
      team_.barrier();
    }
    const int sampled = static_cast<int>(step_->sampled_rows);
    if (sampled == 0) return leave();
    each_row(id, sampled, [&](int row) {
      float* x = rows_ == 1 && has_out_norms() ? local.row.get<float>(hidden_) : x_ + step_->sampled[row] * hidden_;
      complete(local, x, step_->sampled[row], left_by_mlp(m.layers.back()));
      normalize(x, m.norm, [&](int at, __m512 (&y)[4]) { head_.put(row, at, y); });
    });
    team_.barrier();
    multiply(id, local, m.head, m.layers[0].qkv, head_, sampled, [&](int panel, int, int row, int rows, const float* tiles) {
      score(local, panel, row, rows, tiles);
    });
    leave();
  }

  // Tiles in use make every switch between threads dearer.
  void leave() const {
    if (amx_) _tile_release();
  }

  void embed(int id, Local&) {
    const Model& m = *model_;
    each_row(id, rows_, [&](int row) {
      float* to = x_ + static_cast<size_t>(row) * hidden_;
      std::memset(to, 0, sizeof(float) * hidden_);
      const int token = static_cast<int>(step_->tokens[row]);
      if (m.embedding) {
        const bf16* from = m.embedding + static_cast<size_t>(token) * m.hidden;
        for (int c = 0; c < m.hidden; ++c) to[c] = from_bf16(from[c]);
      } else if (m.head.quantized) {
        unpack_row(m.head.packed, token, to);
      } else {
        unpack_row(m.head.exact, token, to);
      }
      for (int c = 0; m.embedding_scale != 1 && c < m.hidden; ++c) to[c] *= m.embedding_scale;
    });
  }

  // RMSNorm (Zhang & Sennrich, 2019, eq. 4) of one row; put(at, x) takes 64 at a time.
  template <typename Put>
  void normalize(const float* x, const float* weight, Put&& put) const {
    __m512 squares[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int c = 0; c < hidden_; c += 64) {
      for (int i = 0; i < 4; ++i) {
        const __m512 a = _mm512_loadu_ps(x + c + i * 16);
        squares[i] = _mm512_fmadd_ps(a, a, squares[i]);
      }
    }
    const __m512 sum = _mm512_add_ps(_mm512_add_ps(squares[0], squares[1]), _mm512_add_ps(squares[2], squares[3]));
    const float mean = _mm512_reduce_add_ps(sum) / static_cast<float>(model_->hidden);
    const __m512 scale = _mm512_set1_ps(1.0f / std::sqrt(mean + model_->eps));
    for (int c = 0; c < hidden_; c += 64) {
      __m512 y[4];
      for (int i = 0; i < 4; ++i) {
        y[i] = _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + c + i * 16), scale), _mm512_loadu_ps(weight + c + i * 16));
      }
      put(c, y);
    }
  }

  // Drops what is small, copies and counts what is asked for if it is this thread that tells, and hands activations on.
  template <int kParts>
  void put(Local& local, Rows& rows, int layer, Site site, int row, int at, int inputs, __m512 (&x)[kParts], bool tells = true) {
    const int place = layer * kSites + site;
    for (int i = 0; i < kParts && (step_->capture || step_->cutoffs); ++i) {
      const int left = inputs - at - i * 16;
      const __mmask16 real = left >= 16 ? 0xffff : left <= 0 ? 0 : static_cast<__mmask16>((1u << left) - 1);
      if (step_->capture && tells) {
        _mm512_mask_storeu_ps(step_->capture[place] + static_cast<size_t>(row) * inputs + at + i * 16, real, x[i]);
      }
      if (step_->cutoffs) {
        const float* norms = model_->layers[layer].norms[site];
        const __m512 size = _mm512_abs_ps(x[i]);
        const __m512 score = norms ? _mm512_mul_ps(size, _mm512_loadu_ps(norms + at + i * 16)) : size;
        const __mmask16 kept = _mm512_mask_cmp_ps_mask(real, score, _mm512_set1_ps(step_->cutoffs[place]), _CMP_GT_OQ);
        x[i] = _mm512_maskz_mov_ps(kept, x[i]);
        if (tells) local.kept[place] += __builtin_popcount(kept);
      }
    }
    rows.put(row, at, x);
  }

  // Rows come several at a time, so that what threads share does not go back and forth between them for each.
  template <typename Each>
  void each_row(int id, int rows, Each&& each) {
    const int batch = std::max(1, std::min(8, rows / (4 * team_.size())));
    for (int piece; (piece = team_.take(id, ceil_div(rows, batch))) >= 0;) {
      for (int row = piece * batch; row < std::min(rows, (piece + 1) * batch); ++row) each(row);
    }
  }

  bool has_out_norms() const { return model_->layers[0].attention_out_norm != nullptr; }

  // What `add` left of each part.
  Left left_by(const Linear& w, Adder adder, const float* norm) const {
    return {norm ? sums_[adder] : nullptr, w.splits() > 1 ? rest_[adder] : nullptr, norm};
  }
  Left left_by_attention(const Layer& w) const { return left_by(w.output, kOutput, w.attention_out_norm); }
  Left left_by_mlp(const Layer& w) const { return left_by(w.down, kDown, w.mlp_out_norm); }

  // Adds to a row x what was left for it.
  void complete(Local& local, float* x, int64_t row, const Left& left) {
    const float* rest = left.rest ? left.rest + row * hidden_ : nullptr;
    if (!left.norm) {
      for (int c = 0; rest && c < hidden_; c += 16) {
        _mm512_storeu_ps(x + c, _mm512_add_ps(_mm512_loadu_ps(x + c), _mm512_loadu_ps(rest + c)));
      }
      return;
    }
    const float* sums = left.sums + row * hidden_;
    if (rest) {
      float* sum = local.sum.get<float>(hidden_);
      for (int c = 0; c < hidden_; c += 16) _mm512_storeu_ps(sum + c, _mm512_add_ps(_mm512_loadu_ps(sums + c), _mm512_loadu_ps(rest + c)));
      sums = sum;
    }
    normalize(sums, left.norm, [&](int at, __m512 (&y)[4]) {
      for (int i = 0; i < 4; ++i) _mm512_storeu_ps(x + at + i * 16, _mm512_add_ps(_mm512_loadu_ps(x + at + i * 16), y[i]));
    });
  }

  // What goes into the products of a part of a layer; left: by the part before.
  const Rows& enter(int id, Local& local, int layer, const float* weight, Site site, const Left& left) {
    if (rows_ == 1) {
      // A norm takes less time than waiting for another thread that takes it. Others may still read the row: it stays as it is, and
      // where norms come before sums, which then are added nowhere else, every thread keeps a row of its own.
      float* whole = local.row.get<float>(hidden_);
      if (!has_out_norms() || (layer == 0 && site == kAttentionIn)) std::memcpy(whole, x_, sizeof(float) * hidden_);
      complete(local, whole, 0, left);
      normalize(whole, weight, [&](int at, __m512 (&x)[4]) {
        put(local, local.into, layer, site, 0, at, model_->hidden, x, id == 0);
      });
      return local.into;
    }
    each_row(id, rows_, [&](int row) {
      if (left) complete(local, x_ + static_cast<size_t>(row) * hidden_, row, left);
      normalize(x_ + static_cast<size_t>(row) * hidden_, weight, [&](int at, __m512 (&x)[4]) {
        put(local, into_, layer, site, row, at, model_->hidden, x);
      });
    });
    team_.barrier();
    return into_;
  }

  // next: the matrix that this thread multiplies by after w.
  template <typename Emit>
  void multiply(int id, Local& local, const Linear& w, const Linear& next, const Rows& in, int rows, Emit&& emit) {
    if (amx_) configure_tiles(std::min(rows, kTileRows), 64);
    if (in.is_whole()) prepare_q(w.packed, in.whole, rows, walk_above_, local.scratch);
    for (int piece; (piece = team_.take(id, w.panels() * w.splits())) >= 0;) {
      const int panel = piece / w.splits(), split = piece % w.splits();
      const auto here = [&](int row, int count, const float* tiles) { emit(panel, split, row, count, tiles); };
      if (in.is_whole()) {
        product(w.packed, in.whole, rows, panel, split, local.scratch, here);
      } else if (w.quantized) {
        product(amx_, w.packed, in.data, in.width, rows, panel, split, local.scratch, here);
      } else {
        product(amx_, w.exact, in.data, in.width, rows, panel, here);
      }
    }
    ask_for(id, next);
  }

  // Memory is slow to start. What a thread reads first of its next matrix is asked for while it waits for the others.
  void ask_for(int id, const Linear& w) const {
    const int piece = w.panels() * w.splits() * id / team_.size(), panel = piece / w.splits();
    if (w.quantized) {
      const size_t at = w.packed.line_at(panel, w.packed.split_at(piece % w.splits()) * kWeightGroup);
      ask_for(w.packed.high + at);
      if (w.packed.low) ask_for(w.packed.low + at);
    } else {
      ask_for(reinterpret_cast<const uint8_t*>(w.exact.weights + panel * w.exact.panel_size()));
    }
  }

  static void ask_for(const uint8_t* bytes) {
    for (size_t line = 0; line < kAskedFor; line += 64) _mm_prefetch(bytes + line, _MM_HINT_T1);
  }

  static __m512 result(const Linear& w, int column, const float* tile, int row) {
    const __m512 value = part_of_result(w, column, tile, row);
    return w.bias ? _mm512_add_ps(value, _mm512_loadu_ps(w.bias + column)) : value;
  }

  static __m512 part_of_result(const Linear& w, int column, const float* tile, int row) {
    const __m512 value = _mm512_loadu_ps(tile + row * 16);
    return w.quantized ? _mm512_mul_ps(value, _mm512_loadu_ps(w.packed.column + column)) : value;
  }

  void keep(const Linear& w, int panel, int row, int rows, const float* tiles, float* out, int width) {
    for (int tile = 0; tile < w.panel() / 16; ++tile) {
      const int column = panel * w.panel() + tile * 16;
      for (int r = 0; r < rows; ++r) {
        _mm512_storeu_ps(out + static_cast<size_t>(row + r) * width + column, result(w, column, tiles + tile * 256, r));
      }
    }
  }

  // Onto the rows, or, as the second half of a sum that was cut or as what is normed first, beside them until `complete`. With one
  // row, which nobody completed, that is done here; left: by the part before.
  void add(const Linear& w, Adder adder, const Left& left, int panel, int split, int row, int rows, const float* tiles) {
    for (int tile = 0; tile < w.panel() / 16; ++tile) {
      const int column = panel * w.panel() + tile * 16;
      if (column >= hidden_) return;
      for (int r = 0; r < rows; ++r) {
        const size_t at = static_cast<size_t>(row + r) * hidden_ + column;
        if (split) {
          _mm512_storeu_ps(rest_[adder] + at, part_of_result(w, column, tiles + tile * 256, r));
        } else if (has_out_norms()) {
          _mm512_storeu_ps(sums_[adder] + at, result(w, column, tiles + tile * 256, r));
        } else {
          __m512 before = _mm512_loadu_ps(x_ + at);
          if (rows_ == 1 && left.rest) before = _mm512_add_ps(before, _mm512_loadu_ps(left.rest + at));
          _mm512_storeu_ps(x_ + at, _mm512_add_ps(before, result(w, column, tiles + tile * 256, r)));
        }
      }
    }
  }

  // SiLU or GELU of the gates times the others. A panel holds gates in its first half and what they open in its second.
  void gate(Local& local, int layer, int panel, int row, int rows, const float* tiles) {
    const Linear& w = model_->layers[layer].gate_up;
    const int half = w.panel() / 2, pairs = half / 16;
    for (int r = 0; r < rows; ++r) {
      __m512 opened[4];
      for (int tile = 0; tile < pairs; ++tile) {
        const int column = panel * w.panel() + tile * 16;
        const __m512 g = result(w, column, tiles + tile * 256, r);
        const __m512 opening = model_->gelu ? gelu_ps(g) : silu_ps(g);
        opened[tile] = _mm512_mul_ps(opening, result(w, column + half, tiles + (pairs + tile) * 256, r));
      }
      if (pairs == 1) {
        __m512 one[1] = {opened[0]};
        put(local, middle_, layer, kMlpMiddle, row + r, panel * half, model_->middle, one);
      } else {
        put(local, middle_, layer, kMlpMiddle, row + r, panel * half, model_->middle, opened);
      }
    }
  }

  void turn(int id, int layer) {
    each_row(id, rows_, [&](int row) { turn_heads(layer, row, 0, model_->key_heads); });
  }

  // Norms of heads and rotary position embedding of neighbours (2i, 2i + 1), for key heads `first` to `end` of a row and the heads
  // that ask them, and the row's keys and values into the cache.
  void turn_heads(int layer, int row, int first, int end) {
    const Model& m = *model_;
    const Layer& w = m.layers[layer];
    const KvLayout kv = cache(layer);
    const float scale = 1.4426950408889634f * m.attention_scale;
    const int fold = m.heads / m.key_heads;
    float* heads = qkv_ + static_cast<size_t>(row) * qkv_width_;
    const int64_t position = step_->positions[row];
    const float* turns = w.turns + position * 2 * m.dim;
    for (int head = first * fold; head < end * fold; ++head) turn_head(heads + head * m.dim, turns, w.q_norm, scale);
    bf16* q = q_ + static_cast<size_t>(row) * attention_;
    for (int d = first * fold * m.dim; d < end * fold * m.dim; d += 16) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + d), to_bf16(_mm512_loadu_ps(heads + d)));
    }
    const int block = block_of(row, position), offset = static_cast<int>(position % step_->block_size);
    for (int head = first; head < end; ++head) {
      float* key = heads + attention_ + head * m.dim;
      turn_head(key, turns, w.k_norm, 1.0f);
      kv.write_key(block, offset, head, key);
      kv.write_value(block, offset, head, key + m.key_heads * m.dim);
    }
  }

  int block_of(int row, int64_t position) const {
    // Runs are in order of their rows.
    size_t low = 0, high = attention_plan_.runs.size();
    while (high - low > 1) {
      const size_t middle = (low + high) / 2;
      (attention_plan_.runs[middle].row <= row ? low : high) = middle;
    }
    return attention_plan_.runs[low].table[position / step_->block_size];
  }

  void turn_head(float* head, const float* turns, const float* norm, float scale) const {
    const int dim = model_->dim;
    if (norm) {
      __m512 squares = _mm512_setzero_ps();
      for (int d = 0; d < dim; d += 16) squares = _mm512_fmadd_ps(_mm512_loadu_ps(head + d), _mm512_loadu_ps(head + d), squares);
      const __m512 s = _mm512_set1_ps(1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / static_cast<float>(dim) + model_->eps));
      for (int d = 0; d < dim; d += 16) {
        _mm512_storeu_ps(head + d, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(head + d), s), _mm512_loadu_ps(norm + d)));
      }
    }
    const __m512 factor = _mm512_set1_ps(scale);
    for (int d = 0; d < dim; d += 16) {
      const __m512 x = _mm512_loadu_ps(head + d), crossed = _mm512_permute_ps(x, 0xb1);
      const __m512 turned = _mm512_fmaddsub_ps(x, _mm512_loadu_ps(turns + d), _mm512_mul_ps(crossed, _mm512_loadu_ps(turns + dim + d)));
      _mm512_storeu_ps(head + d, _mm512_mul_ps(turned, factor));
    }
  }

  KvLayout cache(int layer) const {
    uint8_t* pages = step_->pages + layer * step_->layer_stride;
    return {pages, static_cast<int>(step_->block_size), model_->key_heads, model_->dim, step_->narrow != 0};
  }

  void attend(int id, Local& local, int layer) {
    const KvLayout kv = cache(layer);
    const int fold = model_->heads / model_->key_heads, dim = model_->dim;
    const int singles = static_cast<int>(attention_plan_.single.size()), all = singles + static_cast<int>(attention_plan_.many.size());
    int configured = 0;
    for (int piece; (piece = team_.take(id, all)) >= 0;) {
      const AttentionTask& task = piece < singles ? attention_plan_.single[piece] : attention_plan_.many[piece - singles];
      const Run& run = attention_plan_.runs[task.run];
      const int tile_rows = piece < singles ? std::min(fold, kTileRows) : kTileRows;
      if (amx_ && tile_rows != configured) configure_tiles(configured = tile_rows, 64);
      if (turned_in_attention_) turn_heads(layer, run.row, task.head, task.head + 1);
      local.attention.run(amx_, task, run, kv, q_, attention_, fold, model_->layers[layer].window);
      for (int r = 0; r < task.rows; ++r) {
        const int query = task.first + r, row = run.row + query / fold, head = task.head * fold + query % fold;
        const float* from = local.attention.out + r * dim;
        for (int d = 0; d < dim; d += dim % 64 ? 32 : 64) {
          if (dim % 64) {
            __m512 x[2] = {_mm512_load_ps(from + d), _mm512_load_ps(from + d + 16)};
            put(local, mixed_, layer, kAttentionOut, row, head * dim + d, attention_, x);
          } else {
            __m512 x[4] = {_mm512_load_ps(from + d), _mm512_load_ps(from + d + 16), _mm512_load_ps(from + d + 32), _mm512_load_ps(from + d + 48)};
            put(local, mixed_, layer, kAttentionOut, row, head * dim + d, attention_, x);
          }
        }
      }
    }
  }

  void score(Local& local, int panel, int row, int rows, const float* tiles) {
    const Linear& w = model_->head;
    const int vocabulary = model_->vocabulary;
    for (int tile = 0; tile < w.panel() / 16; ++tile) {
      const int column = panel * w.panel() + tile * 16, left = vocabulary - column;
      if (left <= 0) return;
      const __mmask16 real = left >= 16 ? 0xffff : static_cast<__mmask16>((1u << left) - 1);
      for (int r = 0; r < rows; ++r) {
        const __m512 value = result(w, column, tiles + tile * 256, r);
        if (step_->logits) _mm512_mask_storeu_ps(step_->logits + static_cast<size_t>(row + r) * vocabulary + column, real, value);
        const __mmask16 nan = _mm512_mask_cmp_ps_mask(real, value, value, _CMP_UNORD_Q);
        const float top = nan ? NAN : _mm512_mask_reduce_max_ps(real, value);
        float& best = local.best_logit[row + r];
        int32_t& token = local.best[row + r];
        if (std::isnan(best)) continue;
        const __mmask16 at = nan ? nan : _mm512_mask_cmp_ps_mask(real, value, _mm512_set1_ps(top), _CMP_EQ_OQ);
        const int32_t found = column + __builtin_ctz(at ? at : 1);
        if (nan || top > best || (top == best && found < token)) best = top, token = found;
      }
    }
  }

  // The likeliest token of all threads' panels; of equals the first, and a NaN before any number.
  void gather_best() {
    for (int64_t row = 0; row < step_->sampled_rows; ++row) {
      float best = -INFINITY;
      int32_t token = 0;
      for (const auto& local : local_) {
        const float here = local->best_logit[row];
        if (std::isnan(best)) break;
        if (std::isnan(here) || here > best || (here == best && local->best[row] < token)) best = here, token = local->best[row];
      }
      step_->best[row] = token;
      step_->best_logit[row] = best;
    }
  }

  void gather_kept() {
    for (size_t i = 0; i < model_->layers.size() * kSites; ++i) {
      step_->kept[i] = 0;
      for (const auto& local : local_) step_->kept[i] += local->kept[i];
    }
  }

  Team team_;
  const bool amx_;
  const float walk_above_;
  std::vector<std::unique_ptr<Local>> local_;
  const Model* model_ = nullptr;
  const Step* step_ = nullptr;
  AttentionPlan attention_plan_;
  bool turned_in_attention_ = false;
  int rows_ = 0, hidden_ = 0, attention_ = 0, qkv_width_ = 0;
  Buffer x_buffer_, rest_buffer_[2], sums_buffer_[2], qkv_buffer_, q_buffer_;
  float *x_ = nullptr, *rest_[2] = {}, *sums_[2] = {}, *qkv_ = nullptr;
  bf16* q_ = nullptr;
  Rows into_, mixed_, middle_, head_;
};

}  // namespace trimtab
