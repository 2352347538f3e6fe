// Products with weights of 8 or 4 bits and activations of 8.
//
// One store serves both precisions. A weight is a byte q with a zero and a factor for each 32 inputs, and its two halves lie in two
// planes: int8 reads both, int4 the upper one alone (16 * (q / 16)) with zeros and factors fitted to what is left.
// What is multiplied is the whole number v = round((q - zero) * factor / 256), saturated to a signed byte, on a grid of the output's
// own: w = column * v. So sums over inputs are whole numbers, and only activations, which have a scale for each 64 inputs, cut them.
// Sums of a group are exact and groups are added in order: a row's result does not depend on how, or with whom, it was computed.
//
// A plane is cut in panels of 128 outputs: [K][64 bytes]; a byte holds output p in its lower half and 64 + p in its upper. So one
// input is one cache line of a plane, and an input whose activation is zero need not be read.
#pragma once
#include <algorithm>

#include "tiles.h"

namespace trimtab {

constexpr int kWeightGroup = 32;  // inputs that share a zero and a factor
constexpr int kRowGroup = 64;     // inputs of a row of activations that share a scale: the depth of one tile

struct LinearQ {
  int inputs = 0, outputs = 0;
  int groups() const { return ceil_div(inputs, kRowGroup); }
  int panels() const { return ceil_div(outputs, kPanelQ); }
  // Sums over the inputs may be cut in two, so that a matrix of few panels has work for every thread.
  int splits = 1;
  int split_at(int split) const { return groups() * split / splits; }
  size_t plane_size() const { return static_cast<size_t>(groups()) * kRowGroup * 64; }  // bytes of one panel of a plane
  size_t factors_size() const { return static_cast<size_t>(groups()) * 2 * kPanelQ; }
  const uint8_t* high = nullptr;
  const uint8_t* low = nullptr;     // null: four bits
  const uint8_t* factor = nullptr;  // [panels][2 * groups][2 halves][64], in the order of a line's bytes
  const uint8_t* zero = nullptr;    // the same
  const float* column = nullptr;    // [panels * 128]
};

// Rows of activations: q * scale, 64 at a time.
struct RowsQ {
  int8_t* q = nullptr;     // [padded rows][width]
  float* scale = nullptr;  // [groups][padded rows]
  int width = 0, padded = 0;
};

// Quantizes 64 activations of one row.
inline void quantize_group(const __m512 (&x)[4], const RowsQ& rows, int row, int group) {
  const __m512 ab = _mm512_max_ps(_mm512_abs_ps(x[0]), _mm512_abs_ps(x[1]));
  const float largest = _mm512_reduce_max_ps(_mm512_max_ps(ab, _mm512_max_ps(_mm512_abs_ps(x[2]), _mm512_abs_ps(x[3]))));
  const __m512 inverse = _mm512_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
  int8_t* out = rows.q + static_cast<size_t>(row) * rows.width + group * kRowGroup;
  for (int i = 0; i < 4; ++i) {
    const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(x[i], inverse));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i * 16), _mm512_cvtsepi32_epi8(q));
  }
  rows.scale[static_cast<size_t>(group) * rows.padded + row] = largest / 127.0f;
}

namespace detail {

// Where the byte of output p (of 64) lies in a line, so that four lines interleave into outputs in order.
inline int line_place(int p) { return 16 * (p % 16 / 4) + 4 * (p / 16) + p % 4; }

// Zeros and factors of 128 outputs, widened as bytes are by unpacking: [half][low, high].
struct Mapping {
  __m512i zero[2][2], factor[2][2];

  void load(const uint8_t* zeros, const uint8_t* factors) {
    const __m512i nothing = _mm512_setzero_si512();
    for (int half = 0; half < 2; ++half) {
      const __m512i z = _mm512_loadu_si512(zeros + half * 64), f = _mm512_loadu_si512(factors + half * 64);
      zero[half][0] = _mm512_unpacklo_epi8(z, nothing);
      zero[half][1] = _mm512_unpackhi_epi8(z, nothing);
      factor[half][0] = _mm512_srli_epi16(_mm512_unpacklo_epi8(nothing, f), 1);  // f << 7
      factor[half][1] = _mm512_srli_epi16(_mm512_unpackhi_epi8(nothing, f), 1);
    }
  }

