// Products with weights of 8 or 4 bits and activations on a grid (grid.h).
//
// Whatever the number of rows, each output is summed over its inputs 32 at a time, exactly, onto the sum before, and then multiplied by
// a scale: equal rows give equal bits (docs/adr/0002). One row is summed in whole numbers, by what is not zero (row_q.h), a few in whole
// numbers where there are no tiles (rows_q.h); for more, weights are opened to bf16 (open_q.h).
#pragma once
#include <climits>

#include "open_q.h"
#include "rows_q.h"

namespace trimtab {

// What one thread needs to compute products.
struct ScratchQ {
  Buffer opened, sums, totals;
  ActiveList list;
};

// Up to how many rows are summed in whole numbers: beyond, weights are opened to bf16. With tiles, one. Without, whole numbers are best
// for few rows: opening takes as long as the products of four. Eight bits need two products where four need one. Measured on Zen 4, with
// and without an instruction for pairs of bf16 (docs/adr/0007).
inline int most_whole_rows(bool amx, const LinearQ& w) {
  if (amx) return 1;
  return w.low ? (kPairsAtOnce ? 3 : 24) : (kPairsAtOnce ? 32 : INT_MAX);
}

namespace detail {

constexpr int kChunk = 4;  // groups that are opened before they are multiplied: 32 KiB, which stay in the nearest cache
// Between the tiles of a chunk. One line more than they take: stores a multiple of 4 KiB apart are in one another's way.
constexpr size_t kChunkStride = kChunk * 1024 + 64;

constexpr int kFew = 2;  // the same without tiles: 16 KiB, beside which activations and sums have room
constexpr size_t kFewStride = kFew * 1024 + 64;

// The product of rows as bf16, without tiles.
template <typename Emit>
inline void product_in_blocks(const LinearQ& w, const bf16* a, size_t lda, int rows, int panel, int begin, int end, ScratchQ& scratch, Emit&& emit) {
  constexpr int kTile = kTileRows * 16;
  // Whatever the number of rows: an opened chunk stays in the nearest cache, and sums pass by it.
  const int blocks = ceil_div(rows, kTileRows);
  uint8_t* opened = scratch.opened.get<uint8_t>(kTilesQ * kFewStride);
  float* sums = scratch.sums.get<float>(static_cast<size_t>(blocks) * kTilesQ * kTile);
  for (int group = begin; group < end; group += kFew) {
    const int here = std::min(kFew, end - group);
    for (int i = 0; i < here; ++i) open(w, panel, group + i, opened + i * 1024, kFewStride, true);
    for (int block = 0; block < blocks; ++block) {
      const bf16* from = a + static_cast<size_t>(block) * kTileRows * lda + group * kWeightGroup;
      float* to = sums + static_cast<size_t>(block) * kTilesQ * kTile;
      for (int half = 0; half < kTilesQ; half += 4) {
        const char* b = reinterpret_cast<const char*>(opened) + half * kFewStride;
        add_block<true, 4>(from, lda, {b, 64, kFewStride, 1024}, std::min(rows - block * kTileRows, kTileRows), here, group != begin,
                           {to + half * kTile, 16, kTile});
      }
    }
  }
  for (int block = 0; block < blocks; ++block) {
    emit(block * kTileRows, std::min(rows - block * kTileRows, kTileRows), sums + static_cast<size_t>(block) * kTilesQ * kTile);
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

// Before the panels of a matrix in whole numbers: with one row, finds what there is to walk along.
inline void prepare_q(const LinearQ& w, const GridRows& whole, int rows, float walk_above, ScratchQ& scratch) {
  if (rows == 1) scratch.list.build(whole, w, walk_above);
}

// One panel, or one half of its sums, for all rows, in whole numbers.
// emit(first row, rows, tiles) with tiles [8][16 rows][16 outputs], for each 16 rows: sums to be multiplied by `column`.
template <typename Emit>
inline void product(const LinearQ& w, const GridRows& whole, int rows, int panel, int split, ScratchQ& scratch, Emit&& emit) {
  const int begin = w.split_at(split), end = w.split_at(split + 1);
  float* sums = scratch.sums.get<float>(kTilesQ * kTileRows * 16);
  if (rows == 1) {
    detail::multiply_row(w, panel, begin, end, scratch.list, sums);
    emit(0, 1, sums);
    return;
  }
  uint8_t* codes = scratch.opened.get<uint8_t>(2 * detail::kCodesSize);
  float* totals = scratch.totals.get<float>(static_cast<size_t>(rows) * kPanelQ);
  detail::multiply_rows(w, panel, begin, end, whole, rows, codes, totals);
  for (int block = 0; block < rows; block += kTileRows) {
    const int here = std::min(rows - block, kTileRows);
    for (int row = 0; row < here; ++row) {
      __m512 total[8];
      for (int i = 0; i < 8; ++i) total[i] = _mm512_load_ps(totals + static_cast<size_t>(block + row) * kPanelQ + i * 16);
      detail::store_tiles(total, sums + row * 16);
    }
    emit(block, here, sums);
  }
}

// The same for rows as bf16. a: [padded rows][lda].
template <typename Emit>
inline void product(bool amx, const LinearQ& w, const bf16* a, size_t lda, int rows, int panel, int split, ScratchQ& scratch, Emit&& emit) {
  constexpr int kTile = kTileRows * 16;
  const int begin = w.split_at(split), end = w.split_at(split + 1);
  if (!amx) return detail::product_in_blocks(w, a, lda, rows, panel, begin, end, scratch, emit);
  if (rows <= 4 * kTileRows) {
    // Few rows: sums wait in memory while the next groups are opened.
    const int blocks = ceil_div(rows, kTileRows);
    uint8_t* opened = scratch.opened.get<uint8_t>(kTilesQ * detail::kChunkStride);
    float* sums = scratch.sums.get<float>(static_cast<size_t>(blocks) * kTilesQ * kTile);
    for (int group = begin; group < end; group += detail::kChunk) {
      const int here = std::min(detail::kChunk, end - group);
      for (int i = 0; i < here; ++i) detail::open(w, panel, group + i, opened + i * 1024, detail::kChunkStride, false);
      settle_stores();
      for (int block = 0; block < blocks; ++block) {
        const bf16* from = a + static_cast<size_t>(block) * kTileRows * lda + group * kWeightGroup;
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
    detail::open(w, panel, group, tiles, 1024, false);
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
      multiply_block(true, from, lda, b, steps, left, false, first, second);
    }
    emit(row, std::min(left, kTileRows), out[0]);
    if (left > kTileRows) emit(row + kTileRows, std::min(left - kTileRows, kTileRows), out[1]);
  }
}

}  // namespace trimtab
