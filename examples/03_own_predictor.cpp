// SPDX-License-Identifier: Apache-2.0
// A predictor of one's own: scores keys by every second of their channels.
#include <cstdio>

#include "support/check.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/vattention.hpp"

using vattn::index_t;
using vattn_examples::check;

struct half_index {  // what it keeps beside the cache; core/concepts.hpp: key_index
  index_t dim, taken = 0;
  std::vector<float> kept{};

  void append(const auto& kv) {
    for (std::vector<float> key(static_cast<std::size_t>(dim)); taken < kv.rows(); ++taken) {
      const void* row = kv.key_row(static_cast<vattn::row_t>(taken));
      vattn::kernels::load_row(kv.key_type(), row, dim, key.data());
      float odd = 0.0F;  // NaN if a channel is not finite; a score of NaN means: take this row
      for (const float x : key) odd += 0.0F * x;
      for (std::size_t j = 0; j < key.size(); j += 2) kept.push_back(key[j] + odd);
    }
  }
  index_t rows() const noexcept { return taken; }
  bool matches(const auto& kv) const noexcept { return taken == kv.rows() && dim == kv.key_dim(); }
};

struct half_channels {  // core/concepts.hpp: top_k_policy
  using role = vattn::role::top_k;
  using index_type = half_index;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = false;

  half_index make_index(index_t key_dim) const { return {key_dim}; }
  void predict(const auto& call, const half_index& index, vattn::predictions& seen,
               vattn::workspace&) const noexcept {
    for (int h = 0; h < call.heads(); ++h) {
      const float* query = call.queries.data + h * call.queries.stride;
      const float* kept = index.kept.data();
      for (float& score : seen.scores(h).first(static_cast<std::size_t>(call.visible))) {
        score = 0.0F;
        for (index_t j = 0; j < index.dim; j += 2) score += query[j] * *kept++;
      }
    }
  }
  void select(const auto& call, const vattn::predictions&, vattn::workspace& ws) const noexcept {
    vattn::select_top(call, call.visible / 50, ws);  // 2 %
  }
  index_t bytes_scanned(const auto& call) const noexcept {
    return call.visible * ((call.kv.key_dim() + 1) / 2) * index_t{sizeof(float)};
  }
  vattn::basis coverage() const noexcept { return vattn::basis::unmeasured; }
};
static_assert(vattn::top_k_policy<half_channels>);

int main() {
  auto head = vattn::make_head(vattn::head_kind::power_law, 8192, 64, 64, 1, 3);
  const auto certificate_with = [&](const char* name, auto top_k) {
    const vattn::vattention attend(vattn::static_indices::sink_window(32, 64), top_k,
                                   vattn::dynamic_sampling::uniform(),
                                   vattn::base_sampling::uniform(vattn::fraction(0.01), 32),
                                   vattn::budget::output(vattn::epsilon{0.2}, vattn::delta{0.1}));
    vattn::workspace ws;
    const auto kv = head.view();
    const auto c = attend(head.group(), kv, attend.make_index(kv), {.seed = 1}, ws).certificates[0];
    std::printf("%-13s %5.1f %% of the rows (%s)\n", name, 100.0 * c.density(), to_string(c.basis));
    return c;
  };
  const auto none = certificate_with("none", vattn::top_k::none());
  const auto half = certificate_with("half_channels", half_channels());
  certificate_with("key_code", vattn::top_k::key_code(4, vattn::fraction(0.02)));
  check(none.holds() && half.holds(), "a weak predictor costs rows, not the certificate");
  check(half.density() < none.density(), "some prediction is better than none");
  check(half.basis == vattn::basis::unmeasured, "and nobody has measured this one");
  head.keys(4000, 1) = std::numeric_limits<float>::infinity();  // in a channel that is not kept
  const auto broken = certificate_with("half_channels", half_channels());
  check(broken.status == vattn::status::non_finite, "the predictor makes sure that it is noticed");
}