  // Bytes q to signed bytes round((q - zero) * factor / 256).
  __m512i apply(__m512i q, int half) const {
    const __m512i nothing = _mm512_setzero_si512();
    const __m512i low = _mm512_sub_epi16(_mm512_unpacklo_epi8(q, nothing), zero[half][0]);
    const __m512i high = _mm512_sub_epi16(_mm512_unpackhi_epi8(q, nothing), zero[half][1]);
    return _mm512_packs_epi16(_mm512_mulhrs_epi16(low, factor[half][0]), _mm512_mulhrs_epi16(high, factor[half][1]));
  }
};

// Four inputs x 64 outputs: vector c holds outputs 16 c to 16 c + 15, four bytes each.
inline void interleave(const __m512i (&v)[4], __m512i* out) {
  const __m512i low_01 = _mm512_unpacklo_epi8(v[0], v[1]), high_01 = _mm512_unpackhi_epi8(v[0], v[1]);
  const __m512i low_23 = _mm512_unpacklo_epi8(v[2], v[3]), high_23 = _mm512_unpackhi_epi8(v[2], v[3]);
  out[0] = _mm512_unpacklo_epi16(low_01, low_23);
  out[1] = _mm512_unpackhi_epi16(low_01, low_23);
  out[2] = _mm512_unpacklo_epi16(high_01, high_23);
  out[3] = _mm512_unpackhi_epi16(high_01, high_23);
}

// Four inputs x 128 outputs, as signed bytes.
template <bool kLow>
inline void load_four(const uint8_t* const (&high)[4], const uint8_t* const (&low)[4], const Mapping& mapping, __m512i (&out)[8]) {
  const __m512i upper = _mm512_set1_epi8(static_cast<char>(0xf0));
  __m512i first[4], second[4];
  for (int i = 0; i < 4; ++i) {
    const __m512i h = _mm512_loadu_si512(high[i]);
    const __m512i shifted = _mm512_slli_epi16(h, 4);
    __m512i a, b;
    if (kLow) {
      const __m512i l = _mm512_loadu_si512(low[i]);
      a = _mm512_ternarylogic_epi32(upper, shifted, l, 0xca);
      b = _mm512_ternarylogic_epi32(upper, h, _mm512_srli_epi16(l, 4), 0xca);
    } else {
      a = _mm512_and_si512(shifted, upper);
      b = _mm512_and_si512(h, upper);
    }
    first[i] = mapping.apply(a, 0);
    second[i] = mapping.apply(b, 1);
  }
  interleave(first, out);
  interleave(second, out + 4);
}

}  // namespace detail

// The inputs of one row that are not zero, in fours: what a product with one row walks along.
struct ActiveList {
  struct Four {
    uint16_t input[4];
    uint32_t values;  // four int8; 0 where a group's number of inputs is no multiple of four
  };
  Buffer fours_buffer, ends_buffer;
  Four* fours = nullptr;
  int* ends = nullptr;  // where the fours of each 32 inputs end
  int active = 0;

  void build(const int8_t* q, int groups) {
    fours = fours_buffer.get<Four>(static_cast<size_t>(groups) * 8 + 16);
    ends = ends_buffer.get<int>(groups);
    int at = 0;
    active = 0;
    const __m256i places = _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
                                            26, 27, 28, 29, 30, 31);
    for (int group = 0; group < groups; ++group) {
      const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q + group * kWeightGroup));
      const __mmask32 mask = _mm256_test_epi8_mask(values, values);
      const int count = __builtin_popcount(mask);
      alignas(32) uint8_t place[32];
      alignas(32) int8_t value[32];
      _mm256_store_si256(reinterpret_cast<__m256i*>(place), _mm256_maskz_compress_epi8(mask, places));
      _mm256_store_si256(reinterpret_cast<__m256i*>(value), _mm256_maskz_compress_epi8(mask, values));
      for (int i = 0; i < count; i += 4, ++at) {
        for (int j = 0; j < 4; ++j) fours[at].input[j] = static_cast<uint16_t>(group * kWeightGroup + place[i + j < count ? i + j : i]);
        std::memcpy(&fours[at].values, value + i, 4);  // beyond the last one compress has left zeros
      }
      ends[group] = at;
      active += count;
    }
  }
};

