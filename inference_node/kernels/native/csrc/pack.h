// From a matrix as checkpoints have it, [outputs][inputs] in rows, to the layouts of the products.
#pragma once
#include <algorithm>
#include <vector>

#include "linear_bf16.h"
#include "linear_q.h"
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
  const float unit = std::ldexp(1.0f, std::max(0, std::ilogb(inside) - bits + 1));
  const float byte = std::nearbyint(inside / unit) * unit;
  return static_cast<uint8_t>(byte > 255.0f ? 256.0f - unit : byte);
}

// One output: bytes for all its inputs, and for each 32 of them a factor and a zero, at [0] for eight bits and [1] for four.
// A factor is a step between bytes in 256ths of the largest step that the output could need.
struct ColumnQ {
  explicit ColumnQ(int groups) : q(static_cast<size_t>(groups) * kWeightGroup), factor(groups * 2), zero(groups * 2) {}
  std::vector<uint8_t> q, factor, zero;
  float column[2];

  void quantize(const float* row, int inputs, int groups) {
    float largest = 0;
    for (int k = 0; k < inputs; ++k) largest = std::max(largest, std::fabs(row[k]));
    const float grid = largest / 127.0f;
    column[0] = column[1] = grid;
    for (int g = 0; g < groups; ++g) {
      const float* w = row + g * kWeightGroup;
      const int count = std::max(0, std::min(kWeightGroup, inputs - g * kWeightGroup));
      eight(w, count, grid, g);
      four(w, count, grid, g);
    }
  }

 private:
  // The range of the group, zero always within it, over 255 steps. A step is factor / 256 of the grid, so it is rounded up.
  void eight(const float* w, int count, float grid, int g) {
    float low = 0, high = 0;
    for (int k = 0; k < count; ++k) low = std::min(low, w[k]), high = std::max(high, w[k]);
    const float units = grid > 0 ? std::ceil((high - low) / 255.0f / grid * 256.0f - 1e-3f) : 1.0f;
    factor[g * 2] = to_byte(units, 1.0f);
    const float step = grid * factor[g * 2] / 256.0f;
    zero[g * 2] = step > 0 ? to_byte(std::nearbyint(-low / step), 0.0f) : 0;
    for (int k = 0; k < kWeightGroup; ++k) {
      const float value = k < count && step > 0 ? std::nearbyint(w[k] / step) : 0.0f;
      q[g * kWeightGroup + k] = to_byte(value + zero[g * 2], 0.0f);
    }
  }

  // Least squares through the points (16 * (q / 16), w), by a line whose points are bf16 numbers: see LinearQ. The factor is rounded
  // first, since that moves the best zero.
  void four(const float* w, int count, float grid, int g) {
    const uint8_t* upper = q.data() + g * kWeightGroup;
    float n = 0, sum_x = 0, sum_w = 0, sum_xx = 0, sum_xw = 0;
    for (int k = 0; k < count; ++k) {
      const float x = upper[k] & 0xf0;
      n += 1, sum_x += x, sum_w += w[k], sum_xx += x * x, sum_xw += x * w[k];
    }
    const float spread = n * sum_xx - sum_x * sum_x, unit = grid / 256.0f;
    const float slope = spread > 0 ? (n * sum_xw - sum_x * sum_w) / spread / unit : 1.0f;
    for (int bits = 5; bits >= 4; --bits) {
      const uint8_t f = to_short_byte(slope, bits);
      const float wanted = n > 0 && unit > 0 ? (f * sum_x - sum_w / unit) / n : 0.0f;
      const uint8_t z = to_byte(std::nearbyint(wanted / zero_unit(f)), 0.0f);
      factor[g * 2 + 1] = f, zero[g * 2 + 1] = z;
      if (std::max(z * zero_unit(f), 240.0f * f - z * zero_unit(f)) <= 128.0f * zero_unit(f)) return;
    }
  }
};

}  // namespace detail

inline void pack_q(const Source& source, const LinearQ& shape, const PackedQ& out, Team& team) {
  const int groups = shape.groups();
  team.run([&](int id) {
    std::vector<float> row(static_cast<size_t>(groups) * kWeightGroup);
    detail::ColumnQ packed(groups);
    for (int panel; (panel = team.take(id, shape.panels())) >= 0;) {
      uint8_t* high = out.high + panel * shape.plane_size();
      uint8_t* low = out.low + panel * shape.plane_size();
      std::memset(high, 0, shape.plane_size());
      std::memset(low, 0, shape.plane_size());
      for (int i = 0; i < kPanelQ; ++i) {
        source.row(panel * kPanelQ + i, row.data());
        packed.quantize(row.data(), source.inputs, groups);
        const Place place = place_of(i);
        for (int k = 0; k < groups * kWeightGroup; ++k) {
          high[static_cast<size_t>(line_of(k)) * 64 + place.byte] |= static_cast<uint8_t>((packed.q[k] >> 4) << place.shift);
          low[static_cast<size_t>(line_of(k)) * 64 + place.byte] |= static_cast<uint8_t>((packed.q[k] & 15) << place.shift);
        }
        for (int bits = 0; bits < 2; ++bits) {
          for (int g = 0; g < groups; ++g) {
            const size_t at = panel * shape.factors_size() + static_cast<size_t>(g) * kPanelQ + i;
            out.factor[bits][at] = packed.factor[g * 2 + bits];
            out.zero[bits][at] = packed.zero[g * 2 + bits];
          }
          out.column[bits][panel * kPanelQ + i] = packed.column[bits] / 256.0f;
        }
      }
    }
  });
}

}  // namespace trimtab
