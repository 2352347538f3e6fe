// Products with bf16 weights. Weights lie in panels of 32 outputs: [K / 32][2 tiles][16 pairs of inputs][16 outputs][2].
// Each output is summed over its inputs in one fixed order, whatever the number of rows: docs/adr/0002.
#pragma once
#include "tiles.h"

namespace trimtab {

struct LinearBf16 {
  int inputs = 0, outputs = 0;
  int steps() const { return ceil_div(inputs, 32); }
  int panels() const { return ceil_div(outputs, kPanelBf16); }
  size_t panel_size() const { return static_cast<size_t>(steps()) * 32 * kPanelBf16; }
  const bf16* weights = nullptr;
};

// Tiles of one block of rows, before the caller adds, turns or rounds them: [tile of outputs][16 rows][16 outputs].
using Block = float[2][kTileRows * 16];

namespace detail {

constexpr size_t kAhead = 4096;  // bytes that are asked for before they are needed
constexpr size_t kFarAhead = 16384;  // the same where a core fetches ahead by itself, but not far enough: into the second cache

inline void load_ahead(const char* p) {
  for (int line = 0; line < 16; ++line) _mm_prefetch(p + kAhead + line * 64, _MM_HINT_T0);
}

inline void amx_narrow(const bf16* a, size_t lda, const bf16* panel, int steps, Block& out) {
  _tile_zero(0);
  _tile_zero(1);
  const char* b = reinterpret_cast<const char*>(panel);
  for (int step = 0; step < steps; ++step, b += 2048) {
    _tile_loadd(4, a + step * 32, lda * 2);
    load_ahead(b);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    load_ahead(b + 1024);
    _tile_loadd(7, b + 1024, 64);
    _tile_dpbf16ps(1, 4, 7);
  }
  _tile_stored(0, out[0], 64);
  _tile_stored(1, out[1], 64);
}

inline void amx_wide(const bf16* a, size_t lda, const bf16* panel, int steps, bool ahead, Block& first, Block& second) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const char* b = reinterpret_cast<const char*>(panel);
  const bf16* below = a + kTileRows * lda;
  for (int step = 0; step < steps; ++step, b += 2048) {
    if (ahead) {
      load_ahead(b);
      load_ahead(b + 1024);
    }
    _tile_loadd(4, a + step * 32, lda * 2);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + 1024, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, below + step * 32, lda * 2);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, first[0], 64);
  _tile_stored(1, first[1], 64);
  _tile_stored(2, second[0], 64);
  _tile_stored(3, second[1], 64);
}

}  // namespace detail

// Rows of A that a product over `rows` may read.
inline int padded_rows(int rows) { return rows <= kTileRows ? rows : round_up(rows, kTileRows); }

// Up to 32 rows by 32 outputs. `rows`: how many there are from here on; `ahead`: whether the panel comes from memory.
inline void multiply_block(bool amx, const bf16* a, size_t lda, const bf16* panel, int steps, int rows, bool ahead, Block& first,
                           Block& second) {
  if (!amx) {
    const int here = rows < kTileRows ? rows : kTileRows, rest = rows - here < kTileRows ? rows - here : kTileRows;
    const PairTiles tiles{reinterpret_cast<const char*>(panel), 64, 1024, 2048, ahead ? detail::kFarAhead : 0};
    add_block<false, 2>(a, lda, tiles, here, steps, false, {first[0], 16, kTileRows * 16});
    if (rest > 0) add_block<false, 2>(a + kTileRows * lda, lda, tiles, rest, steps, false, {second[0], 16, kTileRows * 16});
  } else if (rows <= kTileRows) {
    detail::amx_narrow(a, lda, panel, steps, first);
  } else {
    detail::amx_wide(a, lda, panel, steps, ahead, first, second);
  }
}

// One panel for all rows. a: [padded rows][lda] bf16. emit(first row, rows, tiles) is called for each 16 rows.
template <typename Emit>
inline void product(bool amx, const LinearBf16& w, const bf16* a, size_t lda, int rows, int panel, Emit&& emit) {
  alignas(64) Block first, second;
  const bf16* weights = w.weights + panel * w.panel_size();
  settle_stores();
  for (int row = 0; row < rows; row += 2 * kTileRows) {
    const int left = rows - row;
    multiply_block(amx, a + row * lda, lda, weights, w.steps(), left, row == 0, first, second);
    emit(row, left < kTileRows ? left : kTileRows, first[0]);
    if (left > kTileRows) emit(row + kTileRows, left < 2 * kTileRows ? left - kTileRows : kTileRows, second[0]);
  }
}

// w: [outputs][inputs] bf16 in rows; writes one panel, zeros where the matrix ends.
inline void pack_panel(const LinearBf16& w, const bf16* rows, int panel, bf16* out) {
  for (int step = 0; step < w.steps(); ++step) {
    for (int tile = 0; tile < 2; ++tile) {
      for (int pair = 0; pair < 16; ++pair) {
        for (int column = 0; column < 16; ++column) {
          const int n = panel * kPanelBf16 + tile * 16 + column;
          for (int half = 0; half < 2; ++half) {
            const int k = step * 32 + pair * 2 + half;
            *out++ = n < w.outputs && k < w.inputs ? rows[static_cast<size_t>(n) * w.inputs + k] : bf16{0};
          }
        }
      }
    }
  }
}

// Row n of the matrix, back as floats: the embedding of token n when the head is tied to it.
inline void unpack_row(const LinearBf16& w, int n, float* out) {
  const bf16* panel = w.weights + (n / kPanelBf16) * w.panel_size();
  const int tile = n % kPanelBf16 / 16, column = n % 16;
  for (int k = 0; k < w.inputs; ++k) {
    out[k] = from_bf16(panel[(k / 32) * 1024 + tile * 512 + (k % 32 / 2) * 32 + column * 2 + k % 2]);
  }
}

}  // namespace trimtab
