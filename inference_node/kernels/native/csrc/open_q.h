// Quantized weights on their way to bf16, for tiles.
#pragma once
#include <type_traits>

#include "linear_q.h"

namespace trimtab {
namespace detail {

// Bytes of a plane that are asked for before they are needed: into the nearest cache, or far ahead into the second one, which is what
// a core without tiles is slow to do by itself.
constexpr size_t kAheadQ = 2048, kFarAheadQ = 8192;

// Half of a byte that is put into the mantissa of a float of 2^e counts multiples of 16 there if e fits its place. Of the eight halves
// of a word, those at bits 8, 12 and 16 stand where mantissas are; the others are shifted there.
constexpr int kHalfAt[8] = {8, 12, 8, 12, 16, 8, 12, 16};

constexpr float lifted_by(int tile) { return kHalfAt[tile] == 8 ? 32768.0f * 16 : kHalfAt[tile] == 12 ? 32768.0f : 32768.0f / 16; }

inline __m512 masked_float(__m512i words, int mask, float base) {
  constexpr int kAndOr = 0xea;
  const __m512i exponent = _mm512_castps_si512(_mm512_set1_ps(base));
  return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(words, _mm512_set1_epi32(mask), exponent, kAndOr));
}

// One input's line of a plane, ready to be lifted.
struct Halves {
  __m512i part[3];

  explicit Halves(__m512i line) {
    part[1] = line;
    part[0] = _mm512_slli_epi32(part[1], 8);
    part[2] = _mm512_srli_epi32(part[1], 12);
  }

  // The 16 outputs of a tile as floats: lifted_by(tile) + 16 * code.
  __m512 lift(int tile) const { return masked_float(part[tile < 2 ? 0 : tile < 5 ? 1 : 2], 15 << kHalfAt[tile], lifted_by(tile)); }
};

inline __m512i upper_halves_of_both() {
  const __m512i steps = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i upper_halves = _mm512_add_epi32(_mm512_slli_epi32(steps, 2), _mm512_mullo_epi32(steps, _mm512_set1_epi32(0x400)));
  return _mm512_add_epi32(upper_halves, _mm512_set1_epi32(0x0302));
}

// The upper half of b stays where it is; below it comes the upper half of a.
inline __m512i pair_up(__m512 a, __m512 b, __m512i places) {
  return _mm512_mask_permutexvar_epi8(_mm512_castps_si512(b), 0x3333333333333333ull, places, _mm512_castps_si512(a));
}

// One group's weights of four bits from lifted codes, exactly: factor * lifted code - shift.
struct OpenFour {
  alignas(64) float factor[kPanelQ], shift[kPanelQ];

  OpenFour(const uint8_t* factors, const uint8_t* zeros) {
    for (int tile = 0; tile < kTilesQ; ++tile) {
      const __m512 scale = bytes_to_ps(factors + tile * 16), zero = bytes_to_ps(zeros + tile * 16);
      const __m512 unit = _mm512_mul_ps(leading_power(scale), _mm512_set1_ps(2.0f));
      _mm512_store_ps(factor + tile * 16, scale);
      _mm512_store_ps(shift + tile * 16, _mm512_fmadd_ps(_mm512_set1_ps(lifted_by(tile)), scale, _mm512_mul_ps(zero, unit)));
    }
  }

  // Two inputs x 128 outputs to one row of each of the 8 tiles, which lie tile_stride bytes apart.
  void pair(const __m512i (&high)[2], const __m512i (&)[2], uint8_t* out, size_t tile_stride) const {
    const Halves even(high[0]), odd(high[1]);
    const __m512i places = upper_halves_of_both();
#pragma GCC unroll 8
    for (int tile = 0; tile < kTilesQ; ++tile) {
      const __m512 scale = _mm512_load_ps(factor + tile * 16), above = _mm512_load_ps(shift + tile * 16);
      const __m512 a = _mm512_fmsub_ps(even.lift(tile), scale, above), b = _mm512_fmsub_ps(odd.lift(tile), scale, above);
      _mm512_store_si512(out + tile * tile_stride, pair_up(a, b, places));
    }
  }
};

// One group's weights of eight bits. A dot product of bytes adds step * upper code + lower code - zero to the mantissa of a float whose
// exponent makes that worth 2^e each; what it was before is taken off again.
struct OpenEight {
  alignas(64) int32_t step[kPanelQ], start[kPanelQ], base[kPanelQ];