namespace detail {

constexpr size_t kAheadQ = 2048;

// One row, one panel. out: [8 tiles][16 rows][16], of which the first row is written.
template <bool kLow, bool kSparse>
inline void one_row(const LinearQ& w, const RowsQ& rows, int row, const ActiveList& list, int panel, int split, float* out) {
  const uint8_t* high = w.high + panel * w.plane_size();
  const uint8_t* low = kLow ? w.low + panel * w.plane_size() : nullptr;
  const uint8_t* factor = w.factor + panel * w.factors_size();
  const uint8_t* zero = w.zero + panel * w.factors_size();
  const int8_t* q = rows.q + static_cast<size_t>(row) * rows.width;
  const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
  alignas(64) float total[8 * 16];
  for (int c = 0; c < 8; ++c) _mm512_store_ps(total + c * 16, _mm512_setzero_ps());
  const int first_group = w.split_at(split), last_group = w.split_at(split + 1);
  int at = !kSparse ? first_group * 16 : first_group ? list.ends[first_group * 2 - 1] : 0;
  for (int group = first_group; group < last_group; ++group) {
    __m512i sums[8];
    for (auto& s : sums) s = _mm512_setzero_si512();
    __m512i values_sum = _mm512_setzero_si512();
    for (int part = group * 2; part < group * 2 + 2; ++part) {
      Mapping mapping;
      mapping.load(zero + static_cast<size_t>(part) * kPanelQ, factor + static_cast<size_t>(part) * kPanelQ);
      const int end = kSparse ? list.ends[part] : at + 8;
      for (; at < end; ++at) {
        const uint8_t *h[4], *l[4];
        uint32_t values;
        for (int j = 0; j < 4; ++j) {
          const size_t line = static_cast<size_t>(kSparse ? list.fours[at].input[j] : at * 4 + j) * 64;
          h[j] = high + line;
          l[j] = kLow ? low + line : nullptr;
        }
        if (kSparse) {
          values = list.fours[at].values;
          const ActiveList::Four& later = list.fours[at + 8];
          for (int j = 0; j < 4; ++j) {
            _mm_prefetch(high + static_cast<size_t>(later.input[j]) * 64, _MM_HINT_T0);
            if (kLow) _mm_prefetch(low + static_cast<size_t>(later.input[j]) * 64, _MM_HINT_T0);
          }
        } else {
          std::memcpy(&values, q + at * 4, 4);
          for (int j = 0; j < 4; ++j) {
            _mm_prefetch(h[j] + kAheadQ, _MM_HINT_T0);
            if (kLow) _mm_prefetch(l[j] + kAheadQ, _MM_HINT_T0);
          }
        }
        __m512i columns[8];
        load_four<kLow>(h, l, mapping, columns);
        const __m512i four = _mm512_set1_epi32(static_cast<int>(values));
        // The instruction takes unsigned times signed: weights go in 128 too high, which is taken off again below.
        for (int c = 0; c < 8; ++c) sums[c] = _mm512_dpbusd_epi32(sums[c], _mm512_xor_si512(columns[c], sign), four);
        values_sum = _mm512_dpbusd_epi32(values_sum, sign, four);
      }
    }
    const __m512 row_scale = _mm512_set1_ps(rows.scale[static_cast<size_t>(group) * rows.padded + row]);
    for (int c = 0; c < 8; ++c) {
      const __m512 sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[c], values_sum));
      _mm512_store_ps(total + c * 16, _mm512_fmadd_ps(sum, row_scale, _mm512_load_ps(total + c * 16)));
    }
  }
  const float* column = w.column + panel * kPanelQ;
  for (int c = 0; c < 8; ++c) {
    _mm512_storeu_ps(out + c * 256, _mm512_mul_ps(_mm512_load_ps(total + c * 16), _mm512_loadu_ps(column + c * 16)));
  }
}

