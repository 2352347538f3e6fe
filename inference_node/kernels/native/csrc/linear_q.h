// Products with weights of 8 or 4 bits and activations in bf16.
//
// One store serves both precisions. A weight is a byte q with a zero and a factor for each 32 inputs, and its two halves lie in two
// planes: int8 reads both, int4 the upper one alone (16 * (q / 16)) with zeros and factors fitted to what is left. So that few bytes
// come from memory and tiles do the sums, weights are opened to bf16 on their way: w = column * factor / 256 * (q - zero).
//
// A plane is cut in panels of 128 outputs: [K][64 bytes]; a byte holds output p in its lower half and 64 + p in its upper. So one
// input is one cache line of a plane, and an input whose activation is zero need not be read.
// Each output is summed over its inputs in one order, 32 at a time, whatever the number of rows: docs/adr/0002.
#pragma once
#include <algorithm>

#include "linear_bf16.h"

namespace trimtab {

constexpr int kWeightGroup = 32;  // inputs that share a zero and a factor: the depth of one bf16 tile
constexpr int kTilesQ = kPanelQ / 16;

struct LinearQ {
  int inputs = 0, outputs = 0;
  int groups() const { return ceil_div(inputs, kWeightGroup); }
  int panels() const { return ceil_div(outputs, kPanelQ); }
  // Sums over the inputs may be cut in two, so that a matrix of few panels has work for every thread.
  int splits = 1;
  int split_at(int split) const { return groups() * split / splits; }
  size_t plane_size() const { return static_cast<size_t>(groups()) * kWeightGroup * 64; }  // bytes of one panel of a plane
  size_t factors_size() const { return static_cast<size_t>(groups()) * kPanelQ; }
  const uint8_t* high = nullptr;
  const uint8_t* low = nullptr;     // null: four bits
  const uint8_t* factor = nullptr;  // [panels][groups][128]
  const uint8_t* zero = nullptr;    // the same
  const float* column = nullptr;    // [panels * 128]
};

// The inputs of one row that are not zero. Pairs stay pairs and groups stay groups, since a tile adds up in them: what is left out
// would have added zero.
struct ActiveList {
  struct Pair {
    uint16_t input[2];  // where one of a pair is zero, the other's line stands for both
  };
  Buffer pairs_buffer, ends_buffer, values_buffer;
  Pair* pairs = nullptr;
  int* ends = nullptr;     // where the pairs of each group end
  bf16* values = nullptr;  // [groups][32]: activations of a group's pairs, then zeros
  int active = 0;          // inputs that are not zero

  void build(const bf16* a, int groups) {
    pairs = pairs_buffer.get<Pair>(static_cast<size_t>(groups) * 16 + 32);
    ends = ends_buffer.get<int>(groups);
    values = values_buffer.get<bf16>(static_cast<size_t>(groups) * kWeightGroup);
    int at = 0;
    active = 0;
    for (int group = 0; group < groups; ++group) {
      const __m512i x = _mm512_loadu_si512(a + group * kWeightGroup);
      const __mmask32 lanes = _mm512_test_epi16_mask(x, _mm512_set1_epi16(0x7fff));  // a negative zero is none either
      const __mmask16 kept = _mm512_test_epi32_mask(x, _mm512_set1_epi32(0x7fff7fff));
      _mm512_storeu_si512(values + group * kWeightGroup, _mm512_maskz_compress_epi32(kept, x));
      for (uint32_t left = kept; left; left &= left - 1, ++at) {
        const int pair = __builtin_ctz(left), first = group * kWeightGroup + pair * 2;
        const int both = lanes >> (pair * 2) & 3;
        pairs[at] = {{static_cast<uint16_t>(both & 1 ? first : first + 1), static_cast<uint16_t>(both & 2 ? first + 1 : first)}};
      }
      ends[group] = at;
      active += __builtin_popcount(lanes);
    }
  }
};

// What one thread needs to compute products.
struct ScratchQ {
  Buffer opened, sums, column;
  ActiveList list;
  bool sparse = false;
};

namespace detail {

constexpr size_t kAheadQ = 2048;
constexpr int kChunk = 4;  // groups that are opened before they are multiplied: 32 KiB, which stay in the nearest cache
// Between the tiles of a chunk. One line more than they take: stores a multiple of 4 KiB apart are in one another's way.
constexpr size_t kChunkStride = kChunk * 1024 + 64;

// Bytes 16 * lane and on of a vector, each as the float 2^15 + byte: a byte in the second place of a float of this size counts ones.
constexpr float kLift = 32768.0f;

inline __m512 lift(__m512i bytes, int lane) {
  const __m512i steps = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i places = _mm512_slli_epi32(_mm512_add_epi32(steps, _mm512_set1_epi32(16 * lane)), 8);
  const __m512i base = _mm512_castps_si512(_mm512_set1_ps(kLift));
  return _mm512_castsi512_ps(_mm512_mask_permutexvar_epi8(base, 0x2222222222222222ull, places, bytes));
}

// Bytes 8 * part and on, each to two times 32 bits.
inline __m512i widen_twice(__m512i bytes, int part) {
  const __m512i steps = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
  const __m512i places = _mm512_add_epi32(steps, _mm512_set1_epi32(8 * part));
  return _mm512_maskz_permutexvar_epi8(0x1111111111111111ull, places, bytes);
}

inline __m512i to_bf16_pair(__m512 upper, __m512 lower) {
#ifdef __AVX512BF16__
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(upper, lower));
#else
  return _mm512_inserti64x4(_mm512_castsi256_si512(to_bf16(lower)), to_bf16(upper), 1);
#endif
}

// One group's zeros and factors, each value twice as a pair of inputs needs it: [16 parts of 8 outputs][16].
// shift: what scale * (2^15 + byte) is above the weight. It is rounded to a 500th of a step.
struct Scales {
  alignas(64) float scale[16 * 16], shift[16 * 16];

