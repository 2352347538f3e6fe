// Several rows through quantized weights in whole numbers of 8 bits, where there are no tiles: a group's codes are taken apart once and
// stay in the nearest cache while row after row is multiplied by them.
#pragma once
#include "open_q.h"
#include "row_q.h"

namespace trimtab {
namespace detail {

constexpr int kFours = kWeightGroup / 4;
constexpr size_t kCodesSize = kFours * 8 * 64;  // bytes that one group's codes of a plane take, a byte each

// [four][tile % 2][column % 4] vectors, each as `interleave` leaves them.
template <bool kHalf>
inline void take_apart(const uint8_t* lines, uint8_t* codes) {
  constexpr size_t kLine = kHalf ? 32 : 64;
  const __m512i fifteen = _mm512_set1_epi8(15);
  for (int four = 0; four < kFours; ++four, lines += 4 * kLine, codes += 8 * 64) {
    __m512i both[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm_prefetch(lines + i * kLine + kFarAheadQ, _MM_HINT_T1);
    interleave(load_line<kHalf>(lines), load_line<kHalf>(lines + kLine), load_line<kHalf>(lines + 2 * kLine), load_line<kHalf>(lines + 3 * kLine), both);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      _mm512_store_si512(codes + i * 64, _mm512_and_si512(both[i], fifteen));
      _mm512_store_si512(codes + (i + 4) * 64, _mm512_and_si512(_mm512_srli_epi16(both[i], 4), fifteen));
    }
  }
}

// Fours of a group in which an activation needs its second byte, a bit each.
inline uint32_t large_fours(const int8_t* second) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(second));
  return _mm256_test_epi32_mask(bytes, bytes);
}

// One plane's codes times the activations of some rows.
template <int kRows>
inline void add_codes(const uint8_t* codes, const GridRows& rows, size_t at, __m512i (&sums)[kRows][8]) {
  for (int r = 0; r < kRows; ++r) {
    for (auto& sum : sums[r]) sum = _mm512_setzero_si512();
  }
  for (int four = 0; four < kFours; ++four) {
    __m512i x[kRows];
    for (int r = 0; r < kRows; ++r) x[r] = four_bytes(rows.first + r * static_cast<size_t>(rows.width) + at + four * 4);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const __m512i code = _mm512_load_si512(codes + (four * 8 + i) * 64);
#pragma GCC unroll 3
      for (int r = 0; r < kRows; ++r) sums[r][i] = _mm512_dpbusd_epi32(sums[r][i], code, x[r]);
    }
  }
#pragma GCC unroll 3
  for (int r = 0; r < kRows; ++r) {
    const int8_t* second = rows.second + r * static_cast<size_t>(rows.width) + at;
    for (uint32_t large = large_fours(second); large; large &= large - 1) {
      const int four = __builtin_ctz(large);
      const __m512i x = four_bytes(second + four * 4);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) sums[r][i] = _mm512_dpbusd_epi32(sums[r][i], _mm512_load_si512(codes + (four * 8 + i) * 64), x);
    }
  }
}

// One group of some rows, onto their totals: [row][8] vectors.
template <bool kLow, int kRows>
inline void add_group(const uint8_t* codes, const GroupScales<kLow>* scales, const GridRows& rows, int group, float* totals) {
  __m512i upper[kRows][8], lower[kRows][8];
  add_codes(codes, rows, static_cast<size_t>(group) * kWeightGroup, upper);
  if (kLow) add_codes(codes + kCodesSize, rows, static_cast<size_t>(group) * kWeightGroup, lower);
  for (int r = 0; r < kRows; ++r) {
    const size_t at = r * static_cast<size_t>(rows.groups()) + group;
    const __m512 sum = _mm512_set1_ps(rows.sums[at]);
    const float grid = rows.grids[at];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      float* total = totals + (r * 8 + i) * 16;
      _mm512_store_ps(total, scales[i].add(_mm512_load_ps(total), upper[r][i], kLow ? lower[r][i] : upper[r][i], sum, grid));
    }
  }
}

// The sums of all rows over groups `begin` to `end`. codes: room for a group. totals: [rows][8] vectors, cleared here.
template <bool kLow, bool kHalf>
inline void multiply_rows(const LinearQ& w, int panel, int begin, int end, const GridRows& rows, int count, uint8_t* codes, float* totals) {
  std::memset(totals, 0, sizeof(float) * kPanelQ * count);
  for (int group = begin; group < end; ++group) {
    const size_t line = w.line_at(panel, group * kWeightGroup), at = w.factors_at(panel, group);
    take_apart<kHalf>(w.high + line, codes);
    if (kLow) take_apart<kHalf>(w.low + line, codes + kCodesSize);
    const GroupScales<kLow> scales[8] = {
        {w.factor + at, w.zero + at},           {w.factor + at + 16, w.zero + at + 16}, {w.factor + at + 32, w.zero + at + 32},
        {w.factor + at + 48, w.zero + at + 48}, {w.factor + at + 64, w.zero + at + 64}, {w.factor + at + 80, w.zero + at + 80},
        {w.factor + at + 96, w.zero + at + 96}, {w.factor + at + 112, w.zero + at + 112}};
    for (int row = 0; row < count; row += 2) {
      float* to = totals + static_cast<size_t>(row) * kPanelQ;
      row + 1 < count ? add_group<kLow, 2>(codes, scales, rows.from(row), group, to)
                      : add_group<kLow, 1>(codes, scales, rows.from(row), group, to);
    }
  }
}

inline void multiply_rows(const LinearQ& w, int panel, int begin, int end, const GridRows& rows, int count, uint8_t* codes, float* totals) {
  if (w.is_half(panel)) {
    w.low ? multiply_rows<true, true>(w, panel, begin, end, rows, count, codes, totals)
          : multiply_rows<false, true>(w, panel, begin, end, rows, count, codes, totals);
  } else {
    w.low ? multiply_rows<true, false>(w, panel, begin, end, rows, count, codes, totals)
          : multiply_rows<false, false>(w, panel, begin, end, rows, count, codes, totals);
  }
}

}  // namespace detail
}  // namespace trimtab
