// SPDX-License-Identifier: Apache-2.0
// One decoding step at a fixed density against the library's own dense kernel: whole functor calls,
// caches larger than the last-level cache, fresh queries and draws every time, passes interleaved.
#include <CLI/CLI.hpp>

#include <sys/mman.h>
#include <time.h>

#include <cstdlib>
#include <functional>

#include "support/guard.hpp"
#include "support/rows.hpp"
#include "vattention/budget/fixed.hpp"
#include "vattention/presets.hpp"
#include "vattention/top_k/sign_hash.hpp"

using namespace vattn_bench;
using vattn::index_t;

namespace {

struct settings {
  index_t rows = 32768, dim = 128;
  int heads = 32, group = 4, repeats = 21, threads = 1;
  double density = 0.1;
  bool huge_pages = false;
};

/// bf16 numbers on pages of 4 KB, or of 2 MB where the kernel grants them.
class matrix_store {
public:
  matrix_store(std::size_t size, bool huge_pages) : size_(size) {
    constexpr std::size_t page = std::size_t{2} << 20U;
    const std::size_t bytes = (size * sizeof(Eigen::bfloat16) + page - 1) / page * page;
    data_.reset(static_cast<Eigen::bfloat16*>(std::aligned_alloc(page, bytes)));
    if (data_ == nullptr) throw std::bad_alloc();
    madvise(data_.get(), bytes, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  }
  Eigen::bfloat16* begin() { return data_.get(); }
  Eigen::bfloat16* end() { return data_.get() + size_; }
  const Eigen::bfloat16* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

private:
  struct release {
    void operator()(Eigen::bfloat16* p) const { std::free(p); }
  };
  std::unique_ptr<Eigen::bfloat16, release> data_;
  std::size_t size_;
};

/// Caches of many KV heads, bf16, and the queries of a step: uniform numbers of variance 1.
class step_data {
public:
  explicit step_data(const settings& s) : s_(s) {
    const auto size = static_cast<std::size_t>(s.rows * s.dim);
    for (int h = 0; h < 2 * s.heads; ++h) {
      matrix_store& matrix = store_.emplace_back(size, s.huge_pages);
      for (Eigen::bfloat16& x : matrix) x = Eigen::bfloat16(number());
    }
    queries_.resize(static_cast<std::size_t>(s.heads * s.group * s.dim));
  }
  vattn::kv_view cache(int head) const {
    const auto at = static_cast<std::size_t>(2 * head);
    return {vattn::rows_view(store_[at].data(), s_.rows, s_.dim),
            vattn::rows_view(store_[at + 1].data(), s_.rows, s_.dim)};
  }
  vattn::query_group queries(int head) const {
    return {queries_.data() + head * s_.group * s_.dim, s_.group, s_.dim};
  }
  void new_step() {
    ++step_;
    for (float& x : queries_) x = number();
  }
  vattn::draw_key key(int head) const {
    return {.seed = 1, .head = static_cast<std::uint32_t>(head), .step = step_};
  }
  /// Sum over all bytes, so that reading them cannot be left out.
  std::uint64_t read(int head) const {
    std::uint64_t sum = 0;
    for (int half = 0; half < 2; ++half) {
      const auto& matrix = store_[static_cast<std::size_t>(2 * head + half)];
      const auto* words = reinterpret_cast<const std::uint64_t*>(matrix.data());
      for (std::size_t i = 0; i < matrix.size() / 4; ++i) sum += words[i];
    }
    return sum;
  }

private:
  float number() {  // xorshift64*, uniform on [-sqrt 3, sqrt 3)
    state_ ^= state_ >> 12U;
    state_ ^= state_ << 25U;
    state_ ^= state_ >> 27U;
    const auto bits = static_cast<std::uint32_t>((state_ * 0x2545F4914F6CDD1DULL) >> 40U);
    return (static_cast<float>(bits) * 0x1p-23F - 1.0F) * 1.7320508F;
  }
  settings s_;
  std::vector<matrix_store> store_;
  std::vector<float> queries_;
  std::uint64_t state_ = 88172645463325252ULL, step_ = 0;
};

/// Something that is done to every head of a step, and how long its passes took.
struct contender {
  std::string name;
  std::function<void(int head, vattn::workspace&)> call;
  std::vector<double> times;  // of a pass over all heads [us a head]
  double density = 0.0, bytes = 0.0;
};

double median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2), x.end());
  return x[x.size() / 2];
}