  void load(const uint8_t* zero, const uint8_t* factor, const float* column) {
    for (int half = 0; half < 2; ++half) {
      const __m512i zeros = _mm512_loadu_si512(zero + half * 64), factors = _mm512_loadu_si512(factor + half * 64);
      for (int part = 0; part < 8; ++part) {
        const int at = (half * 8 + part) * 16;
        const __m512 s = _mm512_mul_ps(_mm512_cvtepi32_ps(widen_twice(factors, part)), _mm512_load_ps(column + at));
        _mm512_store_ps(scale + at, s);
        const __m512 z = _mm512_add_ps(_mm512_cvtepi32_ps(widen_twice(zeros, part)), _mm512_set1_ps(kLift));
        _mm512_store_ps(shift + at, _mm512_mul_ps(z, s));
      }
    }
  }
};

// Two inputs x 128 outputs to one row of each of the 8 tiles, which lie tile_stride bytes apart.
template <bool kLow>
inline void open_pair(const uint8_t* const (&high)[2], const uint8_t* const (&low)[2], const Scales& scales, uint8_t* out,
                      size_t tile_stride) {
  const __m512i upper = _mm512_set1_epi8(static_cast<char>(0xf0));
  __m512i q[2][2];  // [half of the outputs][input]
  for (int i = 0; i < 2; ++i) {
    const __m512i h = _mm512_loadu_si512(high[i]);
    const __m512i shifted = _mm512_slli_epi16(h, 4);
    if (kLow) {
      const __m512i l = _mm512_loadu_si512(low[i]);
      q[0][i] = _mm512_ternarylogic_epi32(upper, shifted, l, 0xca);
      q[1][i] = _mm512_ternarylogic_epi32(upper, h, _mm512_srli_epi16(l, 4), 0xca);
    } else {
      q[0][i] = _mm512_and_si512(shifted, upper);
      q[1][i] = _mm512_and_si512(h, upper);
    }
  }
  for (int half = 0; half < 2; ++half) {
    // Lane c of `first` holds outputs 16 c to 16 c + 7, of `second` the next eight, input beside input.
    const __m512i first = _mm512_unpacklo_epi8(q[half][0], q[half][1]), second = _mm512_unpackhi_epi8(q[half][0], q[half][1]);
    for (int c = 0; c < 4; ++c) {
      const float* scale = scales.scale + (half * 8 + c * 2) * 16;
      const float* shift = scales.shift + (half * 8 + c * 2) * 16;
      const __m512 a = _mm512_fmsub_ps(lift(first, c), _mm512_load_ps(scale), _mm512_load_ps(shift));
      const __m512 b = _mm512_fmsub_ps(lift(second, c), _mm512_load_ps(scale + 16), _mm512_load_ps(shift + 16));
      _mm512_store_si512(out + (half * 4 + c) * tile_stride, to_bf16_pair(b, a));
    }
  }
}

// Opens one group of a panel. Tiles lie tile_stride bytes apart; each is [16 pairs][16 outputs][2] bf16.
template <bool kLow, bool kSparse>
inline void open_group(const LinearQ& w, int panel, int group, const float* column, const ActiveList& list, uint8_t* out,
                       size_t tile_stride) {
  const uint8_t* high = w.high + panel * w.plane_size();
  const uint8_t* low = kLow ? w.low + panel * w.plane_size() : nullptr;
  const size_t at = panel * w.factors_size() + static_cast<size_t>(group) * kPanelQ;
  Scales scales;
  scales.load(w.zero + at, w.factor + at, column);
  if (kSparse) {
    const int begin = group ? list.ends[group - 1] : 0;
    for (int i = begin; i < list.ends[group]; ++i) {
      const uint8_t *h[2], *l[2];
      for (int j = 0; j < 2; ++j) {
        const size_t line = static_cast<size_t>(list.pairs[i].input[j]) * 64, later = static_cast<size_t>(list.pairs[i + 16].input[j]) * 64;
        h[j] = high + line;
        l[j] = kLow ? low + line : nullptr;
        _mm_prefetch(high + later, _MM_HINT_T0);
        if (kLow) _mm_prefetch(low + later, _MM_HINT_T0);
      }
      open_pair<kLow>(h, l, scales, out + (i - begin) * 64, tile_stride);
    }
    return;
  }
  for (int pair = 0; pair < 16; ++pair) {
    const uint8_t *h[2], *l[2];
    for (int j = 0; j < 2; ++j) {
      const size_t line = static_cast<size_t>(group * kWeightGroup + pair * 2 + j) * 64;
      h[j] = high + line;
      l[j] = kLow ? low + line : nullptr;
      _mm_prefetch(h[j] + kAheadQ, _MM_HINT_T0);
      if (kLow) _mm_prefetch(l[j] + kAheadQ, _MM_HINT_T0);
    }
    open_pair<kLow>(h, l, scales, out + pair * 64, tile_stride);
  }
}

inline void open(const LinearQ& w, int panel, int group, const float* column, const ScratchQ& scratch, uint8_t* out, size_t tile_stride) {
  if (scratch.sparse) {
    w.low ? open_group<true, true>(w, panel, group, column, scratch.list, out, tile_stride)
          : open_group<false, true>(w, panel, group, column, scratch.list, out, tile_stride);
  } else {
    w.low ? open_group<true, false>(w, panel, group, column, scratch.list, out, tile_stride)
          : open_group<false, false>(w, panel, group, column, scratch.list, out, tile_stride);
  }
}

// Four tiles of outputs for up to 16 rows over the groups of a chunk, on top of what `sums` holds.
inline void add_chunk(const bf16* a, size_t lda, const uint8_t* opened, int groups, bool first, float* sums) {
  if (first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, sums, 64);
    _tile_loadd(1, sums + 256, 64);
    _tile_loadd(2, sums + 512, 64);
    _tile_loadd(3, sums + 768, 64);
  }
  constexpr size_t kStride = kChunkStride;
  for (int group = 0; group < groups; ++group) {
    const uint8_t* b = opened + group * 1024;
    _tile_loadd(4, a + group * kWeightGroup, lda * 2);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + kStride, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(6, b + 2 * kStride, 64);
    _tile_dpbf16ps(2, 4, 6);
    _tile_loadd(7, b + 3 * kStride, 64);
    _tile_dpbf16ps(3, 4, 7);
  }
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + 256, 64);
  _tile_stored(2, sums + 512, 64);
  _tile_stored(3, sums + 768, 64);
}

}  // namespace detail

