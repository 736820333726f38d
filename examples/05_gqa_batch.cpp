// SPDX-License-Identifier: Apache-2.0
// A batch of sequences with grouped queries, on threads: one functor for all, a workspace a thread.
#include <atomic>
#include <cstdio>
#include <thread>

#include "support/check.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/vattention.hpp"

using vattn_examples::check;

namespace {

const auto attend = vattn::presets::standard(vattn::epsilon{0.1}, vattn::delta{0.1});

/// A sequence's KV head with its index; sequences differ in length.
struct job {
  std::uint64_t sequence;
  std::uint32_t head;
  vattn::synthetic_head data;
  decltype(attend.make_index(data.view())) index;

  job(std::uint64_t sequence_, std::uint32_t head_)
      : sequence(sequence_),
        head(head_),
        data(vattn::make_head(vattn::head_kind::power_law,
                              3000 + 500 * static_cast<vattn::index_t>(sequence_), 64, 64, 4,
                              10 * sequence_ + head_)),
        index(attend.make_index(data.view())) {}
};

/// Outputs of all jobs, and the share of rows read; any thread takes any job.
std::vector<vattn::row_major_matrix> decode(const std::vector<job>& jobs, int thread_count,
                                            double& density) {
  std::vector<vattn::row_major_matrix> outputs(jobs.size());
  std::vector<double> densities(jobs.size());
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    vattn::workspace ws;
    for (std::size_t i = next++; i < jobs.size(); i = next++) {
      const job& j = jobs[i];
      const auto kv = j.data.view();
      const vattn::draw_key draw{.seed = 1,
                                 .sequence = j.sequence,
                                 .layer = 0,
                                 .head = j.head,
                                 .step = static_cast<std::uint64_t>(kv.rows())};
      const auto r = attend(j.data.group(), kv, j.index, draw, ws);
      outputs[i] = r.output;  // a copy: the result refers into the workspace
      densities[i] = r.certificates[0].density();
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(thread_count));
  for (int t = 0; t < thread_count; ++t) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  density = 0.0;
  for (const double d : densities) density += d / static_cast<double>(jobs.size());
  return outputs;
}

}  // namespace

int main() {
  std::vector<job> jobs;
  for (std::uint64_t sequence = 0; sequence < 4; ++sequence)
    for (std::uint32_t head = 0; head < 2; ++head) jobs.emplace_back(sequence, head);

  double density = 0.0;
  const auto alone = decode(jobs, 1, density);
  const auto together = decode(jobs, 4, density);
  for (std::size_t i = 0; i < jobs.size(); ++i)
    check(alone[i] == together[i], "the same bits on one thread and on four");
  std::printf("%zu KV heads x 4 queries: %.1f %% of the rows read\n", jobs.size(), 100.0 * density);
  check(density < 0.5, "the four queries of a head share what is read");
}
