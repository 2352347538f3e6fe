// One row through quantized weights: whole numbers of 8 bits, four inputs at a time, and of those only what is not zero.
#pragma once
#include "linear_q.h"

namespace trimtab {

// The inputs of one row that are not zero, in fours, group by group. An activation is up to 254 steps of its group's grid, so it is
// the sum of two bytes; those that need the second come first in their group. Where skipping does not pay, it is all inputs: zeros
// change no sum.
struct ActiveList {
  // Inputs that are asked for before they are needed: one plane's into the nearest cache; two planes', which come as fast as a core
  // can ask for them, early into a larger one and late into the nearest, so that few requests wait there.
  static constexpr int kAhead = 64, kFar = 128, kNear = 16;
  Buffer lines_buffer, first_buffer, second_buffer, groups_buffer;
  // Where in a plane, from the panel on, the lines lie, if they are whole: [4 * fours], and behind those the first ones of the next panel.
  uint32_t* lines = nullptr;
  int8_t *first = nullptr, *second = nullptr;
  struct Group {
    int begin, large_end;  // fours; those until large_end have second bytes
    float sum;             // of the group's activations, in steps of its grid
    float grid;
  };
  Group* of = nullptr;     // [groups + 1]

  // Of a matrix whose inputs are needed in a share above `walk_above`, all are walked along.
  // a: one row.
  void build(const GridRows& a, const LinearQ& w, float walk_above) {
    walks_all_ = walk_above < 1 && num_needed(a, w.groups()) > walk_above * static_cast<float>(w.groups() * kWeightGroup);
    const int groups = w.groups(), most = groups * kWeightGroup + 64;  // whole vectors are written, whatever is in them
    lines = lines_buffer.get<uint32_t>(most + kFar);
    first = first_buffer.get<int8_t>(most);
    second = second_buffer.get<int8_t>(most);
    of = groups_buffer.get<Group>(groups + 1);
    int count = 0;
    for (int group = 0; group < groups; ++group) count = add_group(a, group, count);
    of[groups].begin = count / 4;
    const uint32_t next = static_cast<uint32_t>(w.plane_size());
    for (int i = 0; count > 0 && i < kFar; ++i) lines[count + i] = next + lines[std::min(i, count - 1)];
  }

 private:
  static int num_needed(const GridRows& a, int groups) {
    int count = 0;
    for (int group = 0; group < groups; ++group) {
      const __m256i near = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a.first + group * kWeightGroup));
      const __m256i beyond = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a.second + group * kWeightGroup));
      const __m256i any = _mm256_or_si256(near, beyond);
      count += __builtin_popcount(_mm256_test_epi8_mask(any, any));
    }
    return count;
  }

  int add_group(const GridRows& a, int group, int count) {
    of[group] = {count / 4, count / 4, a.sums[group], a.grids[group]};
    const __m256i near = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a.first + group * kWeightGroup));
    const __m256i beyond = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a.second + group * kWeightGroup));
    const __mmask32 large = _mm256_test_epi8_mask(beyond, beyond), rest = (walks_all_ ? ~__mmask32{0} : _mm256_test_epi8_mask(near, near)) & ~large;
    const int num_large = __builtin_popcount(large);
    put(count, large, group, near);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(second + count), _mm256_maskz_compress_epi8(large, beyond));
    put(count + num_large, rest, group, near);
    of[group].large_end = (count + num_large + 3) / 4;
    count += num_large + __builtin_popcount(rest);
    for (; count % 4; ++count) lines[count] = lines[count - 1];  // times zero
    return count;
  }

  void put(int at, __mmask32 which, int group, __m256i bytes) {
    const __m512i steps = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i here = _mm512_slli_epi32(_mm512_add_epi32(steps, _mm512_set1_epi32(group * kWeightGroup)), 6);
    const __mmask16 half = static_cast<__mmask16>(which);
    _mm512_storeu_si512(lines + at, _mm512_maskz_compress_epi32(half, here));
    const __m512i there = _mm512_add_epi32(here, _mm512_set1_epi32(16 * 64));
    _mm512_storeu_si512(lines + at + __builtin_popcount(half), _mm512_maskz_compress_epi32(which >> 16, there));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(first + at), _mm256_maskz_compress_epi8(which, bytes));
  }

  bool walks_all_ = false;
};

namespace detail {

// Four lines to bytes side by side: [column % 4] vectors of [column / 4][tile / 2][line], of which a byte's lower half is of an even
// tile and its upper half of an odd one.
inline void interleave(__m512i first, __m512i second, __m512i third, __m512i fourth, __m512i (&both)[4]) {
  const __m512i ab[2] = {_mm512_unpacklo_epi8(first, second), _mm512_unpackhi_epi8(first, second)};
  const __m512i cd[2] = {_mm512_unpacklo_epi8(third, fourth), _mm512_unpackhi_epi8(third, fourth)};
  both[0] = _mm512_unpacklo_epi16(ab[0], cd[0]);
  both[1] = _mm512_unpackhi_epi16(ab[0], cd[0]);
  both[2] = _mm512_unpacklo_epi16(ab[1], cd[1]);
  both[3] = _mm512_unpackhi_epi16(ab[1], cd[1]);
}

// Adds one plane's codes of four inputs, times their activations, to 128 sums: [tile % 2][column % 4] vectors.
template <bool kHalf, bool kLarge>
inline void add_four(const uint8_t* plane, const uint32_t* lines, __m512i first, __m512i second, __m512i (&sums)[8]) {
  __m512i both[4];
  const auto line = [&](int i) { return load_line<kHalf>(plane + (lines[i] >> kHalf)); };
  interleave(line(0), line(1), line(2), line(3), both);
  const __m512i fifteen = _mm512_set1_epi8(15);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512i even = _mm512_and_si512(both[i], fifteen), odd = _mm512_and_si512(_mm512_srli_epi16(both[i], 4), fifteen);
    sums[i] = _mm512_dpbusd_epi32(sums[i], even, first);
    sums[i + 4] = _mm512_dpbusd_epi32(sums[i + 4], odd, first);
    if (kLarge) {
      sums[i] = _mm512_dpbusd_epi32(sums[i], even, second);
      sums[i + 4] = _mm512_dpbusd_epi32(sums[i + 4], odd, second);
    }
  }
}

