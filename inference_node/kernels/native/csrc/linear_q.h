// Products with weights of 8 or 4 bits and activations in bf16.
//
// One store serves both precisions. A weight is a byte q with a zero and a factor for each 32 inputs, and its two halves lie in two
// planes: int8 reads both, int4 the upper one alone (16 * (q / 16)) with zeros and factors fitted to what is left. So that few bytes
// come from memory and tiles do the sums, weights are opened to bf16 on their way: factor * (q - zero); the sums are then multiplied
// by a scale for each output.
//
// A plane is cut in panels of 128 outputs: [K][64 bytes], two outputs in a byte; `place_of` says which. So one input is one cache line
// of a plane, and an input whose activation is zero need not be read. Of each 32 inputs the even ones come first, since one row is
// summed in this order, and hardware fetches ahead what is walked along upwards.
//
// With eight bits a weight is factor * (q - zero). With four it is factor * 16 * (q / 16) - zero * zero_unit(factor), where the factor
// has five significant bits, so that both terms are multiples of zero_unit / 2, and no weight is more than 256 of those: four where
// it would be, of twice the unit. So it is a bf16 number.
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

// What one of a zero is worth where weights have four bits: the last of the factor's five bits, times 32.
inline float zero_unit(int factor) { return std::ldexp(2.0f, std::ilogb(static_cast<float>(factor))); }

inline int line_of(int input) { return input / kWeightGroup * kWeightGroup + input % 2 * (kWeightGroup / 2) + input % kWeightGroup / 2; }

// An opened weight of eight bits is cut to bf16, not rounded, which takes a third of the work. What that makes sums too small by is
// put back with the scale of the output: the mean of what is lost, 2^-7 * (1/2) of a mantissa m in [1, 2), weighed by m^2. One of
// four bits is a bf16 as it is.
constexpr float kUncut = 1.0f + 9.0f / 14.0f / 256.0f;

// The inputs of one row that are not zero, in the order in which a tile adds them up: in each group first the even, then the odd ones.
// What is left out would have added zero.
struct ActiveList {
  // Inputs that are asked for before they are needed: one plane's into the nearest cache; two planes', which come as fast as a core
  // can ask for them, early into a larger one and late into the nearest, so that few requests wait there.
  static constexpr int kAhead = 64, kFar = 128, kNear = 16;
  Buffer lines_buffer, values_buffer, later_buffer, far_buffer, ends_buffer;
  uint16_t* lines = nullptr;
  float* values = nullptr;
  // Where in the planes, from the panel on, the lines lie that come so many inputs after this one.
  uint32_t *later = nullptr, *far = nullptr;
  int* ends = nullptr;        // [groups][2]: where the even and the odd inputs of a group end
  const int* begin(int group) const { return ends + group * 2 - 1; }

  void build(const bf16* a, const LinearQ& w) {
    const int groups = w.groups(), most = groups * kWeightGroup + 16;  // vectors of 16 are written, whatever is in them
    lines = lines_buffer.get<uint16_t>(most);
    values = values_buffer.get<float>(most);
    later = later_buffer.get<uint32_t>(most);
    far = far_buffer.get<uint32_t>(most);
    ends = ends_buffer.get<int>(groups * 2 + 1);
    *ends++ = 0;
    const __m512i steps = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    int count = 0;
    for (int group = 0; group < groups; ++group) {
      const __m512i pairs = _mm512_loadu_si512(a + group * kWeightGroup);
      for (int odd = 0; odd < 2; ++odd) {
        const __m512i x = odd ? _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))) : _mm512_slli_epi32(pairs, 16);
        const __mmask16 kept = _mm512_test_epi32_mask(x, _mm512_set1_epi32(0x7fffffff));  // a negative zero is none either
        const __m512i here = _mm512_add_epi32(steps, _mm512_set1_epi32(group * kWeightGroup + odd * 16));
        _mm512_storeu_si512(values + count, _mm512_maskz_compress_epi32(kept, x));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(lines + count), _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(kept, here)));
        count += __builtin_popcount(kept);
        ends[group * 2 + odd] = count;
      }
    }
    look_ahead(w, w.low ? kNear : kAhead, later);
    if (w.low) look_ahead(w, kFar, far);
  }

 private:
  // Panels, and halves of panels where sums are cut, follow one another in memory as they do in time.
  void look_ahead(const LinearQ& w, int ahead, uint32_t* there) const {
    for (int split = 0; split < w.splits; ++split) {
      const int first = *begin(w.split_at(split)), end = *begin(w.split_at(split + 1));
      const bool last = split + 1 == w.splits;
      const int inside = std::max(first, end - ahead);
      for (int i = first; i < inside; ++i) there[i] = lines[i + ahead] * 64u;
      const uint32_t base = last ? static_cast<uint32_t>(w.plane_size()) : 0;
      const int next = last ? 0 : end, next_end = *begin(w.split_at(last ? 1 : split + 2));
      for (int i = inside; i < end; ++i) there[i] = base + lines[std::max(0, std::min(next + i + ahead - end, next_end - 1))] * 64u;
    }
  }
};

