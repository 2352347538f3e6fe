// How keys and values lie in a block of the cache, and how a token's get there.
//
// A block holds keys as [16 keys each][D / 2][16][2] and values as [pairs of keys][D][2]: both are the B of a tile product as they lie
// there. In bf16 it has the keys of each key head, then the values of each. Narrow entries are whole numbers from -127 to 127; there it
// has for each key head its keys, its values, and the scales of the ones and the others, [tokens] bf16 each, all that one task reads
// side by side. An entry times its scale is what was written.
#pragma once
#include "common.h"

namespace trimtab {

struct KvLayout {
  uint8_t* pages = nullptr;  // of one layer: [blocks]
  int block_size = 0, key_heads = 0, dim = 0;
  bool narrow = false;

  size_t row_bytes() const { return static_cast<size_t>(dim) * (narrow ? 1 : sizeof(bf16)); }
  size_t head_bytes() const { return block_size * row_bytes(); }
  size_t scale_bytes() const { return narrow ? block_size * sizeof(bf16) : 0; }
  size_t block_bytes() const { return 2 * key_heads * (head_bytes() + scale_bytes()); }

  uint8_t* key_rows(int block, int head) const {
    return pages + block * block_bytes() + head * (narrow ? 2 * (head_bytes() + scale_bytes()) : head_bytes());
  }
  uint8_t* value_rows(int block, int head) const { return key_rows(block, head) + (narrow ? 1 : key_heads) * head_bytes(); }
  bf16* keys(int block, int head) const { return reinterpret_cast<bf16*>(key_rows(block, head)); }
  bf16* values(int block, int head) const { return reinterpret_cast<bf16*>(value_rows(block, head)); }
  int8_t* narrow_keys(int block, int head) const { return reinterpret_cast<int8_t*>(key_rows(block, head)); }
  int8_t* narrow_values(int block, int head) const { return reinterpret_cast<int8_t*>(value_rows(block, head)); }
  bf16* key_scales(int block, int head) const { return reinterpret_cast<bf16*>(key_rows(block, head) + 2 * head_bytes()); }
  bf16* value_scales(int block, int head) const { return key_scales(block, head) + block_size; }

  void write_key(int block, int offset, int head, const float* key) const {
    // Pairs of channels, 16 keys apart.
    const size_t at = static_cast<size_t>(offset / 16) * 16 * dim + (offset % 16) * 2;
    if (narrow) {
      const __m512 inverse = _mm512_set1_ps(narrowed(key, key_scales(block, head) + offset));
      int8_t* to = narrow_keys(block, head) + at;
      for (int d = 0; d < dim; d += 16) {
        alignas(16) uint16_t pairs[8];
        _mm_store_si128(reinterpret_cast<__m128i*>(pairs), to_int8(_mm512_loadu_ps(key + d), inverse));
        for (int i = 0; i < 8; ++i, to += 32) std::memcpy(to, pairs + i, 2);
      }
      return;
    }
    bf16* to = keys(block, head) + at;
    for (int d = 0; d < dim; d += 16) {
      alignas(32) uint32_t pairs[8];
      _mm256_store_si256(reinterpret_cast<__m256i*>(pairs), to_bf16(_mm512_loadu_ps(key + d)));
      for (int i = 0; i < 8; ++i, to += 32) std::memcpy(to, pairs + i, 4);
    }
  }

  void write_value(int block, int offset, int head, const float* value) const {
    const size_t at = static_cast<size_t>(offset / 2) * 2 * dim;
    // The other half of each pair is another token's, which another thread may be writing just now.
    const __mmask32 mine = offset % 2 ? 0xaaaaaaaau : 0x55555555u;
    if (narrow) {
      const __m512 inverse = _mm512_set1_ps(narrowed(value, value_scales(block, head) + offset));
      int8_t* to = narrow_values(block, head) + at;
      for (int d = 0; d < dim; d += 16, to += 32) {
        const __m256i wide = _mm256_cvtepu8_epi16(to_int8(_mm512_loadu_ps(value + d), inverse));
        _mm256_mask_storeu_epi8(to, mine, offset % 2 ? _mm256_slli_epi16(wide, 8) : wide);
      }
      return;
    }
    bf16* to = values(block, head) + at;
    for (int d = 0; d < dim; d += 16, to += 32) {
      const __m512i wide = _mm512_cvtepu16_epi32(to_bf16(_mm512_loadu_ps(value + d)));
      _mm512_mask_storeu_epi16(to, mine, offset % 2 ? _mm512_slli_epi32(wide, 16) : wide);
    }
  }

 private:
  // Rows below this count as zero, so that no product with a scale falls below what fp32 holds in full, where AMX and AVX-512 differ.
  static constexpr float kLeast = 1e-20f;

  // Writes the scale of a row, its largest entry over 127 rounded up to bf16, and returns its inverse. A row with an entry that is no
  // number gets a scale that is none.
  float narrowed(const float* row, bf16* scale) const {
    __m512 largest = _mm512_setzero_ps();
    __mmask16 nan = 0;
    for (int d = 0; d < dim; d += 16) {
      const __m512 x = _mm512_loadu_ps(row + d);
      nan = static_cast<__mmask16>(nan | _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q));
      largest = _mm512_max_ps(largest, _mm512_abs_ps(x));
    }
    const float top = nan ? NAN : _mm512_reduce_max_ps(largest);
    if (top < kLeast) {
      *scale = 0;
      return 0.0f;
    }
    *scale = to_bf16_up(top / 127.0f);
    return 1.0f / from_bf16(*scale);
  }

  static __m128i to_int8(__m512 x, __m512 inverse) { return _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x, inverse))); }
};

// Whole numbers of 8 bits to bf16, exactly; `count` is a multiple of 32.
inline void open_int8(const int8_t* from, bf16* to, size_t count) {
  const __m512i upper_halves = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25, 23, 21,
                                                19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  for (size_t i = 0; i < count; i += 32) {
    const __m512 a = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
    const __m512 b = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i + 16))));
    _mm512_storeu_si512(to + i, _mm512_permutex2var_epi16(_mm512_castps_si512(a), upper_halves, _mm512_castps_si512(b)));
  }
}

}  // namespace trimtab