// A panel spread out for tiles: [8 tiles][groups][16 fours][16 outputs][4].
template <bool kLow>
inline void spread(const LinearQ& w, int panel, int split, uint8_t* out) {
  const uint8_t* high = w.high + panel * w.plane_size();
  const uint8_t* low = kLow ? w.low + panel * w.plane_size() : nullptr;
  const uint8_t* factor = w.factor + panel * w.factors_size();
  const uint8_t* zero = w.zero + panel * w.factors_size();
  const size_t tile = static_cast<size_t>(w.groups()) * 1024;
  for (int part = w.split_at(split) * 2; part < w.split_at(split + 1) * 2; ++part) {
    Mapping mapping;
    mapping.load(zero + static_cast<size_t>(part) * kPanelQ, factor + static_cast<size_t>(part) * kPanelQ);
    for (int four = part * 8; four < part * 8 + 8; ++four) {
      const uint8_t *h[4], *l[4];
      for (int j = 0; j < 4; ++j) {
        h[j] = high + static_cast<size_t>(four * 4 + j) * 64;
        l[j] = kLow ? low + static_cast<size_t>(four * 4 + j) * 64 : nullptr;
        _mm_prefetch(h[j] + kAheadQ, _MM_HINT_T0);
        if (kLow) _mm_prefetch(l[j] + kAheadQ, _MM_HINT_T0);
      }
      __m512i columns[8];
      load_four<kLow>(h, l, mapping, columns);
      for (int c = 0; c < 8; ++c) _mm512_store_si512(out + c * tile + four * 64, columns[c]);
    }
  }
}

// kRows rows by 16 outputs over all groups, with tiles configured for kRows and a depth of 64.
template <int kRows>
inline void tile_rows(const LinearQ& w, const RowsQ& rows, int row, int split, const uint8_t* tile, __m512 column, float* out) {
  alignas(64) int32_t sums[2][kTileRows * 16];
  const int8_t* q = rows.q + static_cast<size_t>(row) * rows.width;
  const int groups = w.split_at(split + 1);
  __m512 total[kRows];
  for (auto& t : total) t = _mm512_setzero_ps();
  const auto finish = [&](int group, const int32_t* part) {
    const float* row_scale = rows.scale + static_cast<size_t>(group) * rows.padded + row;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      total[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(part + r * 16)), _mm512_set1_ps(row_scale[r]), total[r]);
    }
  };
  for (int group = w.split_at(split); group < groups; group += 2) {
    _tile_zero(0);
    _tile_loadd(4, q + group * kRowGroup, rows.width);
    _tile_loadd(6, tile + group * 1024, 64);
    _tile_dpbssd(0, 4, 6);
    if (group + 1 < groups) {
      _tile_zero(1);
      _tile_loadd(5, q + (group + 1) * kRowGroup, rows.width);
      _tile_loadd(7, tile + (group + 1) * 1024, 64);
      _tile_dpbssd(1, 5, 7);
    }
    _tile_stored(0, sums[0], 64);
    if (group + 1 < groups) _tile_stored(1, sums[1], 64);
    finish(group, sums[0]);
    if (group + 1 < groups) finish(group + 1, sums[1]);
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) _mm512_storeu_ps(out + r * 16, _mm512_mul_ps(total[r], column));
}

}  // namespace detail

// Rows that tiles are configured for when a step has this many.
inline int tile_rows_q(int rows) { return rows >= kTileRows ? kTileRows : round_up(rows, 4); }
inline int padded_rows_q(int rows) { return rows == 1 ? 1 : rows <= kTileRows ? round_up(rows, 4) : round_up(rows, kTileRows); }