// What one thread needs to compute products.
struct ScratchQ {
  Buffer opened, sums;
  ActiveList list;
};

namespace detail {

constexpr size_t kAheadQ = 2048;
constexpr int kChunk = 4;  // groups that are opened before they are multiplied: 32 KiB, which stay in the nearest cache
// Between the tiles of a chunk. One line more than they take: stores a multiple of 4 KiB apart are in one another's way.
constexpr size_t kChunkStride = kChunk * 1024 + 64;

// A byte or half of one that is put into the mantissa of a float of 2^e counts ones there: e = 15 for the second byte of a word. Of
// the eight halves of a word, those at bits 8, 12 and 16 stand where mantissas are; the others are shifted there.
constexpr float kLift = 32768.0f;
constexpr int kHalfAt[8] = {8, 12, 8, 12, 16, 8, 12, 16};

inline __m512 masked_float(__m512i words, int mask, float base) {
  constexpr int kAndOr = 0xea;
  const __m512i exponent = _mm512_castps_si512(_mm512_set1_ps(base));
  return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(words, _mm512_set1_epi32(mask), exponent, kAndOr));
}

// Byte `i` of each word as the float 2^15 + byte.
inline __m512 lift_byte(__m512i words, int i) {
  if (i == 1) return masked_float(words, 0xff00, kLift);
  const __m512i steps = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i places = _mm512_slli_epi32(_mm512_add_epi32(_mm512_slli_epi32(steps, 2), _mm512_set1_epi32(i)), 8);
  const __m512i base = _mm512_castps_si512(_mm512_set1_ps(kLift));
  return _mm512_castsi512_ps(_mm512_mask_permutexvar_epi8(base, 0x2222222222222222ull, places, words));
}

// An input's planes, ready to be lifted: shifted for halves, put together for bytes.
template <bool kLow>
constexpr float lifted_by(int tile) {
  if (kLow || kHalfAt[tile] == 12) return kLift;
  return kHalfAt[tile] == 8 ? kLift * 16 : kLift / 16;
}

template <bool kLow>
struct Words {
  __m512i part[kLow ? 2 : 3];

  Words(const uint8_t* high_line, const uint8_t* low_line) {
    const __m512i high = _mm512_loadu_si512(high_line);
    if (kLow) {
      const __m512i low = _mm512_loadu_si512(low_line), upper = _mm512_set1_epi8(static_cast<char>(0xf0));
      part[0] = _mm512_ternarylogic_epi32(upper, _mm512_slli_epi32(high, 4), low, 0xca);
      part[1] = _mm512_ternarylogic_epi32(upper, high, _mm512_srli_epi32(low, 4), 0xca);
    } else {
      part[0] = _mm512_slli_epi32(high, 8);
      part[1] = high;
      part[kLow ? 0 : 2] = _mm512_srli_epi32(high, 12);
    }
  }

  // The 16 outputs of a tile as floats that are `lifted_by(tile)` above what they stand for.
  __m512 lift(int tile) const {
    if (kLow) return lift_byte(part[tile % 2], tile / 2);
    return masked_float(part[tile < 2 ? 0 : tile < 5 ? 1 : kLow ? 0 : 2], 15 << kHalfAt[tile], lifted_by<kLow>(tile));
  }
};

// One group's factors, and what factor * lifted is above the weight, exactly.
struct Scales {
  alignas(64) float scale[kPanelQ], shift[kPanelQ];

  template <bool kLow, int kTiles = kTilesQ>
  void load(const LinearQ& w, int panel, int group) {
    const size_t at = panel * w.factors_size() + static_cast<size_t>(group) * kPanelQ;
    const uint8_t *zero = w.zero + at, *factor = w.factor + at;
    for (int tile = 0; tile < kTiles; ++tile) {
      const __m512 s = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(factor + tile * 16))));
      const __m512 z = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(zero + tile * 16))));
      _mm512_store_ps(scale + tile * 16, s);
      const __m512 lift = _mm512_set1_ps(lifted_by<kLow>(tile));
      const __m512 of_four = _mm512_fmadd_ps(lift, s, _mm512_scalef_ps(z, _mm512_getexp_ps(_mm512_add_ps(s, s))));
      _mm512_store_ps(shift + tile * 16, kLow ? _mm512_mul_ps(_mm512_add_ps(z, lift), s) : of_four);
    }
  }
};

