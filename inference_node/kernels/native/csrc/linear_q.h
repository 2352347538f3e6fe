// Weights of 8 or 4 bits: how they lie, and what they stand for.
//
// One store serves both precisions. The codes of a weight lie in two planes of half bytes: int4 reads the upper one, u, alone; int8
// reads l as well. In each group of 32 inputs of an output a weight is, times a scale for the output,
//   int4: 16 * factor * u - zero * zero_unit(factor),
//   int8: 2^e * (step * u + l - zero), with e in the upper 3 bits of the factor's byte and step in the lower 5.
// int4's factor has five significant bits, so that both terms are multiples of zero_unit / 2, and no weight is more than 256 of those:
// four where it would be, of twice the unit. int8's sums in brackets are at most 255. So both are bf16 numbers, and whole multiples of
// one power of two within a group: see grid.h.
//
// A plane is cut in panels of 128 outputs: [K][64 bytes], two outputs in a byte; `place_of` says which. So one input is one cache line
// of a plane, and an input whose activation is zero need not be read. A last panel of 64 outputs or fewer has half lines, of the first
// four tiles. Of each 32 inputs the even ones come first.
#pragma once
#include <algorithm>

#include "grid.h"
#include "linear_bf16.h"

namespace trimtab {

constexpr int kWeightGroup = kGridGroup;  // inputs that share a zero and a factor: the depth of one bf16 tile
constexpr int kTilesQ = kPanelQ / 16;

struct LinearQ {
  int inputs = 0, outputs = 0;
  int groups() const { return ceil_div(inputs, kWeightGroup); }
  int panels() const { return ceil_div(outputs, kPanelQ); }
  // Sums over the inputs may be cut in two, so that a matrix of few panels has work for every thread.
  int splits = 1;
  int split_at(int split) const { return groups() * split / splits; }
  size_t plane_size() const { return static_cast<size_t>(groups()) * kWeightGroup * 64; }  // bytes of one whole panel of a plane
  bool is_half(int panel) const { return outputs - panel * kPanelQ <= kPanelQ / 2; }
  // Where a line of a panel lies in a plane.
  size_t line_at(int panel, int line) const { return panel * plane_size() + static_cast<size_t>(line) * (is_half(panel) ? 32 : 64); }
  size_t factors_size() const { return static_cast<size_t>(groups()) * kPanelQ; }
  size_t factors_at(int panel, int group) const { return panel * factors_size() + static_cast<size_t>(group) * kPanelQ; }
  const uint8_t* high = nullptr;
  const uint8_t* low = nullptr;     // null: four bits
  const uint8_t* factor = nullptr;  // [panels][groups][128], ordered as factor_place says
  const uint8_t* zero = nullptr;    // the same
  const float* column = nullptr;    // [panels * 128]: what the sums are multiplied by
};

// Where output n of a panel lies in the 64 bytes of an input: each 32 bits hold one output of each of the 8 tiles, so that one mask
// finds the 16 of a tile.
struct Place {
  int byte, shift;
};

inline Place place_of(int n) {
  const int tile = n / 16, column = n % 16;
  return {column * 4 + tile / 2, tile % 2 * 4};
}

// Where the factor and the zero of output n lie: in the order in which one row's sums come out of interleaved lines (row_q.h).
inline int factor_place(int n) {
  const int tile = n / 16, column = n % 16;
  return tile % 2 * 64 + column % 4 * 16 + column / 4 * 4 + tile / 2;
}

// What one of a zero is worth where weights have four bits: the last of the factor's five bits, times 32.
inline float zero_unit(int factor) { return power_of_two(floor_log2(static_cast<float>(factor)) + 1); }

constexpr int kStepBits = 5;  // of int8's factor byte

// 128 factors or zeros in the order of outputs: [8 tiles][16 outputs].
inline void in_order(const uint8_t* bytes, uint8_t* out) {
  alignas(64) static constexpr struct Index {
    uint8_t at[64] = {};
    constexpr Index() {
      for (int i = 0; i < 64; ++i) at[i] = static_cast<uint8_t>(i % 4 * 16 + i % 16 / 4 * 4 + i / 16);
    }
  } index;
  const __m512i order = _mm512_load_si512(index.at);
  for (int odd = 0; odd < 2; ++odd) {
    const __m512i tiles = _mm512_permutexvar_epi8(order, _mm512_loadu_si512(bytes + odd * 64));
    _mm_store_si128(reinterpret_cast<__m128i*>(out + odd * 16), _mm512_extracti32x4_epi32(tiles, 0));
    _mm_store_si128(reinterpret_cast<__m128i*>(out + odd * 16 + 32), _mm512_extracti32x4_epi32(tiles, 1));
    _mm_store_si128(reinterpret_cast<__m128i*>(out + odd * 16 + 64), _mm512_extracti32x4_epi32(tiles, 2));
    _mm_store_si128(reinterpret_cast<__m128i*>(out + odd * 16 + 96), _mm512_extracti32x4_epi32(tiles, 3));
  }
}

// A line as 32 bits for each column of tiles, half a one with zeros for the tiles that it lacks.
template <bool kHalf>
inline __m512i load_line(const uint8_t* line) {
  if (kHalf) return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(line)));
  return _mm512_loadu_si512(line);
}

