// From a matrix as checkpoints have it, [outputs][inputs] in rows, to the layouts of the products.
#pragma once
#include <algorithm>
#include <vector>

#include "linear_bf16.h"
#include "product_q.h"
#include "team.h"

namespace trimtab {

// `order` says which output stands at each place of the panels, -1 for none.
struct Source {
  const void* data;
  bool wide;  // fp32, else bf16
  int inputs, places;
  const int32_t* order;

  void row(int place, float* out) const {
    const int n = place < places ? order[place] : -1;
    if (n < 0) {
      std::memset(out, 0, sizeof(float) * inputs);
    } else if (wide) {
      std::memcpy(out, static_cast<const float*>(data) + static_cast<size_t>(n) * inputs, sizeof(float) * inputs);
    } else {
      const bf16* from = static_cast<const bf16*>(data) + static_cast<size_t>(n) * inputs;
      for (int k = 0; k < inputs; ++k) out[k] = from_bf16(from[k]);
    }
  }
};

inline void pack_bf16(const Source& source, LinearBf16 shape, bf16* out, Team& team) {
  team.run([&](int id) {
    std::vector<float> row(source.inputs);
    for (int panel; (panel = team.take(id, shape.panels())) >= 0;) {
      bf16* to = out + panel * shape.panel_size();
      std::memset(to, 0, shape.panel_size() * sizeof(bf16));
      for (int i = 0; i < kPanelBf16; ++i) {
        source.row(panel * kPanelBf16 + i, row.data());
        for (int k = 0; k < source.inputs; ++k) {
          to[(k / 32) * 1024 + (i / 16) * 512 + (k % 32 / 2) * 32 + (i % 16) * 2 + k % 2] = to_bf16(row[k]);
        }
      }
    }
  });
}

// Where a quantized matrix goes: planes, and factors, zeros and column scales for eight bits and for four.
struct PackedQ {
  uint8_t *high, *low;
  uint8_t *factor[2], *zero[2];
  float* column[2];
};

namespace detail {

inline uint8_t to_byte(float value, float least) { return static_cast<uint8_t>(std::min(255.0f, std::max(least, value))); }

// The byte with at most `bits` significant bits that is nearest to `value`.
inline uint8_t to_short_byte(float value, int bits) {
  const float inside = std::min(255.0f, std::max(1.0f, value));
  const float unit = power_of_two(std::max(0, floor_log2(inside) - bits + 1));
  const float byte = nearest(inside / unit) * unit;
  return static_cast<uint8_t>(byte > 255.0f ? 256.0f - unit : byte);
}

constexpr float kWeightMost = 255.0f;  // steps of int8's grid that a bf16 can count

// 32 weights of one output.
struct Weights32 {
  __m512 part[2];