// Two inputs x 128 outputs to one row of each of the 8 tiles, which lie tile_stride bytes apart.
template <bool kLow>
inline void open_pair(const uint8_t* const (&high)[2], const uint8_t* const (&low)[2], const Scales& scales, uint8_t* out,
                      size_t tile_stride) {
  const Words<kLow> even(high[0], low[0]), odd(high[1], low[1]);
  const __m512i steps = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i upper_halves = _mm512_add_epi32(_mm512_slli_epi32(steps, 2), _mm512_mullo_epi32(steps, _mm512_set1_epi32(0x400)));
  const __m512i places = _mm512_add_epi32(upper_halves, _mm512_set1_epi32(0x0302));
#pragma GCC unroll 8
  for (int tile = 0; tile < kTilesQ; ++tile) {
    const __m512 scale = _mm512_load_ps(scales.scale + tile * 16), shift = _mm512_load_ps(scales.shift + tile * 16);
    const __m512i a = _mm512_castps_si512(_mm512_fmsub_ps(even.lift(tile), scale, shift));
    const __m512i b = _mm512_castps_si512(_mm512_fmsub_ps(odd.lift(tile), scale, shift));
    // The upper half of b stays where it is; below it comes the upper half of a.
    _mm512_store_si512(out + tile * tile_stride, _mm512_mask_permutexvar_epi8(b, 0x3333333333333333ull, places, a));
  }
}

// Opens one group of a panel. Tiles lie tile_stride bytes apart; each is [16 pairs][16 outputs][2] bf16.
template <bool kLow>
inline void open_group(const LinearQ& w, int panel, int group, uint8_t* out, size_t tile_stride) {
  const uint8_t* high = w.high + panel * w.plane_size();
  const uint8_t* low = kLow ? w.low + panel * w.plane_size() : nullptr;
  Scales scales;
  scales.load<kLow>(w, panel, group);
  for (int pair = 0; pair < 16; ++pair) {
    const uint8_t *h[2], *l[2];
    for (int j = 0; j < 2; ++j) {
      const size_t line = static_cast<size_t>(group * kWeightGroup + j * 16 + pair) * 64;
      h[j] = high + line;
      l[j] = kLow ? low + line : nullptr;
      _mm_prefetch(h[j] + kAheadQ, _MM_HINT_T0);
      if (kLow) _mm_prefetch(l[j] + kAheadQ, _MM_HINT_T0);
    }
    open_pair<kLow>(h, l, scales, out + pair * 64, tile_stride);
  }
}

inline void open(const LinearQ& w, int panel, int group, uint8_t* out, size_t tile_stride) {
  w.low ? open_group<true>(w, panel, group, out, tile_stride) : open_group<false>(w, panel, group, out, tile_stride);
}

// Adds inputs `begin` to `end` of the list, their weights each as bf16, to the sums of a panel's first kTiles tiles.
template <bool kLow, int kTiles>
inline void add_inputs(const uint8_t* high, const uint8_t* low, const ActiveList& list, int begin, int end, const Scales& scales,
                       __m512 (&sums)[kTiles]) {
  const __m512i kept = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  for (int i = begin; i < end; ++i) {
    _mm_prefetch(high + list.later[i], _MM_HINT_T0);
    if (kLow) {
      _mm_prefetch(low + list.later[i], _MM_HINT_T0);
      _mm_prefetch(high + list.far[i], _MM_HINT_T2);
      _mm_prefetch(low + list.far[i], _MM_HINT_T2);
    }
    const size_t line = list.lines[i] * size_t{64};
    const Words<kLow> words(high + line, low + line);
    const __m512 x = _mm512_set1_ps(list.values[i]);
#pragma GCC unroll 8
    for (int tile = 0; tile < kTiles; ++tile) {
      __m512 w = _mm512_fmsub_ps(words.lift(tile), _mm512_load_ps(scales.scale + tile * 16), _mm512_load_ps(scales.shift + tile * 16));
      if (kLow) w = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(w), kept));
      sums[tile] = _mm512_fmadd_ps(w, x, sums[tile]);
    }
  }
}

