// Products of small tiles: by AMX where the machine has it, else by AVX-512.
// A bf16 tile product is C[r][c] += sum over k of A[r][k] * B[k][c] with A in rows and B in pairs: B[k / 2][c][k % 2].
#pragma once
#include <sys/syscall.h>
#include <unistd.h>

#include "blocks.h"

namespace trimtab {

struct CpuFeatures {
  bool avx512 = false;  // F, BW, DQ, VL, VBMI, VBMI2, VNNI: the least that anything here runs on
  bool amx = false;     // tiles in bf16 and int8, and the kernel's leave to use them
  // The share of inputs that a row may need of a matrix for skipping the others to pay. Hardware fetches ahead along rows of lines; lines
  // that lie here and there come as fast as a core can ask for them, which on AMD is half as fast (docs/adr/0007).
  float walk_above = 1;
};

inline CpuFeatures detect_cpu() {
  CpuFeatures found;
  __builtin_cpu_init();
  found.avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
                 __builtin_cpu_supports("avx512vnni");
  unsigned eax = 7, ebx, ecx = 0, edx;
  __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  const bool tiles = (edx >> 22 & 1) && (edx >> 24 & 1) && (edx >> 25 & 1);
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // arch_prctl(2), Linux documentation "x86/xstate"
  if (__builtin_cpu_is("amd")) found.walk_above = 0.5f;
  found.amx = found.avx512 && tiles && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return found;
}

// Tiles 0 to 3 hold sums, 4 and 5 rows of A, 6 and 7 rows of B.
struct TileConfig {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t colsb[16] = {};
  uint8_t rows[16] = {};
};

// GCC's tile loads do not say that they read memory (GCC 12, amxtileintrin.h), so stores before them may be moved behind. This
// stands between writing what a tile will load and loading it.
inline void settle_stores() { __asm__ volatile("" : : : "memory"); }

// rows of A and C; depth: bytes of one row of A, 4 for each row of B.
inline void configure_tiles(int rows, int depth) {
  alignas(64) TileConfig config;
  for (int tile = 0; tile < 4; ++tile) config.rows[tile] = rows, config.colsb[tile] = 64;
  for (int tile = 4; tile < 6; ++tile) config.rows[tile] = rows, config.colsb[tile] = depth;
  for (int tile = 6; tile < 8; ++tile) config.rows[tile] = depth / 4, config.colsb[tile] = 64;
  // GCC's intrinsic says that it reads 8 bytes; without this the other stores above may be dropped as dead.
  __asm__ volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

// c: [rows][16] fp32, written. a: rows of `steps` * 32 bf16, lda apart. b: `steps` tiles of 16 pairs x 16 columns; the rows of a
// tile are ldb bytes apart and tiles `step_b` bytes. With AMX the caller has configured `rows` and a depth of 64.
inline void tile_product(bool amx, float* c, const bf16* a, size_t lda, const bf16* b, size_t ldb, size_t step_b, int rows, int steps) {
  const char* bytes = reinterpret_cast<const char*>(b);
  if (amx) {
    settle_stores();
    _tile_zero(0);
    for (int step = 0; step < steps; ++step) {
      _tile_loadd(4, a + step * 32, lda * 2);
      _tile_loadd(6, bytes + step * step_b, ldb);
      _tile_dpbf16ps(0, 4, 6);
    }
    _tile_stored(0, c, 64);
    return;
  }
  add_block<false, 1>(a, lda, PairTiles{bytes, ldb, 0, step_b}, rows, steps, false, {c, 16, 0});
}

}  // namespace trimtab