  static Weights32 load(const float* w) { return {{_mm512_loadu_ps(w), _mm512_loadu_ps(w + 16)}}; }
  template <typename Each>
  Weights32 map(Each&& each) const {
    return {{each(part[0], 0), each(part[1], 1)}};
  }
  float sum() const { return _mm512_reduce_add_ps(_mm512_add_ps(part[0], part[1])); }
  float least() const { return _mm512_reduce_min_ps(_mm512_min_ps(part[0], part[1])); }
  float most() const { return _mm512_reduce_max_ps(_mm512_max_ps(part[0], part[1])); }
};

using trimtab::nearest;

inline __m512 nearest(__m512 x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline __m512 within(__m512 x, float least, float most) {
  return _mm512_max_ps(_mm512_set1_ps(least), _mm512_min_ps(_mm512_set1_ps(most), x));
}

// One output: codes for all its inputs, and for each 32 of them a factor and a zero, at [0] for eight bits and [1] for four.
struct ColumnQ {
  explicit ColumnQ(int groups) : codes(static_cast<size_t>(groups) * kWeightGroup), factor(groups * 2), zero(groups * 2) {}
  std::vector<uint8_t> codes;  // upper code * 16 + lower code
  std::vector<uint8_t> factor, zero;
  float column[2];

  // row: [groups * 32], zeros behind the last input.
  void quantize(const float* row, int groups) {
    float largest = 0;
    for (int k = 0; k < groups * kWeightGroup; ++k) largest = std::max(largest, std::fabs(row[k]));
    // In these units int4's factors are at most 136, and int8's grids from 1 to 128 with no weight above 6 * 128.
    column[1] = largest > 0 ? largest / 127.0f / 256.0f : 1.0f;
    upper_.resize(groups);
    for (int g = 0; g < groups; ++g) upper_[g] = four(Weights32::load(row + g * kWeightGroup), g);
    // Grids are powers of two of the first, and some first ones suit the groups better than others.
    float least = INFINITY, best = 1.0f;
    for (const float finer : {1.0f, 1.19f, 1.41f, 1.68f, 0.0f}) {
      column[0] = finer == 0 ? best : largest > 0 ? largest / 3.5f / 128.0f / finer : 1.0f;
      float error = 0;
      for (int g = 0; g < groups; ++g) {
        eight(Weights32::load(row + g * kWeightGroup), upper_[g], g);
        error += column[0] * column[0] * power_of_two(2 * (factor[g * 2] >> kStepBits));
      }
      if (error < least) least = error, best = column[0];
    }
  }

 private:
  std::vector<Weights32> upper_;

  struct Line {
    uint8_t factor, zero;
    float offset() const { return zero * zero_unit(factor); }
  };

  // The line 16 * factor * u - offset of bf16 numbers (see LinearQ) that is nearest to one of this slope; `offset_of` says which offset
  // is best for a factor. The factor is rounded first, since that moves the best offset.
  template <typename OffsetOf>
  static Line settle(float slope, OffsetOf&& offset_of) {
    Line line{};
    for (int bits = 5; bits >= 4; --bits) {
      line.factor = to_short_byte(slope, bits);
      const float unit = zero_unit(line.factor);
      line.zero = to_byte(nearest(offset_of(static_cast<float>(line.factor)) / unit), 0.0f);
      if (std::max(line.offset(), 240.0f * line.factor - line.offset()) <= 128.0f * unit) break;
    }
    return line;
  }

  // Codes and line by turns, from the range of the group (zero always within it) on: each code the nearest for the line, each line
  // the least squares for the codes.
  Weights32 four(const Weights32& weights, int g) {
    const __m512 per_unit = _mm512_set1_ps(1.0f / column[1]);
    const Weights32 w = weights.map([&](__m512 x, int) { return _mm512_mul_ps(x, per_unit); });
    const float low = std::min(0.0f, w.least()), high = std::max(0.0f, w.most());
    const float sum_w = w.sum();
    Line line = settle((high - low) / 240.0f, [&](float) { return -low; });
    Weights32 best{};
    float least = INFINITY;
    for (int turn = 0; turn < 4; ++turn) {
      const float scale = 16.0f * line.factor, offset = line.offset();
      const __m512 per_scale = _mm512_set1_ps(1.0f / scale), above = _mm512_set1_ps(offset);
      const Weights32 u = w.map([&](__m512 x, int) {
        return within(nearest(_mm512_mul_ps(_mm512_add_ps(x, above), per_scale)), 0.0f, 15.0f);
      });
      const Weights32 off = w.map([&](__m512 x, int i) {
        const __m512 error = _mm512_sub_ps(_mm512_fmsub_ps(u.part[i], _mm512_set1_ps(scale), above), x);
        return _mm512_mul_ps(error, error);
      });
      const float error = off.sum();
      if (!(error < least)) break;
      least = error, best = u;
      factor[g * 2 + 1] = line.factor, zero[g * 2 + 1] = line.zero;
      const float n = kWeightGroup, sum_u = u.sum();
      const float sum_uu = u.map([&](__m512 x, int) { return _mm512_mul_ps(x, x); }).sum();
      const float sum_uw = u.map([&](__m512 x, int i) { return _mm512_mul_ps(x, w.part[i]); }).sum();
      const float spread = n * sum_uu - sum_u * sum_u;
      if (!(spread > 0)) break;
      line = settle((n * sum_uw - sum_u * sum_w) / spread / 16.0f, [&](float f) { return (16.0f * f * sum_u - sum_w) / n; });
    }
    return best;
  }

  // The finest grid on which the lower codes, 16 steps, reach from what the upper code says to the weight.
  void eight(const Weights32& weights, const Weights32& upper, int g) {
    const float step_of_four = 16.0f * factor[g * 2 + 1] * column[1] / column[0];
    const float largest = std::max(weights.most(), -weights.least()) / column[0];
    int e = std::max(0, std::max(floor_log2(largest / (kWeightMost + 0.5f)) + 1, floor_log2(step_of_four / 16.5f) + 1));
    if (e > 0 && largest <= (kWeightMost + 0.5f) * power_of_two(e - 1) && step_of_four <= 16.5f * power_of_two(e - 1)) --e;
    for (;; ++e) {
      const float per_grid = power_of_two(-e) / column[0], wanted = power_of_two(-e) * step_of_four;
      const Weights32 on_grid = weights.map([&](__m512 x, int) {
        return within(nearest(_mm512_mul_ps(x, _mm512_set1_ps(per_grid))), -kWeightMost, kWeightMost);
      });
      const float nearer = nearest(wanted), other = nearer > wanted ? nearer - 1 : nearer + 1;
      // The coarsest grid has no weight above 6 steps: the lower codes alone reach them all.
      for (const float step : {nearer, other, 0.0f}) {
        if (step > 16.0f || step < 0.0f || (step == 0.0f && e < 7)) continue;
        const Weights32 left = upper.map([&](__m512 u, int i) { return _mm512_fnmadd_ps(u, _mm512_set1_ps(step), on_grid.part[i]); });
        const float low = left.least(), high = left.most(), offset = std::max(0.0f, std::ceil((15.0f - high - low) / 2.0f));
        const float fitting = std::min(std::max(offset, -low), std::max(0.0f, 15.0f - high));
        if (high - low > 15.0f || fitting < -low || fitting + high > 15.0f || fitting > 255.0f) continue;
        factor[g * 2] = static_cast<uint8_t>(e << kStepBits | static_cast<int>(step));
        zero[g * 2] = static_cast<uint8_t>(fitting);
        for (int i = 0; i < 2; ++i) {
          const __m512 lower = _mm512_add_ps(left.part[i], _mm512_set1_ps(fitting));
          const __m512 both = _mm512_fmadd_ps(upper.part[i], _mm512_set1_ps(16.0f), lower);
          const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(both));
          _mm_storeu_si128(reinterpret_cast<__m128i*>(codes.data() + g * kWeightGroup + i * 16), bytes);
        }
        return;
      }
    }
  }
};

}  // namespace detail

namespace detail {

// 16 x 16 bytes: four rounds of perfect shuffles.
inline void transpose(const uint8_t* in, size_t in_stride, uint8_t* out, size_t out_stride) {
  __m128i x[16], y[16];
  for (int i = 0; i < 16; ++i) x[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i * in_stride));
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 8; ++i) {
      y[2 * i] = _mm_unpacklo_epi8(x[i], x[i + 8]);
      y[2 * i + 1] = _mm_unpackhi_epi8(x[i], x[i + 8]);
    }
    std::memcpy(x, y, sizeof x);
  }
  for (int i = 0; i < 16; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i * out_stride), x[i]);
}

