// Types and small helpers that every kernel here uses.
// Letters: M rows of a step, K inputs, N outputs of a matrix, D head dim.
#pragma once
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace trimtab {

using bf16 = uint16_t;

constexpr int kChannels = 64;    // channels of a row are padded to a multiple of this: four vectors at a time
constexpr int kPanelBf16 = 32;   // outputs of one task of a bf16 product: two tiles of 16
constexpr int kPanelQ = 128;     // outputs of one task of a quantized product: one cache line of nibbles per input
constexpr int kTileRows = 16;

inline int round_up(int value, int to) { return (value + to - 1) / to * to; }
inline int ceil_div(int value, int by) { return (value + by - 1) / by; }

// Rounds to nearest even, as hardware does; a NaN stays one.
inline bf16 to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<bf16>((bits >> 16) | 0x40u);
  return static_cast<bf16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Rounds a positive number up; a NaN stays one.
inline bf16 to_bf16_up(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (bits > 0x7f800000u) return 0x7fc0u;
  return static_cast<bf16>((bits + 0xffffu) >> 16);
}

inline float from_bf16(bf16 value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

// 2^exponent and floor(log2 x), for normal numbers. The library's own take a call each.
inline float power_of_two(int exponent) {
  const uint32_t bits = static_cast<uint32_t>(exponent + 127) << 23;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline int floor_log2(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<int>(bits >> 23 & 255) - 127;
}

inline float nearest(float x) { return _mm_cvtss_f32(_mm_round_ss(_mm_set_ss(x), _mm_set_ss(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }

// 16 floats to 16 bf16, rounded to nearest even.
inline __m256i to_bf16(__m512 value) {
#ifdef __AVX512BF16__
  return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value));
#else
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0)));
#endif
}

inline __m512 from_bf16(__m256i value) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(value), 16));
}

inline __m512 load_bf16(const bf16* from) { return from_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))); }

// 2^x for x <= 0, to within 3e-6 of itself: x = n + f with |f| <= 1/2, Taylor series of e^(f ln 2) to degree 5. What comes of it is
// rounded to 8 bits right after.
inline __m512 exp2_ps(__m512 x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(-150.0f));
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_mul_ps(_mm512_sub_ps(x, whole), _mm512_set1_ps(0.6931471805599453f));
  __m512 p = _mm512_set1_ps(1.0f / 120);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f / 24));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f / 6));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.5f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, whole);
}

// x / (1 + e^-z).
inline __m512 opened_ps(__m512 x, __m512 z) {
  const __m512 scaled = _mm512_mul_ps(_mm512_abs_ps(z), _mm512_set1_ps(-1.4426950408889634f));
  const __m512 e = exp2_ps(scaled);  // e^-|z|, never overflows
  const __m512 sum = _mm512_add_ps(_mm512_set1_ps(1.0f), e);
  const __mmask16 negative = _mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_LT_OQ);
  const __m512 above = _mm512_mask_mul_ps(x, negative, x, e);
  return _mm512_div_ps(above, sum);
}

inline __m512 silu_ps(__m512 x) { return opened_ps(x, x); }

// The tanh form of GELU (Hendrycks & Gimpel, "Gaussian Error Linear Units", 2016): x (1 + tanh u) / 2 is x / (1 + e^-2u).
inline __m512 gelu_ps(__m512 x) {
  const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
  const __m512 u = _mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), x);
  return opened_ps(x, _mm512_mul_ps(u, _mm512_set1_ps(2 * 0.7978845608028654f)));
}

// Memory that grows and never shrinks, on 64-byte borders. Contents are lost when it grows.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }
  template <typename T>
  T* get(size_t count) {
    const size_t bytes = (count * sizeof(T) + 4095) / 4096 * 4096;
    if (bytes > size_) {
      std::free(data_);
      size_ = 0;
      data_ = std::aligned_alloc(4096, bytes);
      if (data_ == nullptr) throw std::bad_alloc();
      size_ = bytes;
      std::memset(data_, 0, bytes);  // what tiles read beyond the last row is a number, whatever it is
    }
    return static_cast<T*>(data_);
  }
  size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace trimtab
