// Blocks of rows by tiles of outputs without AMX: several rows share what is read of B, and have sums enough in flight for units that
// take four to six cycles for each of them.
#pragma once
#include "common.h"

namespace trimtab {

// Whether there is an instruction for the products of two pairs of bf16.
#ifdef __AVX512BF16__
constexpr bool kPairsAtOnce = true;
#else
constexpr bool kPairsAtOnce = false;
#endif

// B of a product: `step_b` bytes from one 32 inputs to the next, `tile_b` from one tile of 16 outputs to the next, `row_b` from one pair
// of inputs to the next.
struct PairTiles {
  const char* data;
  size_t row_b, tile_b, step_b;
  size_t ahead = 0;  // bytes that are asked for before they are needed
};

// C of a product, fp32: floats from one row to the next and from one tile of 16 outputs to the next.
struct SumTiles {
  float* data;
  size_t row, tile;
};

namespace detail {

inline uint32_t load_pair(const bf16* p) {
  uint32_t pair;
  std::memcpy(&pair, p, 4);
  return pair;
}

// Sums over one step of 32 inputs. Products of two bf16 are exact in fp32; the first of each pair and the second are summed apart, as a
// tile product does it ("Intel Architecture Instruction Set Extensions Programming Reference", TDPBF16PS).
template <int kRows, int kTiles>
inline void sum_apart(const bf16* a, size_t lda, const char* b, const PairTiles& tiles, __m512 (&sums)[kRows][kTiles]) {
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  __m512 odd[kRows][kTiles];
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTiles; ++t) sums[r][t] = odd[r][t] = _mm512_setzero_ps();
  }
  for (int pair = 0; pair < 16; ++pair) {
    __m512 first[kTiles], second[kTiles];
#pragma GCC unroll 4
    for (int t = 0; t < kTiles; ++t) {
      const char* from = b + t * tiles.tile_b + pair * tiles.row_b;
      if (tiles.ahead) _mm_prefetch(from + tiles.ahead, _MM_HINT_T2);
      const __m512i both = _mm512_loadu_si512(from);
      first[t] = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
      second[t] = _mm512_castsi512_ps(_mm512_and_si512(both, high));
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const __m512i both = _mm512_set1_epi32(static_cast<int>(load_pair(a + r * lda + pair * 2)));
      const __m512 x = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)), y = _mm512_castsi512_ps(_mm512_and_si512(both, high));
#pragma GCC unroll 4
      for (int t = 0; t < kTiles; ++t) {
        sums[r][t] = _mm512_fmadd_ps(first[t], x, sums[r][t]);
        odd[r][t] = _mm512_fmadd_ps(second[t], y, odd[r][t]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTiles; ++t) sums[r][t] = _mm512_add_ps(sums[r][t], odd[r][t]);
  }
}

// The same where every sum is exact, whatever its order (grid.h): a pair at once, on processors that have an instruction for it.
template <int kRows, int kTiles>
inline void sum_in_any_order(const bf16* a, size_t lda, const char* b, const PairTiles& tiles, __m512 (&sums)[kRows][kTiles]) {
#ifdef __AVX512BF16__
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTiles; ++t) sums[r][t] = _mm512_setzero_ps();
  }
  for (int pair = 0; pair < 16; ++pair) {
    __m512bh columns[kTiles];
#pragma GCC unroll 4
    for (int t = 0; t < kTiles; ++t) {
      columns[t] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + t * tiles.tile_b + pair * tiles.row_b));
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(load_pair(a + r * lda + pair * 2))));
#pragma GCC unroll 4
      for (int t = 0; t < kTiles; ++t) sums[r][t] = _mm512_dpbf16_ps(sums[r][t], columns[t], x);
    }
  }
#else
  sum_apart(a, lda, b, tiles, sums);
#endif
}

template <bool kAnyOrder, int kRows, int kTiles>
inline void add_rows(const bf16* a, size_t lda, const PairTiles& tiles, int steps, bool onto, const SumTiles& c) {
  for (int step = 0; step < steps; ++step) {
    __m512 sums[kRows][kTiles];
    const char* b = tiles.data + step * tiles.step_b;
    if (kAnyOrder) {
      sum_in_any_order(a + step * 32, lda, b, tiles, sums);
    } else {
      sum_apart(a + step * 32, lda, b, tiles, sums);
    }
    for (int r = 0; r < kRows; ++r) {
      for (int t = 0; t < kTiles; ++t) {
        float* to = c.data + t * c.tile + r * c.row;
        const __m512 before = onto || step ? _mm512_load_ps(to) : _mm512_setzero_ps();
        _mm512_store_ps(to, _mm512_add_ps(before, sums[r][t]));
      }
    }
  }
}

}  // namespace detail

// Up to 16 rows by kTiles tiles of outputs over `steps` * 32 inputs, on top of what c holds if `onto`. a: rows of bf16, lda apart.
// kAnyOrder: the sum over a step is exact (grid.h).
template <bool kAnyOrder, int kTiles>
inline void add_block(const bf16* a, size_t lda, const PairTiles& tiles, int rows, int steps, bool onto, const SumTiles& c) {
  // As many sums as there are registers for them beside one row of B.
  constexpr int kMost = kTiles <= 2 || (kAnyOrder && kPairsAtOnce) ? 6 : 3;
  for (int parts = ceil_div(rows, kMost), row = 0; row < rows; --parts) {
    const int here = ceil_div(rows - row, parts);
    const bf16* from = a + row * lda;
    const SumTiles to{c.data + row * c.row, c.row, c.tile};
    switch (here) {
      case 1: detail::add_rows<kAnyOrder, 1, kTiles>(from, lda, tiles, steps, onto, to); break;
      case 2: detail::add_rows<kAnyOrder, 2, kTiles>(from, lda, tiles, steps, onto, to); break;
      case 3: detail::add_rows<kAnyOrder, 3, kTiles>(from, lda, tiles, steps, onto, to); break;
      case 4: detail::add_rows<kAnyOrder, 4, kTiles>(from, lda, tiles, steps, onto, to); break;
      case 5: detail::add_rows<kAnyOrder, 5, kTiles>(from, lda, tiles, steps, onto, to); break;
      default: detail::add_rows<kAnyOrder, 6, kTiles>(from, lda, tiles, steps, onto, to); break;
    }
    row += here;
  }
}

}  // namespace trimtab
