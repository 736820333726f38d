// SPDX-License-Identifier: Apache-2.0
/// @file
/// Dot products of bfloat16 rows by tiles, for CPUs with AMX; contracts in kernels.hpp.
///
/// A tile instruction multiplies 16 rows by up to 16 queries, so a group costs what one query does. What it says of
/// small numbers is what the bfloat16 instructions of AVX-512 do (avx512_bf16.hpp), and so is the remedy: it serves
/// queries and rows whose elements are 0 or larger than 2^-50. Rows are tested while they are copied into a block of
/// even stride, which makes tiles of rows at any addresses.
#pragma once

#include "vattention/config.hpp"

#if VATTN_X86_KERNELS && defined(__linux__) && __has_include(<amxbf16intrin.h>)
#define VATTN_AMX_KERNELS 1
#else
#define VATTN_AMX_KERNELS 0
#endif

#if VATTN_AMX_KERNELS

#include <cstdlib>

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vattention/kernels/avx512_bf16.hpp"

#define VATTN_AVX512 VATTN_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,popcnt")
#define VATTN_AVX512_AMX \
  VATTN_TARGET("avx512f,avx512bw,avx512vl,avx512dq,amx-tile,amx-bf16,avx2,fma,f16c,popcnt")

#if !defined(__clang__)
#pragma GCC diagnostic push
// The intrinsics of g++ 12 start from a variable set to itself (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace vattn::kernels::avx512 {

/// Rows that are multiplied together, in two tiles; the longest rows, and how many queries it takes to be worth it.
inline constexpr index_t amx_rows = 32, amx_dim = 256;
inline constexpr int amx_queries = 16, amx_heads = 4;
/// Elements of a chunk of 16 queries: a tile.
inline constexpr index_t amx_tile = amx_queries * chunk;

/// True if this CPU has tiles of bfloat16 and the kernel of the system lets this process use them, which it asks for.
inline bool may_use_amx() noexcept {
  constexpr unsigned tiles = 1U << 24U, bf16 = 1U << 22U;
  constexpr long permission = 0x1023, tile_data = 18;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  return (d & tiles) != 0 && (d & bf16) != 0 && syscall(SYS_arch_prctl, permission, tile_data) == 0;
}

/// Sixteen queries from head h on as tiles, one a chunk: row k holds elements 2 k and 2 k + 1 of each query. `packed`
/// is what `pack_queries` made of all heads.
inline void arrange_tiles(const std::uint16_t* packed, index_t slice, int h, int heads,
                          std::uint16_t* out) noexcept {
  std::memset(out, 0, static_cast<std::size_t>(amx_queries * slice) * sizeof *out);
  for (int n = 0; n < amx_queries && h + n < heads; ++n) {
    const int head = h + n;
    const std::uint16_t* from =
        packed + head / tile_heads * tile_heads * slice + head % tile_heads * chunk;
    for (index_t j = 0; j < slice; j += chunk, from += tile_heads * chunk)
      for (index_t k = 0; k < chunk / 2; ++k)
        std::memcpy(out + amx_queries * j + chunk * k + 2 * n, from + 2 * k, 4);
  }
}

/// Copies rows i to i + 31, as far as there are any, each followed by zeros up to `slice` elements. False if an
/// element is neither 0 nor larger than 2^-50.
VATTN_AVX512 inline bool copy_rows(const void* const* rows, index_t count, index_t dim,
                                   index_t slice, std::uint16_t* out, const rows_ahead& next,
                                   index_t i) noexcept {
  __m512i least = _mm512_set1_epi16(-1);
  for (index_t k = 0; k < amx_rows; ++k, out += slice) {
    const char* row = static_cast<const char*>(rows[i + std::min(k, count - 1)]);
    if (k < count) next.ask(i + k, 0, row_bytes(element::bf16, dim));
    for (index_t j = 0; j < slice; j += chunk) {
      const __m512i v = load_words(row + 2 * j, chunk_mask(dim - j));
      note_least(v, least);
      _mm512_store_si512(out + j, v);
    }
  }
  return _mm512_cmple_epu16_mask(least, _mm512_set1_epi16((127 - 50) << 8)) == 0;
}

/// Where in a buffer of `amx_rows` rows of `slice` elements and a page more the copies of rows go: a row short of
/// where the rows lie in their page. Loads of rows a page apart from a store that is under way would wait for it,
/// and rows of one stride would do so all along.
inline std::uint16_t* place_of_copies(const void* row, index_t slice,
                                      std::uint16_t* buffer) noexcept {
  constexpr std::uintptr_t page = 4096, line = 64;
  const auto wanted =
      reinterpret_cast<std::uintptr_t>(row) - static_cast<std::uintptr_t>(2 * slice);
  const std::uintptr_t skip = (wanted - reinterpret_cast<std::uintptr_t>(buffer)) % page;
  return buffer + skip / line * line / sizeof *buffer;
}

/// Shapes of the tiles: all of 16 rows of 64 bytes.
struct alignas(64) tile_shapes {
  std::uint8_t palette = 1, start = 0, unused[14] = {};
  std::uint16_t bytes[16] = {64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16};
};
/// In memory whatever an optimiser thinks: the intrinsic says that it reads eight bytes of them.
inline constexpr tile_shapes all_tiles{};