// Before the panels of a matrix: with one row, finds what is worth walking along.
inline void prepare_q(bool amx, const LinearQ& w, const bf16* a, int num_rows, ScratchQ& scratch) {
  scratch.sparse = false;
  if (num_rows != 1 || !amx) return;
  scratch.list.build(a, w.groups());
  scratch.sparse = scratch.list.active < w.groups() * kWeightGroup * 85 / 100;
}

// One panel, or one half of its sums, for all rows. a: [padded rows][lda] bf16.
// emit(first row, rows, tiles) with tiles [8][16 rows][16 outputs], for each 16 rows.
template <typename Emit>
inline void product(bool amx, const LinearQ& w, const bf16* a, size_t lda, int rows, int panel, int split, ScratchQ& scratch, Emit&& emit) {
  constexpr int kTile = kTileRows * 16;
  const int begin = w.split_at(split), end = w.split_at(split + 1);
  float* column = scratch.column.get<float>(kPanelQ * 2);
  for (int p = 0; p < kPanelQ; ++p) column[p * 2] = column[p * 2 + 1] = w.column[panel * kPanelQ + p] / 256.0f;
  if (amx && rows <= 4 * kTileRows) {
    // Few rows: sums wait in memory while the next groups are opened.
    const int blocks = ceil_div(rows, kTileRows);
    uint8_t* opened = scratch.opened.get<uint8_t>(kTilesQ * detail::kChunkStride);
    float* sums = scratch.sums.get<float>(static_cast<size_t>(blocks) * kTilesQ * kTile);
    const bf16* values = scratch.sparse ? scratch.list.values : a;
    for (int group = begin; group < end; group += detail::kChunk) {
      const int here = std::min(detail::kChunk, end - group);
      for (int i = 0; i < here; ++i) {
        detail::open(w, panel, group + i, column, scratch, opened + i * 1024, detail::kChunkStride);
      }
      settle_stores();
      for (int block = 0; block < blocks; ++block) {
        const bf16* from = values + static_cast<size_t>(block) * kTileRows * lda + group * kWeightGroup;
        float* to = sums + static_cast<size_t>(block) * kTilesQ * kTile;
        detail::add_chunk(from, lda, opened, here, group == begin, to);
        detail::add_chunk(from, lda, opened + 4 * detail::kChunkStride, here, group == begin, to + 4 * kTile);
      }
    }
    for (int block = 0; block < blocks; ++block) {
      emit(block * kTileRows, std::min(rows - block * kTileRows, kTileRows), sums + static_cast<size_t>(block) * kTilesQ * kTile);
    }
    return;
  }
  // Many rows: the whole panel is opened, as four panels of the bf16 kind.
  const int steps = end - begin;
  const size_t quarter = static_cast<size_t>(steps) * 2048;
  uint8_t* opened = scratch.opened.get<uint8_t>(quarter * 4);
  for (int group = begin; group < end; ++group) {
    // Tiles 2 i and 2 i + 1 stand side by side in quarter i.
    alignas(64) uint8_t tiles[kTilesQ * 1024];
    detail::open(w, panel, group, column, scratch, tiles, 1024);
    for (int i = 0; i < 4; ++i) std::memcpy(opened + i * quarter + static_cast<size_t>(group - begin) * 2048, tiles + i * 2048, 2048);
  }
  settle_stores();
  alignas(64) float out[2][kTilesQ * kTile];
  for (int row = 0; row < rows; row += 2 * kTileRows) {
    const int left = rows - row;
    const bf16* from = a + row * lda + begin * kWeightGroup;
    for (int i = 0; i < 4; ++i) {
      const bf16* b = reinterpret_cast<const bf16*>(opened + i * quarter);
      auto& first = reinterpret_cast<Block&>(out[0][i * 2 * kTile]);
      auto& second = reinterpret_cast<Block&>(out[1][i * 2 * kTile]);
      multiply_block(amx, from, lda, b, steps, left, false, first, second);
    }
    emit(row, std::min(left, kTileRows), out[0]);
    if (left > kTileRows) emit(row + kTileRows, std::min(left - kTileRows, kTileRows), out[1]);
  }
}

// Row n of the matrix, back as floats, from what this precision reads.
inline void unpack_row(const LinearQ& w, int n, float* out) {
  const int panel = n / kPanelQ, place = n % 64, shift = n % kPanelQ / 64 * 4;
  for (int k = 0; k < w.inputs; ++k) {
    const size_t byte = panel * w.plane_size() + static_cast<size_t>(k) * 64 + place;
    const int upper = w.high[byte] >> shift & 15, lower = w.low ? w.low[byte] >> shift & 15 : 0;
    const size_t at = panel * w.factors_size() + static_cast<size_t>(k / kWeightGroup) * kPanelQ + n % kPanelQ;
    out[k] = w.column[n] / 256.0f * static_cast<float>(w.factor[at]) * static_cast<float>(upper * 16 + lower - w.zero[at]);
  }
}

}  // namespace trimtab
