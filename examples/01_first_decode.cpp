// SPDX-License-Identifier: Apache-2.0
// Attention that reads a part of the cache and says how good its answer is; then a decode loop.
#include <cstdio>

#include "support/check.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/vattention.hpp"

using vattn_examples::check;

int main() {
  // Stands in for a model: 4 query heads that share a KV head, 4096 tokens of prompt and 8 to come.
  const auto model = vattn::make_head(vattn::head_kind::power_law, 4096 + 8, 128, 128, 4, 1);
  const auto first = [](const vattn::row_major_matrix& memory, int rows) {
    return Eigen::Map<const vattn::row_major_matrix>(memory.data(), rows, memory.cols());
  };
  const vattn::row_major_matrix& queries = model.queries;
  const auto keys = first(model.keys, 4096), values = first(model.values, 4096);

  const vattn::kv_view kv(keys, values);  // no copy; float, bf16 or fp16
  const auto attend = vattn::presets::standard(vattn::epsilon{0.1}, vattn::delta{0.1});
  auto index = attend.make_index(kv);  // what the predictor keeps of this KV head's keys
  vattn::workspace scratch;            // one a thread; grows at first use
  const vattn::draw_key draw{.seed = 1, .sequence = 0, .layer = 3, .head = 1, .step = 4096};
  const auto r = attend(vattn::query_group(queries), kv, index, draw, scratch);
  for (const vattn::certificate& c : r.certificates)
    std::printf("%s: relative error <= %.3f with probability %g; %.1f %% of the rows read\n",
                to_string(c.status), c.epsilon, 1.0 - c.delta, 100.0 * c.density());

  const auto exact = vattn::reference(vattn::query_group(queries), kv);
  for (int h = 0; h < 4; ++h) {
    check(r.certificates[static_cast<std::size_t>(h)].holds(),
          "the certificate vouches for epsilon");
    check(vattn::relative_error(r.output.row(h), exact.output.row(h)) <= 0.1, "and is right");
  }
  check(r.certificates[0].density() < 0.5, "most of the cache was not read");

  // Decoding: the cache grows by a row a step, the index takes it in, and every step draws anew.
  for (int rows = 4097; rows <= 4104; ++rows) {
    const vattn::kv_view grown(first(model.keys, rows), first(model.values, rows));
    index.append(grown);
    const vattn::draw_key key{.seed = 1, .layer = 3, .head = 1, .step = std::uint64_t(rows)};
    const auto next = attend(vattn::query_group(queries), grown, index, key, scratch);
    check(next.certificates[0].rows_total == rows && next.certificates[0].holds(), "a step");
  }

  // The same in one line, for prototypes: any Eigen matrices, everything allocated anew.
  const auto one = vattn::attend(queries, keys, values);
  check(one.output.rows() == 4 && one.certificates[3].holds(), "the one-liner certifies as well");
}