class race {
public:
  explicit race(const settings& s)
      : s_(s), data_(s), spaces_(static_cast<std::size_t>(s.threads)) {}

  const step_data& data() const noexcept { return data_; }

  void enter(std::string name, std::function<void(int, vattn::workspace&)> call,
             double density = 0.0) {
    const auto whole = static_cast<double>(4 * s_.rows * s_.dim);
    contenders_.push_back({std::move(name), std::move(call), {}, density, density * whole});
  }
  template <class Functor>
  void enter_functor(std::string name, const Functor& functor) {
    auto indices = std::make_shared<std::vector<typename Functor::index_type>>();
    for (int h = 0; h < s_.heads; ++h) indices->push_back(functor.make_index(data_.cache(h)));
    contenders_.push_back({std::move(name), nullptr, {}, 0.0, 0.0});
    const std::size_t self = contenders_.size() - 1;
    contenders_[self].call = [this, self, functor, indices](int head, vattn::workspace& ws) {
      const auto& index = (*indices)[static_cast<std::size_t>(head)];
      const vattn::result r =
          functor(data_.queries(head), data_.cache(head), index, data_.key(head), ws);
      if (head != 0) return;
      contenders_[self].density = r.certificates[0].density();
      contenders_[self].bytes = static_cast<double>(r.certificates[0].bytes_touched);
    };
  }

  /// The dense kernel runs between any two of the others, so that none finds the cache warm.
  void run() {
    for (int repeat = -1; repeat < s_.repeats; ++repeat)  // the first one does not count
      for (std::size_t c = 1; c < contenders_.size(); ++c) {
        data_.new_step();
        pass(contenders_[0], repeat >= 0);
        pass(contenders_[c], repeat >= 0);
      }
  }