// One row's sums over groups `begin` to `end`, as tiles would make them, without the work of filling and emptying those. Of the last
// panel's outputs only half may be there.
template <bool kLow, int kTiles>
inline void multiply_tiles(const LinearQ& w, int panel, int begin, int end, const ActiveList& list, float* sums) {
  const uint8_t* high = w.high + panel * w.plane_size();
  const uint8_t* low = kLow ? w.low + panel * w.plane_size() : high;
  __m512 total[kTiles];
  for (auto& t : total) t = _mm512_setzero_ps();
  for (int group = begin; group < end; ++group) {
    Scales scales;
    scales.load<kLow, kTiles>(w, panel, group);
    __m512 even[kTiles], odd[kTiles];
    for (int tile = 0; tile < kTiles; ++tile) even[tile] = odd[tile] = _mm512_setzero_ps();
    const int* ends = list.begin(group);
    add_inputs<kLow, kTiles>(high, low, list, ends[0], ends[1], scales, even);
    add_inputs<kLow, kTiles>(high, low, list, ends[1], ends[2], scales, odd);
    for (int tile = 0; tile < kTiles; ++tile) total[tile] = _mm512_add_ps(total[tile], _mm512_add_ps(even[tile], odd[tile]));
  }
  for (int tile = 0; tile < kTiles; ++tile) _mm512_store_ps(sums + tile * kTileRows * 16, total[tile]);
}

template <bool kLow>
inline void multiply_row(const LinearQ& w, int panel, int begin, int end, const ActiveList& list, float* sums) {
  const bool is_half = w.outputs - panel * kPanelQ <= kPanelQ / 2;
  is_half ? multiply_tiles<kLow, kTilesQ / 2>(w, panel, begin, end, list, sums)
          : multiply_tiles<kLow, kTilesQ>(w, panel, begin, end, list, sums);
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

// Before the panels of a matrix: with one row, finds what there is to walk along.
inline void prepare_q(const LinearQ& w, const bf16* a, int num_rows, ScratchQ& scratch) {
  if (num_rows == 1) scratch.list.build(a, w);
}

// One panel, or one half of its sums, for all rows. a: [padded rows][lda] bf16.
// emit(first row, rows, tiles) with tiles [8][16 rows][16 outputs], for each 16 rows: sums to be multiplied by `column`.
template <typename Emit>
inline void product(bool amx, const LinearQ& w, const bf16* a, size_t lda, int rows, int panel, int split, ScratchQ& scratch, Emit&& emit) {
  constexpr int kTile = kTileRows * 16;
  const int begin = w.split_at(split), end = w.split_at(split + 1);
  if (rows == 1) {
    float* sums = scratch.sums.get<float>(kTilesQ * kTile);
    w.low ? detail::multiply_row<true>(w, panel, begin, end, scratch.list, sums)
          : detail::multiply_row<false>(w, panel, begin, end, scratch.list, sums);
    emit(0, 1, sums);
    return;
  }
  if (amx && rows <= 4 * kTileRows) {
    // Few rows: sums wait in memory while the next groups are opened.
    const int blocks = ceil_div(rows, kTileRows);
    uint8_t* opened = scratch.opened.get<uint8_t>(kTilesQ * detail::kChunkStride);
    float* sums = scratch.sums.get<float>(static_cast<size_t>(blocks) * kTilesQ * kTile);
    for (int group = begin; group < end; group += detail::kChunk) {
      const int here = std::min(detail::kChunk, end - group);
      for (int i = 0; i < here; ++i) detail::open(w, panel, group + i, opened + i * 1024, detail::kChunkStride);
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
    detail::open(w, panel, group, tiles, 1024);
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
  const int panel = n / kPanelQ;
  const Place place = place_of(n % kPanelQ);
  for (int k = 0; k < w.inputs; ++k) {
    const size_t byte = panel * w.plane_size() + static_cast<size_t>(line_of(k)) * 64 + place.byte;
    const int upper = w.high[byte] >> place.shift & 15, lower = w.low ? w.low[byte] >> place.shift & 15 : 0;
    const size_t at = panel * w.factors_size() + static_cast<size_t>(k / kWeightGroup) * kPanelQ + n % kPanelQ;
    const int factor = w.factor[at], zero = w.zero[at];
    const float weight = w.low ? factor * (upper * 16 + lower - zero) : factor * 16 * upper - zero * zero_unit(factor);
    out[k] = w.column[n] * weight;
  }
}

}  // namespace trimtab
