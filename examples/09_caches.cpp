// SPDX-License-Identifier: Apache-2.0
// One KV head in the forms that engines keep it in: the same answer from each, and nothing is copied.
#include <cstdio>
#include <numeric>

#include "support/check.hpp"
#include "vattention/kernels/convert.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/vattention.hpp"

using vattn::element, vattn::index_t, vattn::row_major_matrix, vattn_examples::check;

/// Row i of `m` at place `where(i)` of `places`; all others belong to somebody else.
template <class Where>
row_major_matrix spread(const row_major_matrix& m, index_t places, Where where) {
  row_major_matrix memory = row_major_matrix::Constant(places, m.cols(), 1e9F);
  for (index_t i = 0; i < m.rows(); ++i) memory.row(where(i)) = m.row(i);
  return memory;
}

int main() {
  constexpr index_t n = 4096, dim = 64, heads = 3, size = 16;
  const auto model = vattn::make_head(vattn::head_kind::power_law, n, dim, dim, 4, 1);
  const auto attend = vattn::presets::standard(vattn::epsilon{0.1}, vattn::delta{0.1});
  vattn::workspace scratch;
  const auto answer = [&](const auto& kv) -> row_major_matrix {
    const auto r = attend(model.group(), kv, attend.make_index(kv), {.seed = 1}, scratch);
    check(r.certificates[0].holds() && r.certificates[0].density() < 0.5, "sampled, certified");
    return r.output;
  };
  const row_major_matrix plain = answer(model.view());
  const auto same = [&](const char* name, const row_major_matrix& got) {
    std::printf("%-8s differs by %g\n", name, static_cast<double>((got - plain).norm()));
    check(got == plain, "the same answer, bit for bit");
  };

  // A tensor [row, head, dim] of 3 heads, of which this is head 1.
  const auto at_head = [](index_t i) { return heads * i + 1; };
  const auto k = spread(model.keys, heads * n, at_head),
             v = spread(model.values, heads * n, at_head);
  constexpr index_t row = dim * sizeof(float);  // strides are in bytes
  const vattn::cache_extents extents{.batches = 1, .heads = heads, .rows = n, .dim = dim};
  const vattn::cache_strides strides{.batch = n * heads * row, .head = row, .row = heads * row};
  const vattn::strided_cache cache({k.data(), element::f32, extents, strides},
                                   {v.data(), element::f32, extents, strides});
  same("strided", answer(cache.view(0, 1)));

  // Pages of 16 rows, those of this sequence in reverse order.
  std::vector<std::int32_t> table(n / size);
  std::iota(table.rbegin(), table.rend(), 0);
  const auto in_page = [&](index_t i) { return (n / size - 1 - i / size) * size + i % size; };
  const auto kp = spread(model.keys, n, in_page), vp = spread(model.values, n, in_page);
  const vattn::page_layout pages{
      .pages = n / size, .page_size = size, .page_stride = size * row, .row_stride = row};
  same("paged", answer(vattn::paged_view({kp.data(), element::f32, dim, pages},
                                         {vp.data(), element::f32, dim, pages}, table, n)));

  // A ring of 5000 rows, the oldest at 1000.
  const auto in_ring = [](index_t i) { return (1000 + i) % 5000; };
  const auto kr = spread(model.keys, 5000, in_ring), vr = spread(model.values, 5000, in_ring);
  same("ring", answer(vattn::ring_view(vattn::kv_view(kr, vr), 1000, n)));

  // 8-bit blocks hold other numbers, so they have another answer: as good, of their own numbers.
  constexpr index_t row8 = vattn::row_bytes(element::q8_0, dim);
  std::vector<std::byte> k8(n * row8), v8(n * row8);
  for (index_t i = 0; i < n; ++i) {
    vattn::kernels::quantise_q8_0(model.keys.row(i).data(), dim, k8.data() + i * row8);
    vattn::kernels::quantise_q8_0(model.values.row(i).data(), dim, v8.data() + i * row8);
  }
  const vattn::kv_view kv8({k8.data(), element::q8_0, n, dim, row8},
                           {v8.data(), element::q8_0, n, dim, row8});
  const auto exact = vattn::reference(model.group(), kv8).output;
  const double error = vattn::relative_error(answer(kv8), exact);
  std::printf("q8_0: relative error %.3f, %g from plain\n", error,
              vattn::relative_error(answer(kv8), plain));
  check(error <= 0.1, "certified like any other rows");
}