  void print() const {
    const double whole = static_cast<double>(4 * s_.rows * s_.dim);
    std::printf("%-36s us a head  10 %%..90 %%       speed-up  density  bytes   GB/s (%s time)\n",
                "", s_.threads == 1 ? "CPU" : "wall");
    for (const contender& c : contenders_) {
      std::vector<double> t = c.times;
      std::sort(t.begin(), t.end());
      const double middle = t[t.size() / 2];
      std::printf("%-36s %9.1f %7.1f..%-7.1f", c.name.c_str(), middle, t[t.size() / 10],
                  t[t.size() * 9 / 10]);
      if (c.bytes > 0.0)
        std::printf(" %8.2f x %7.2f %% %5.1f %% %6.1f", median(contenders_[0].times) / middle,
                    100 * c.density, 100 * c.bytes / whole, c.bytes / middle * 1e-3);
      std::puts("");
    }
  }

private:
  /// One thread: its CPU time, which other programs on the machine disturb less. Several: wall time.
  double now() const {
    std::timespec t{};
    clock_gettime(s_.threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return 1e6 * static_cast<double>(t.tv_sec) + 1e-3 * static_cast<double>(t.tv_nsec);
  }

  void pass(contender& c, bool counts) {
    const double start = now();
    for_each_parallel(static_cast<std::size_t>(s_.heads), s_.threads,
                      [&](int thread, std::size_t h) {
                        c.call(static_cast<int>(h), spaces_[static_cast<std::size_t>(thread)]);
                      });
    const double took = now() - start;
    if (counts) c.times.push_back(took / s_.heads);
  }

  settings s_;
  step_data data_;
  std::vector<vattn::workspace> spaces_;
  std::vector<contender> contenders_;
};

/// Sinks and window, a predictor, and a fixed uniform sample, `density` of the rows in all if the
/// predictor's picks of different query heads do not overlap.
template <class TopK>
auto fixed_density(const settings& s, TopK top_k, double picked) {
  const double exact = picked * s.group + 96.0 / static_cast<double>(s.rows);
  const vattn::extent rest =
      vattn::fraction(std::max(0.001, (s.density - exact) / std::max(0.001, 1.0 - exact)));
  return vattn::vattention(vattn::static_indices::sink_window(32, 64), std::move(top_k),
                           vattn::base_sampling::uniform(rest), vattn::budget::fixed(rest),
                           vattn::dynamic_sampling::uniform());
}

/// Parts of a call on their own, for the shares of its time.
template <class TopK>
void enter_scan(race& all, const std::string& name, const TopK& top_k, const settings& s) {
  auto indices = std::make_shared<std::vector<typename TopK::index_type>>();
  for (int h = 0; h < s.heads; ++h) {
    indices->push_back(top_k.make_index(s.dim));
    indices->back().append(all.data().cache(h));
  }
  const auto scan = [=, &all](int head, vattn::workspace& ws, bool select) {
    const vattn::kv_view kv = all.data().cache(head);
    const vattn::query_group queries = all.data().queries(head);
    const vattn::attention_call<vattn::kv_view> call(queries, kv, all.data().key(head));
    ws.reserve(s.group, s.rows, s.dim, s.dim, true);
    top_k.predict(call, (*indices)[static_cast<std::size_t>(head)], ws.seen, ws);
    if (select) top_k.select(call, ws.seen, ws);
  };
  all.enter("  part: " + name + ", scan",
            [=](int head, vattn::workspace& ws) { scan(head, ws, false); });
  all.enter("  part: " + name + ", scan and selection",
            [=](int head, vattn::workspace& ws) { scan(head, ws, true); });
}

void enter_draw(race& all, const settings& s) {
  all.enter("  part: drawing the rows", [=, &all](int head, vattn::workspace& ws) {
    const vattn::kv_view kv = all.data().cache(head);
    const vattn::query_group queries = all.data().queries(head);
    const vattn::attention_call<vattn::kv_view> call(queries, kv, all.data().key(head));
    ws.reserve(s.group, s.rows, s.dim, s.dim, false);
    const vattn::population rest(s.rows, ws.exact);
    const vattn::top_k::none predictor;
    const vattn::top_k::no_index index;
    vattn::base_sampling::uniform(vattn::fraction(s.density))
        .draw(vattn::drawing{call, rest, predictor, index, ws});
  });
}

void compare(const settings& s) {
  const double megabytes = 4e-6 * static_cast<double>(s.rows * s.dim) * s.heads;
  print_build();
  std::printf(
      "%lld keys, d = %lld, %d queries a KV head, bf16; %d heads = %.0f MB on %s pages; "
      "%d thread(s); median of %d passes over all heads\n",
      static_cast<long long>(s.rows), static_cast<long long>(s.dim), s.group, s.heads, megabytes,
      s.huge_pages ? "2 MB" : "4 KB", s.threads, s.repeats);
  race all(s);
  all.enter(
      "dense",
      [&](int head, vattn::workspace& ws) {
        vattn::dense(all.data().queries(head), all.data().cache(head), ws);
      },
      1.0);
  std::atomic<std::uint64_t> sink{0};
  all.enter(
      "plain read of all bytes",
      [&](int head, vattn::workspace&) { sink += all.data().read(head); }, 1.0);
  const double picked = 0.05 * s.density;
  all.enter_functor("no predictor, fixed", fixed_density(s, vattn::top_k::none(), 0.0));
  const vattn::top_k::key_code codes(4, vattn::fraction(picked));
  all.enter_functor("key_code(4), fixed", fixed_density(s, codes, picked));
  enter_scan(all, "key_code(4)", codes, s);
  const vattn::top_k::sign_hash signs(64, vattn::fraction(picked));
  all.enter_functor("sign_hash(64), fixed", fixed_density(s, signs, picked));
  enter_scan(all, "sign_hash(64)", signs, s);
  enter_draw(all, s);
  all.run();
  all.print();
  if (sink == 1) std::puts("");  // the sum is used
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("A decoding step at a fixed density against the dense kernel.", "decode_vs_dense");
  app.add_option("--rows", s.rows, "keys a head")->check(CLI::Range(1024, 1 << 24));
  app.add_option("--dim", s.dim, "key and value dimension")->check(CLI::Range(16, 1024));
  app.add_option("--heads", s.heads, "KV heads")->check(CLI::Range(1, 4096));
  app.add_option("--group", s.group, "queries a KV head")->check(CLI::Range(1, 64));
  app.add_option("--repeats", s.repeats)->check(CLI::Range(1, 10000));
  app.add_option("--threads", s.threads, "heads are shared out among them")
      ->check(CLI::Range(1, 1024));
  app.add_option("--density", s.density, "share of the rows read")->check(CLI::Range(0.005, 0.9));
  app.add_flag("--huge-pages", s.huge_pages,
               "caches on 2 MB pages, which gathering rows is faster on");
  CLI11_PARSE(app, argc, argv);
  return guarded("decode_vs_dense", [&] { compare(s); });
}