/// The tile unit of this thread.
struct amx_unit {
  VATTN_AVX512_AMX static void begin() noexcept { _tile_loadconfig(&all_tiles); }
  VATTN_AVX512_AMX static void end() noexcept { _tile_release(); }
  /// Products of 32 rows with 16 queries, `[row][query]`: tiles 0 and 1 are sums, 2 and 3 rows, 4 queries.
  VATTN_AVX512_AMX static void multiply(const std::uint16_t* rows, index_t slice,
                                        const std::uint16_t* queries, float* out) noexcept {
    // The intrinsics do not say that they read memory.
    asm volatile("" ::: "memory");
    _tile_zero(0);
    _tile_zero(1);
    for (index_t j = 0; j < slice; j += chunk, queries += amx_tile) {
      _tile_loadd(4, queries, 64);
      _tile_loadd(2, rows + j, 2 * slice);
      _tile_loadd(3, rows + 16 * slice + j, 2 * slice);
      _tile_dpbf16ps(0, 2, 4);
      _tile_dpbf16ps(1, 3, 4);
    }
    _tile_stored(0, out, 64);
    _tile_stored(1, out + 16 * amx_queries, 64);
    asm volatile("" ::: "memory");
  }
};

/// Four neighbouring products of each of 16 rows, turned: those of a query side by side.
VATTN_AVX512 VATTN_ALWAYS_INLINE void turn_four(const float* products, __m512* out) noexcept {
  __m512 row[4];
  VATTN_UNROLL
  for (int k = 0; k < 4; ++k) {
    const float* at = products + amx_queries * k;
    row[k] = _mm512_castps128_ps512(_mm_loadu_ps(at));
    row[k] = _mm512_insertf32x4(row[k], _mm_loadu_ps(at + 4 * amx_queries), 1);
    row[k] = _mm512_insertf32x4(row[k], _mm_loadu_ps(at + 8 * amx_queries), 2);
    row[k] = _mm512_insertf32x4(row[k], _mm_loadu_ps(at + 12 * amx_queries), 3);
  }
  const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(row[0], row[1]));
  const __m512d b = _mm512_castps_pd(_mm512_unpacklo_ps(row[2], row[3]));
  const __m512d c = _mm512_castps_pd(_mm512_unpackhi_ps(row[0], row[1]));
  const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(row[2], row[3]));
  out[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
  out[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
  out[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
  out[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
}

/// `used` queries of the products of `count` rows, a query after the other.
VATTN_AVX512 inline void store_products(const float* products, int used, index_t count, float* out,
                                        index_t out_stride) noexcept {
  for (index_t i = 0; i < count; i += 16, products += 16 * amx_queries)
    for (int h = 0; h < used; h += 4) {
      __m512 turned[4];
      turn_four(products + h, turned);
      for (int k = 0; k < std::min(4, used - h); ++k)
        _mm512_mask_storeu_ps(out + (h + k) * out_stride + i, low_mask(count - i), turned[k]);
    }
}

/// `dot_rows` of bfloat16 rows if the queries are bfloat16 too; else false, and nothing is done.
template <class Unit>
VATTN_AVX512 bool dot_amx(const void* const* rows, index_t count, index_t upcoming, index_t dim,
                          const float* x, index_t x_stride, int heads, float* out,
                          index_t out_stride) noexcept {
  alignas(64) std::uint16_t packed[query_halves], tiles[query_halves];
  alignas(64) std::uint16_t buffer[amx_rows * amx_dim + 2048];
  alignas(64) float products[amx_rows * amx_queries];
  const index_t slice = (dim + chunk - 1) / chunk * chunk;
  const int groups = (heads + amx_queries - 1) / amx_queries;
  if (count == 0 || slice > amx_dim || groups * amx_queries * slice > query_halves) return false;
  if (!pack_queries(x, x_stride, heads, dim, packed, slice)) return false;
  for (int g = 0; g < groups; ++g)
    arrange_tiles(packed, slice, g * amx_queries, heads, tiles + g * amx_queries * slice);
  const rows_ahead next(rows, count + upcoming, amx_rows);
  std::uint16_t* const block = place_of_copies(rows[0], slice, buffer);
  Unit::begin();
  for (index_t i = 0; i < count; i += amx_rows) {
    const index_t size = std::min(amx_rows, count - i);
    if (!copy_rows(rows, size, dim, slice, block, next, i)) {
      dot_rows(element::bf16, rows + i, size, 0, dim, x, x_stride, heads, out + i, out_stride);
      continue;
    }
    for (int g = 0; g < groups; ++g) {
      const int h = g * amx_queries;
      Unit::multiply(block, slice, tiles + h * slice, products);
      store_products(products, std::min(heads - h, amx_queries), size, out + h * out_stride + i,
                     out_stride);
    }
  }
  Unit::end();
  _mm256_zeroupper();
  return true;
}

/// `dot_rows` that multiplies tiles where it can.
template <class Unit = amx_unit>
void dot_rows_amx(element type, const void* const* rows, index_t count, index_t upcoming,
                  index_t dim, const float* x, index_t x_stride, int heads, float* out,
                  index_t out_stride) noexcept {
  if (type != element::bf16 || heads < amx_heads ||
      !dot_amx<Unit>(rows, count, upcoming, dim, x, x_stride, heads, out, out_stride))
    dot_rows(type, rows, count, upcoming, dim, x, x_stride, heads, out, out_stride);
}

}  // namespace vattn::kernels::avx512

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#undef VATTN_AVX512
#undef VATTN_AVX512_AMX

#endif  // VATTN_AMX_KERNELS