// 16 bytes as floats.
inline __m512 bytes_to_ps(const uint8_t* bytes) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes))));
}

// 2^floor(log2 x) of positive numbers.
inline __m512 leading_power(__m512 x) { return _mm512_and_ps(x, _mm512_castsi512_ps(_mm512_set1_epi32(0x7f800000))); }

// What makes one group's sums of codes, of 16 outputs, sums of weights.
template <bool kLow>
struct GroupScales {
  __m512 scale, zero, unit;

  GroupScales(const uint8_t* factors, const uint8_t* zeros) {
    zero = bytes_to_ps(zeros);
    if (kLow) {
      const __m512i byte = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(factors)));
      scale = _mm512_cvtepi32_ps(_mm512_and_si512(byte, _mm512_set1_epi32((1 << kStepBits) - 1)));
      const __m512i power = _mm512_slli_epi32(_mm512_srli_epi32(byte, kStepBits), 23);
      unit = _mm512_castsi512_ps(_mm512_add_epi32(power, _mm512_castps_si512(_mm512_set1_ps(1.0f))));
    } else {
      scale = bytes_to_ps(factors);
      zero = _mm512_mul_ps(zero, _mm512_mul_ps(leading_power(scale), _mm512_set1_ps(0.125f)));
    }
  }

  // Onto total. upper, lower: sums of codes times activations; sum: of the activations. All but the sum is exact.
  __m512 add(__m512 total, __m512i upper, __m512i lower, __m512 sum, float grid) const {
    const __m512 codes = _mm512_cvtepi32_ps(upper);
    if (!kLow) return _mm512_fmadd_ps(_mm512_set1_ps(grid * 16), _mm512_fnmadd_ps(zero, sum, _mm512_mul_ps(scale, codes)), total);
    const __m512 whole = _mm512_fnmadd_ps(zero, sum, _mm512_fmadd_ps(scale, codes, _mm512_cvtepi32_ps(lower)));
    return _mm512_fmadd_ps(_mm512_mul_ps(unit, _mm512_set1_ps(grid)), whole, total);
  }
};

// Row n of the matrix, back as floats, from what this precision reads.
inline void unpack_row(const LinearQ& w, int n, float* out) {
  const int panel = n / kPanelQ;
  const Place place = place_of(n % kPanelQ);
  const int in_line = w.is_half(panel) ? place.byte / 4 * 2 + place.byte % 4 : place.byte;
  for (int k = 0; k < w.inputs; ++k) {
    const size_t byte = w.line_at(panel, line_of(k)) + in_line;
    const int upper = w.high[byte] >> place.shift & 15, lower = w.low ? w.low[byte] >> place.shift & 15 : 0;
    const size_t at = w.factors_at(panel, k / kWeightGroup) + factor_place(n % kPanelQ);
    const int factor = w.factor[at], zero = w.zero[at];
    const int step = factor & ((1 << kStepBits) - 1);
    const float eight = power_of_two(factor >> kStepBits) * static_cast<float>(step * upper + lower - zero);
    out[k] = w.column[n] * (w.low ? eight : factor * 16 * upper - zero * zero_unit(factor));
  }
}

}  // namespace trimtab