  OpenEight(const uint8_t* factors, const uint8_t* zeros) {
    const __m512i middle = _mm512_castps_si512(_mm512_set1_ps(12582912.0f));  // 1.5 * 2^23, whose last bit is worth 1
    for (int tile = 0; tile < kTilesQ; ++tile) {
      const __m512i byte = _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(factors + tile * 16)));
      const __m512i zero = _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(zeros + tile * 16)));
      const __m512i steps = _mm512_and_si512(byte, _mm512_set1_epi32((1 << kStepBits) - 1));
      const __m512i both = _mm512_or_si512(steps, _mm512_set1_epi32(0x100));
      const __m512i lifted = _mm512_add_epi32(middle, _mm512_slli_epi32(_mm512_srli_epi32(byte, kStepBits), 23));
      _mm512_store_si512(step + tile * 16, tile < kTilesQ / 2 ? both : _mm512_slli_epi32(both, 16));
      _mm512_store_si512(base + tile * 16, lifted);
      _mm512_store_si512(start + tile * 16, _mm512_sub_epi32(lifted, zero));
    }
  }

  void pair(const __m512i (&high)[2], const __m512i (&low)[2], uint8_t* out, size_t tile_stride) const {
    const Bytes even(high[0], low[0]), odd(high[1], low[1]);
    const __m512i places = upper_halves_of_both();
#pragma GCC unroll 8
    for (int tile = 0; tile < kTilesQ; ++tile) {
      _mm512_store_si512(out + tile * tile_stride, pair_up(weights(even, tile), weights(odd, tile), places));
    }
  }

 private:
  // One input's codes, upper and lower side by side: [tile % 4] vectors of those of this tile and of the fourth one from it.
  struct Bytes {
    __m512i part[4];

    Bytes(__m512i high, __m512i low) {
      const __m512i fifteen = _mm512_set1_epi8(15);
      const __m512i up = _mm512_set4_epi32(0x0e0f0c0d, 0x0a0b0809, 0x06070405, 0x02030001);  // a byte and its neighbour, by turns
      const __m512i first = _mm512_mask_shuffle_epi8(high, 0xaaaaaaaaaaaaaaaaull, low, up);
      const __m512i second = _mm512_mask_shuffle_epi8(low, 0x5555555555555555ull, high, up);
      part[0] = _mm512_and_si512(first, fifteen);
      part[1] = _mm512_and_si512(_mm512_srli_epi16(first, 4), fifteen);
      part[2] = _mm512_and_si512(second, fifteen);
      part[3] = _mm512_and_si512(_mm512_srli_epi16(second, 4), fifteen);
    }
  };

  __m512 weights(const Bytes& codes, int tile) const {
    const __m512i sum = _mm512_dpbusd_epi32(_mm512_load_si512(start + tile * 16), codes.part[tile % 4], _mm512_load_si512(step + tile * 16));
    return _mm512_sub_ps(_mm512_castsi512_ps(sum), _mm512_castsi512_ps(_mm512_load_si512(base + tile * 16)));
  }
};

// Opens one group of a panel. Tiles lie tile_stride bytes apart; each is [16 pairs][16 outputs][2] bf16.
template <bool kLow, bool kHalf>
inline void open_group(const LinearQ& w, int panel, int group, uint8_t* out, size_t tile_stride, bool far) {
  alignas(64) uint8_t factors[kPanelQ], zeros[kPanelQ];
  in_order(w.factor + w.factors_at(panel, group), factors);
  in_order(w.zero + w.factors_at(panel, group), zeros);
  const std::conditional_t<kLow, OpenEight, OpenFour> opening(factors, zeros);
  const auto read = [far](const uint8_t* line) {
    if (far) {
      _mm_prefetch(line + kFarAheadQ, _MM_HINT_T1);
    } else {
      _mm_prefetch(line + kAheadQ, _MM_HINT_T0);
    }
    return load_line<kHalf>(line);
  };
  const size_t begin = w.line_at(panel, group * kWeightGroup);
  for (int pair = 0; pair < 16; ++pair) {
    __m512i high[2], low[2] = {};
    for (int odd = 0; odd < 2; ++odd) {
      const size_t at = begin + (odd * 16 + pair) * (kHalf ? 32 : 64);
      high[odd] = read(w.high + at);
      if (kLow) low[odd] = read(w.low + at);
    }
    opening.pair(high, low, out + pair * 64, tile_stride);
  }
}

inline void open(const LinearQ& w, int panel, int group, uint8_t* out, size_t tile_stride, bool far) {
  if (w.is_half(panel)) {
    w.low ? open_group<true, true>(w, panel, group, out, tile_stride, far) : open_group<false, true>(w, panel, group, out, tile_stride, far);
  } else {
    w.low ? open_group<true, false>(w, panel, group, out, tile_stride, far) : open_group<false, false>(w, panel, group, out, tile_stride, far);
  }
}

}  // namespace detail
}  // namespace trimtab