inline void configure_q(bool amx, int rows) {
  if (amx && rows > 1) configure_tiles(tile_rows_q(rows), 64);
}

// What one thread needs to compute products.
struct ScratchQ {
  Buffer spread;
  ActiveList list;
  bool sparse = false;
};

// Before the panels of a matrix, when there is one row: finds what is worth walking along.
inline void prepare_q(const LinearQ& w, const RowsQ& rows, int num_rows, ScratchQ& scratch) {
  if (num_rows != 1) return;
  scratch.list.build(rows.q, w.groups() * 2);
  scratch.sparse = scratch.list.active < w.groups() * kRowGroup * 85 / 100;
}

// One panel, or one half of its sums, for all rows. emit(first row, rows, tiles) with tiles [8][16 rows][16 outputs], for each 16 rows.
template <typename Emit>
inline void product(bool amx, const LinearQ& w, const RowsQ& rows, int num_rows, int panel, int split, ScratchQ& scratch, Emit&& emit) {
  alignas(64) float out[8 * kTileRows * 16];
  if (num_rows == 1 && scratch.sparse) {
    w.low ? detail::one_row<true, true>(w, rows, 0, scratch.list, panel, split, out)
          : detail::one_row<false, true>(w, rows, 0, scratch.list, panel, split, out);
    emit(0, 1, out);
    return;
  }
  if (num_rows == 1 || !amx) {
    for (int first = 0; first < num_rows; first += kTileRows) {
      const int here = std::min(num_rows - first, kTileRows);
      for (int row = 0; row < here; ++row) {
        w.low ? detail::one_row<true, false>(w, rows, first + row, scratch.list, panel, split, out + row * 16)
              : detail::one_row<false, false>(w, rows, first + row, scratch.list, panel, split, out + row * 16);
      }
      emit(first, here, out);
    }
    return;
  }
  const size_t tile = static_cast<size_t>(w.groups()) * 1024;
  uint8_t* wide = scratch.spread.get<uint8_t>(tile * 8);
  w.low ? detail::spread<true>(w, panel, split, wide) : detail::spread<false>(w, panel, split, wide);
  settle_stores();
  const int tile_rows = tile_rows_q(num_rows);
  for (int row = 0; row < num_rows; row += kTileRows) {
    for (int c = 0; c < 8; ++c) {
      const __m512 column = _mm512_loadu_ps(w.column + panel * kPanelQ + c * 16);
      float* to = out + c * 256;
      switch (tile_rows) {
        case 4: detail::tile_rows<4>(w, rows, row, split, wide + c * tile, column, to); break;
        case 8: detail::tile_rows<8>(w, rows, row, split, wide + c * tile, column, to); break;
        case 12: detail::tile_rows<12>(w, rows, row, split, wide + c * tile, column, to); break;
        default: detail::tile_rows<16>(w, rows, row, split, wide + c * tile, column, to); break;
      }
    }
    emit(row, std::min(num_rows - row, kTileRows), out);
  }
}

// Row n of the matrix, back as floats, from what this precision reads.
inline void unpack_row(const LinearQ& w, int n, float* out) {
  const int panel = n / kPanelQ, half = n % kPanelQ / 64, place = detail::line_place(n % 64), shift = half * 4;
  for (int k = 0; k < w.inputs; ++k) {
    const size_t byte = panel * w.plane_size() + static_cast<size_t>(k) * 64 + place;
    const int upper = w.high[byte] >> shift & 15, lower = w.low ? w.low[byte] >> shift & 15 : 0;
    const size_t at = panel * w.factors_size() + static_cast<size_t>(k / kWeightGroup) * kPanelQ + half * 64 + place;
    const int product = (upper * 16 + lower - w.zero[at]) * w.factor[at] * 128 + (1 << 14);
    out[k] = w.column[n] * static_cast<float>(std::max(-128, std::min(127, product >> 15)));
  }
}

}  // namespace trimtab
