// Blocks of the cache from one form to the other: what bf16 holds as whole numbers with scales, and back.
//
// Narrowing writes what a step would have written for the same numbers; widening multiplies by the scales and rounds to bf16.
#pragma once
#include "kv_cache.h"
#include "team.h"

namespace trimtab {

struct KvConversion {
  const uint8_t* from;
  uint8_t* to;
  int64_t from_stride, to_stride;  // bytes of a layer
  int64_t layers, block_size, key_heads, dim, narrow;  // narrow: the form that is written
  const int32_t* blocks;  // [count]
  int64_t count;
};

namespace detail {

// One token's keys and values of a head, as floats.
inline void read_token(const KvLayout& kv, int block, int head, int offset, float* key, float* value) {
  const size_t at_key = static_cast<size_t>(offset / 16) * 16 * kv.dim + offset % 16 * 2;
  const size_t at_value = static_cast<size_t>(offset / 2) * 2 * kv.dim + offset % 2;
  const auto each = [&](auto* keys, auto* values, auto&& open) {
    for (int d = 0; d < kv.dim; ++d) {
      key[d] = open(keys[at_key + d / 2 * 32 + d % 2]);
      value[d] = open(values[at_value + d * 2]);
    }
  };
  if (!kv.narrow) return each(kv.keys(block, head), kv.values(block, head), [](bf16 x) { return from_bf16(x); });
  each(kv.narrow_keys(block, head), kv.narrow_values(block, head), [](int8_t x) { return static_cast<float>(x); });
  const float key_scale = from_bf16(kv.key_scales(block, head)[offset]), value_scale = from_bf16(kv.value_scales(block, head)[offset]);
  for (int d = 0; d < kv.dim; ++d) key[d] *= key_scale, value[d] *= value_scale;
}

}  // namespace detail

// dim is a multiple of 16.
inline void convert_kv(const KvConversion& c, Team& team) {
  const int count = static_cast<int>(c.count), tasks = static_cast<int>(c.layers) * count;
  team.run([&](int id) {
    Buffer buffer;
    float* key = buffer.get<float>(2 * static_cast<size_t>(c.dim));
    float* value = key + c.dim;
    for (int task; (task = team.take(id, tasks)) >= 0;) {
      const int layer = task / count, block = c.blocks[task % count];
      const auto layout = [&](uint8_t* pages, int64_t stride, bool narrow) {
        return KvLayout{pages + layer * stride, static_cast<int>(c.block_size), static_cast<int>(c.key_heads), static_cast<int>(c.dim), narrow};
      };
      const KvLayout from = layout(const_cast<uint8_t*>(c.from), c.from_stride, c.narrow == 0), to = layout(c.to, c.to_stride, c.narrow != 0);
      for (int head = 0; head < c.key_heads; ++head) {
        for (int offset = 0; offset < c.block_size; ++offset) {
          detail::read_token(from, block, head, offset, key, value);
          to.write_key(block, offset, head, key);
          to.write_value(block, offset, head, value);
        }
      }
    }
  });
}

}  // namespace trimtab