// One group's lines of both planes from the codes of 128 outputs, [128][stride] with those of even tiles and of odd ones apart, each at
// the byte that they share.
inline void lay_lines(const uint8_t* codes, size_t stride, bool half, uint8_t* high, uint8_t* low) {
  alignas(64) uint8_t halves[2][64][kWeightGroup], lines[2][kWeightGroup][64];
  const __m256i upper = _mm256_set1_epi8(static_cast<char>(0xf0));
  for (int byte = 0; byte < 64; ++byte) {
    const __m256i even = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + byte * stride));
    const __m256i odd = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + (64 + byte) * stride));
    const __m256i highs = _mm256_or_si256(_mm256_andnot_si256(upper, _mm256_srli_epi16(even, 4)), _mm256_and_si256(upper, odd));
    const __m256i lows = _mm256_or_si256(_mm256_andnot_si256(upper, even), _mm256_and_si256(upper, _mm256_slli_epi16(odd, 4)));
    _mm256_store_si256(reinterpret_cast<__m256i*>(halves[0][byte]), highs);
    _mm256_store_si256(reinterpret_cast<__m256i*>(halves[1][byte]), lows);
  }
  for (int plane = 0; plane < 2; ++plane) {
    for (int byte = 0; byte < 64; byte += 16) {
      for (int k = 0; k < kWeightGroup; k += 16) transpose(&halves[plane][byte][k], kWeightGroup, &lines[plane][k][byte], 64);
    }
    for (int k = 0; k < kWeightGroup; ++k) {
      uint8_t* to = plane ? low : high;
      const __m512i line = _mm512_load_si512(lines[plane][k]);
      if (half) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + line_of(k) * 32), _mm512_cvtepi32_epi16(line));
      } else {
        _mm512_storeu_si512(to + line_of(k) * 64, line);
      }
    }
  }
}

}  // namespace detail

inline void pack_q(const Source& source, const LinearQ& shape, const PackedQ& out, Team& team) {
  const int groups = shape.groups();
  const size_t depth = static_cast<size_t>(groups) * kWeightGroup;
  team.run([&](int id) {
    std::vector<float> row(depth);
    std::vector<uint8_t> codes(depth * kPanelQ);
    detail::ColumnQ packed(groups);
    for (int panel; (panel = team.take(id, shape.panels())) >= 0;) {
      for (int i = 0; i < kPanelQ; ++i) {
        source.row(panel * kPanelQ + i, row.data());
        packed.quantize(row.data(), groups);
        const Place place = place_of(i);
        std::memcpy(codes.data() + (place.shift / 4 * 64 + place.byte) * depth, packed.codes.data(), depth);
        for (int bits = 0; bits < 2; ++bits) {
          for (int g = 0; g < groups; ++g) {
            const size_t at = shape.factors_at(panel, g) + factor_place(i);
            out.factor[bits][at] = packed.factor[g * 2 + bits];
            out.zero[bits][at] = packed.zero[g * 2 + bits];
          }
          out.column[bits][panel * kPanelQ + i] = packed.column[bits];
        }
      }
      for (int g = 0; g < groups; ++g) {
        const size_t at = shape.line_at(panel, g * kWeightGroup);
        detail::lay_lines(codes.data() + g * kWeightGroup, depth, shape.is_half(panel), out.high + at, out.low + at);
      }
    }
  });
}

}  // namespace trimtab
