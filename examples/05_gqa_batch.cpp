// SPDX-License-Identifier: Apache-2.0
// A step of a batch of sequences with grouped queries, on threads: from an engine's tensors to its outputs.
#include <cstdio>
#include <functional>

#include "support/check.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/vattention.hpp"

using vattn_examples::check;

namespace {

constexpr int batch = 4, query_heads = 8, kv_heads = 2, d = 64;
const auto attend = vattn::presets::standard(vattn::epsilon{0.1}, vattn::delta{0.1});

/// Stands for a pool that an engine has already.
struct engine_pool {
  void parallel_for(long count, const std::function<void(int thread, long i)>& call) {
    for (long i = 0; i < count; ++i) call(static_cast<int>(i % 3), i);
  }
};
/// All that the library asks of it.
struct on_engine_pool {
  engine_pool& pool;
  int workers() const noexcept { return 3; }
  void run(vattn::index_t count, const auto& body) noexcept {
    pool.parallel_for(count, [&](int thread, long i) { body(thread, i); });
  }
};

}  // namespace

int main() {
  // The engine's side: a cache for each (sequence, KV head), sequences of different lengths.
  std::vector<vattn::synthetic_head> heads;
  std::vector<vattn::kv_view> views;
  std::vector<decltype(attend)::index_type> indices;
  heads.reserve(batch * kv_heads);
  views.reserve(batch * kv_heads);
  indices.reserve(batch * kv_heads);
  for (int i = 0; i < batch * kv_heads; ++i)
    heads.push_back(vattn::make_head(vattn::head_kind::power_law, 3000 + 500 * (i / kv_heads), d, d,
                                     query_heads / kv_heads, static_cast<std::uint64_t>(i)));
  for (const auto& head : heads) views.push_back(head.view());
  for (const auto& kv : views) indices.push_back(attend.make_index(kv));
  std::vector<float> queries, output(batch * query_heads * d);
  for (const auto& head : heads)
    queries.insert(queries.end(), head.queries.data(), head.queries.data() + head.queries.size());
  std::vector<vattn::certificate> certificates(batch * query_heads);

  vattn::parallel::thread_pool pool(4);
  vattn::decode_workspace scratch;  // a workspace a worker; grows at first use
  vattn::request_batch<vattn::kv_view, decltype(attend)::index_type> requests;
  requests.assign({.batch = batch,
                   .query_heads = query_heads,
                   .kv_heads = kv_heads,
                   .dim = d,
                   .value_dim = d,
                   .queries = queries.data(),  // [batch x query_heads x d]
                   .output = output.data(),    // [batch x query_heads x d_v]
                   .certificates = certificates.data()},
                  {.seed = 1, .layer = 0}, views, indices);
  vattn::decode(attend, requests, pool, scratch);

  double density = 0.0;
  for (const auto& c : certificates) density += c.density() / batch / query_heads;
  std::printf("%d queries: %.1f %% of the rows read\n", batch * query_heads, 100.0 * density);
  check(density < 0.5, "the four queries of a KV head share what is read");

  const std::vector<float> together = output;
  engine_pool own;
  vattn::decode(attend, requests, on_engine_pool{own}, scratch);
  check(output == together, "the same bits on any threads");

  vattn::dense(requests, pool, scratch);  // the exact answer, long caches split over the threads
  const Eigen::Map<const Eigen::VectorXf> sparse(together.data(), batch * query_heads * d);
  const Eigen::Map<const Eigen::VectorXf> exact(output.data(), batch * query_heads * d);
  check((sparse - exact).norm() <= 0.1F * exact.norm(), "near the exact answer");
}
