// SPDX-License-Identifier: Apache-2.0
// Each kernel of each row of the table this CPU can run, on rows in the L2 cache and on rows in memory.
// Google Benchmark: --benchmark_filter=dot_rows/avx512, --benchmark_format=csv, ...
#include <benchmark/benchmark.h>

#include <numeric>
#include <vector>

#include "support/guard.hpp"

namespace {

using vattn::element;
using vattn::index_t;
using vattn::kernels::isa;
using vattn::kernels::table;

constexpr index_t dim = 128, block = 256;

/// bf16 rows of `dim` elements; blocks of 256 addresses, ascending, `step` rows apart.
class row_store {
public:
  explicit row_store(index_t rows, index_t step)
      : data_(static_cast<std::size_t>(rows * dim), Eigen::bfloat16(0.5F)),
        rows_(rows),
        step_(step) {
    addresses_.resize(block);
    next();
  }
  /// The next block of addresses, from the start again after the last one.
  const void* const* next() {
    for (const void*& address : addresses_) {
      address = data_.data() + at_ * dim;
      at_ = at_ + step_ < rows_ ? at_ + step_ : (at_ + step_) % rows_;
    }
    return addresses_.data();
  }

private:
  std::vector<Eigen::bfloat16> data_;
  std::vector<const void*> addresses_;
  index_t rows_, step_, at_ = 0;
};

void count_rows(benchmark::State& state, index_t rows, index_t bytes) {
  state.SetItemsProcessed(state.iterations() * rows);
  state.SetBytesProcessed(state.iterations() * rows * bytes);
}

/// Where the rows are: one block that stays in L2, or 512 MB read whole or every tenth row.
enum class place : std::uint8_t { cached, stream, tenth };

row_store store_of(place where) {
  if (where == place::cached) return row_store(block, 1);
  return row_store(index_t{2} << 20, where == place::tenth ? 11 : 1);
}

void dot_rows(benchmark::State& state, const table& kernels, place where) {
  const auto heads = static_cast<int>(state.range(0));
  row_store rows = store_of(where);
  std::vector<float> x(static_cast<std::size_t>(heads * dim), 0.25F);
  std::vector<float> out(static_cast<std::size_t>(heads * block));
  for (auto _ : state) {
    kernels.dot_rows(element::bf16, rows.next(), block, 0, dim, x.data(), dim, heads, out.data(),
                     block);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  count_rows(state, block, 2 * dim);
}

/// Twice as many weight rows as heads, and norms: what the weighted pass asks for.
void sum_rows(benchmark::State& state, const table& kernels, place where) {
  const auto heads = static_cast<int>(2 * state.range(0));
  row_store rows = store_of(where);
  std::vector<float> weights(static_cast<std::size_t>(heads * block), 1e-6F);
  std::vector<float> out(static_cast<std::size_t>(heads * dim)), norms(block);
  for (auto _ : state) {
    kernels.sum_rows(element::bf16, rows.next(), block, 0, dim, weights.data(), block, heads,
                     out.data(), dim, norms.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  count_rows(state, block, 2 * dim);
}

void exp_shifted(benchmark::State& state, const table& kernels) {
  std::vector<float> x(block);
  std::vector<float> out(block);
  std::iota(x.begin(), x.end(), -255.0F);
  for (float& logit : x) logit *= 0.05F;
  for (auto _ : state) {
    benchmark::DoNotOptimize(kernels.exp_shifted(x.data(), block, 0.0F, out.data()));
    benchmark::ClobberMemory();
  }
  count_rows(state, block, 4);
}

/// Codes of one head of 32,768 keys (L2 or L3).
void scan_codes(benchmark::State& state, const table& kernels, int bits) {
  const auto heads = static_cast<int>(state.range(0));
  constexpr index_t keys = 32768;
  const index_t words = dim * bits / 32;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(keys / 16 * 64 * words), 0x5A);
  std::vector<std::uint8_t> levels(16, 3);
  std::vector<std::int8_t> x(static_cast<std::size_t>(heads * dim), 7);
  std::vector<std::int32_t> out(static_cast<std::size_t>(heads * block));
  for (auto _ : state)
    for (index_t first = 0; first < keys; first += block) {
      kernels.scan_codes(bits, codes.data() + first / 16 * 64 * words, block / 16, words,
                         levels.data(), x.data(), dim, heads, out.data(), block);
      benchmark::DoNotOptimize(out.data());
      benchmark::ClobberMemory();
    }
  count_rows(state, keys, dim * bits / 8);
}

void match_signs(benchmark::State& state, const table& kernels) {
  const auto words = static_cast<int>(state.range(0));
  constexpr index_t keys = 32768;
  const std::vector<std::uint64_t> signatures(static_cast<std::size_t>(keys * words),
                                              0x0123456789ABCDEF);
  const std::vector<std::uint64_t> query(static_cast<std::size_t>(words), 0xFEDCBA9876543210);
  std::vector<std::uint16_t> out(keys);
  for (auto _ : state) {
    kernels.match_signs(signatures.data(), keys, words, query.data(), out.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  count_rows(state, keys, 8 * words);
}

using benchmark::RegisterBenchmark;

void declare(const table& t) {
  const auto name = [&](const char* kernel, const char* how) {
    return std::string(kernel) + "/" + t.name + how;
  };
  const std::pair<place, const char*> places[] = {
      {place::cached, "/cached"}, {place::stream, "/stream"}, {place::tenth, "/every_11th"}};
  for (const auto& [where, how] : places) {
    RegisterBenchmark(name("dot_rows", how).c_str(), dot_rows, t, where)->Arg(1)->Arg(4)->Arg(8);
    RegisterBenchmark(name("sum_rows", how).c_str(), sum_rows, t, where)->Arg(1)->Arg(4)->Arg(8);
  }
  RegisterBenchmark(name("exp_shifted", "").c_str(), exp_shifted, t);
  for (const int bits : {1, 2, 4, 8})
    RegisterBenchmark(name("scan_codes", ("/bits" + std::to_string(bits)).c_str()).c_str(),
                      scan_codes, t, bits)
        ->Arg(1)
        ->Arg(4);
  RegisterBenchmark(name("match_signs", "/words").c_str(), match_signs, t)->Arg(1)->Arg(2);
}

}  // namespace

int main(int argc, char** argv) {
  if (vattn_bench::asserts_are_on()) return 2;
  for (const isa row : vattn::kernels::all_isas)
    if (vattn::kernels::supported(row)) declare(vattn::kernels::get(row));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