inline __m512i four_bytes(const int8_t* bytes) {
  int32_t word;
  std::memcpy(&word, bytes, 4);
  return _mm512_set1_epi32(word);
}

template <bool kLow, bool kHalf, bool kLarge>
inline void add_fours(const uint8_t* high, const uint8_t* low, const ActiveList& list, int begin, int end, __m512i (&upper)[8],
                      __m512i (&lower)[8]) {
  for (int i = begin; i < end; ++i) {
#pragma GCC unroll 4
    for (int j = i * 4; j < i * 4 + 4; ++j) {
      const uint32_t later = list.lines[j + (kLow ? ActiveList::kNear : ActiveList::kAhead)] >> kHalf;
      _mm_prefetch(high + later, _MM_HINT_T0);
      if (kLow) {
        const uint32_t far = list.lines[j + ActiveList::kFar] >> kHalf;
        _mm_prefetch(low + later, _MM_HINT_T0);
        _mm_prefetch(high + far, _MM_HINT_T2);
        _mm_prefetch(low + far, _MM_HINT_T2);
      }
    }
    const __m512i first = four_bytes(list.first + i * 4), second = kLarge ? four_bytes(list.second + i * 4) : first;
    add_four<kHalf, kLarge>(high, list.lines + i * 4, first, second, upper);
    if (kLow) add_four<kHalf, kLarge>(low, list.lines + i * 4, first, second, lower);
  }
}

// From [tile % 2][column % 4] vectors of [column / 4][tile / 2] to the first rows of 8 tiles of 16 x 16.
inline void store_tiles(const __m512 (&sums)[8], float* out) {
  for (int odd = 0; odd < 2; ++odd) {
    const __m512* s = sums + odd * 4;
    const __m512 low[2] = {_mm512_unpacklo_ps(s[0], s[1]), _mm512_unpacklo_ps(s[2], s[3])};
    const __m512 high[2] = {_mm512_unpackhi_ps(s[0], s[1]), _mm512_unpackhi_ps(s[2], s[3])};
    const auto put = [&](int tile, __m512 a, __m512 b, bool upper) {
      const __m512d x = _mm512_castps_pd(a), y = _mm512_castps_pd(b);
      const __m512d both = upper ? _mm512_unpackhi_pd(x, y) : _mm512_unpacklo_pd(x, y);
      _mm512_store_ps(out + tile * kTileRows * 16, _mm512_castpd_ps(both));
    };
    put(odd, low[0], low[1], false);
    put(odd + 2, low[0], low[1], true);
    put(odd + 4, high[0], high[1], false);
    put(odd + 6, high[0], high[1], true);
  }
}

// One row's sums over groups `begin` to `end`, to the first rows of 8 tiles.
template <bool kLow, bool kHalf>
inline void multiply_row(const LinearQ& w, int panel, int begin, int end, const ActiveList& list, float* sums) {
  const uint8_t* high = w.high + panel * w.plane_size();
  const uint8_t* low = kLow ? w.low + panel * w.plane_size() : high;
  __m512 total[8];
  for (auto& t : total) t = _mm512_setzero_ps();
  for (int group = begin; group < end; ++group) {
    const ActiveList::Group& here = list.of[group];
    const int last = list.of[group + 1].begin;
    if (here.begin == last && here.grid == here.grid) continue;
    __m512i upper[8], lower[8];
    for (auto& s : upper) s = _mm512_setzero_si512();
    for (auto& s : lower) s = _mm512_setzero_si512();
    add_fours<kLow, kHalf, true>(high, low, list, here.begin, here.large_end, upper, lower);
    add_fours<kLow, kHalf, false>(high, low, list, here.large_end, last, upper, lower);
    const size_t at = w.factors_at(panel, group);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const GroupScales<kLow> scales(w.factor + at + i * 16, w.zero + at + i * 16);
      total[i] = scales.add(total[i], upper[i], lower[i], _mm512_set1_ps(here.sum), here.grid);
    }
  }
  store_tiles(total, sums);
}

inline void multiply_row(const LinearQ& w, int panel, int begin, int end, const ActiveList& list, float* sums) {
  if (w.is_half(panel)) {
    w.low ? multiply_row<true, true>(w, panel, begin, end, list, sums) : multiply_row<false, true>(w, panel, begin, end, list, sums);
  } else {
    w.low ? multiply_row<true, false>(w, panel, begin, end, list, sums) : multiply_row<false, false>(w, panel, begin, end, list, sums);
  }
}

}  // namespace detail
}  // namespace trimtab
