// Activations on a grid: what goes into a quantized product.
//
// Each 32 inputs of a row are whole multiples, of at most 254, of one power of two. Weights are such multiples too (linear_q.h), so a
// product's sum over 32 inputs is a whole number below 2^21 times a power of two: exact in fp32, whatever the order and whatever
// computes it. That is why one row may be summed in whole numbers of 8 bits and many in tiles of bf16, with equal bits.
// What it costs against bf16, whose every number has a power of its own: mean KL 0.0013 (docs/adr/0007).
#pragma once
#include "common.h"

namespace trimtab {

constexpr int kGridGroup = 32;
constexpr int kGridMost = 254;  // two signed bytes

// The least and the largest size of a group's largest activation: below, the group is zero, above, it is no number.
constexpr uint32_t kGridLeast = (127u - 96u) << 23, kGridLimit = (127u + 96u) << 23;

// 32 activations as whole numbers.
struct Whole32 {
  __m512 low, high;  // as floats
  float grid;        // what one is worth; not a number where an activation was none
};

inline Whole32 to_grid(__m512 low, __m512 high) {
  const __m512i sign = _mm512_set1_epi32(0x7fffffff);
  const __m512i sizes = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(low), sign), _mm512_and_si512(_mm512_castps_si512(high), sign));
  const uint32_t largest = _mm512_reduce_max_epu32(sizes);
  if (largest < kGridLeast || largest >= kGridLimit) {
    return {_mm512_setzero_ps(), _mm512_setzero_ps(), largest < kGridLeast ? 1.0f : NAN};
  }
  const int exponent = static_cast<int>(largest >> 23) - 127;
  const __m512 up = _mm512_set1_ps(power_of_two(7 - exponent));
  const __m512 most = _mm512_set1_ps(kGridMost), least = _mm512_set1_ps(-kGridMost);
  __m512 whole[2] = {low, high};
  for (auto& x : whole) {
    x = _mm512_roundscale_ps(_mm512_mul_ps(x, up), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    x = _mm512_max_ps(least, _mm512_min_ps(most, x));
  }
  return {whole[0], whole[1], power_of_two(exponent - 7)};
}

// Of each 32 inputs the even ones come first: where input k lies.
inline int line_of(int input) { return input / kGridGroup * kGridGroup + input % 2 * (kGridGroup / 2) + input % kGridGroup / 2; }

// Rows of whole numbers: each the sum of two bytes, the second zero for numbers up to 127.
struct GridRows {
  int width = 0;  // a multiple of 32
  int groups() const { return width / kGridGroup; }
  int8_t *first = nullptr, *second = nullptr;  // [rows][width], as line_of says
  float *grids = nullptr, *sums = nullptr;     // [rows][groups]: sums of the whole numbers

  // The same from a row on.
  GridRows from(int row) const {
    const size_t at = static_cast<size_t>(row) * width, group = at / kGridGroup;
    return {width, first + at, second + at, grids + group, sums + group};
  }

  void put(int row, int at, const Whole32& x) {
    alignas(64) static constexpr struct Order {
      uint16_t from[kGridGroup] = {};
      constexpr Order() {
        for (int i = 0; i < kGridGroup; ++i) from[i] = static_cast<uint16_t>(i % (kGridGroup / 2) * 2 + i / (kGridGroup / 2));
      }
    } order;
    const __m512i low = _mm512_cvtps_epi32(x.low), high = _mm512_cvtps_epi32(x.high);
    const __m512i words = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(low)), _mm512_cvtepi32_epi16(high), 1);
    const __m512i lines = _mm512_permutexvar_epi16(_mm512_load_si512(order.from), words);
    const __m256i near = _mm512_cvtsepi16_epi8(lines);
    const size_t here = static_cast<size_t>(row) * width + at;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(first + here), near);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(second + here), _mm512_cvtepi16_epi8(_mm512_sub_epi16(lines, _mm512_cvtepi8_epi16(near))));
    grids[here / kGridGroup] = x.grid;
    sums[here / kGridGroup] = static_cast<float>(_mm512_reduce_add_epi32(_mm512_add_epi32(low, high)));
  }
};

}  // namespace trimtab
