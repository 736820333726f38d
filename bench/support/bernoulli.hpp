// SPDX-License-Identifier: Apache-2.0
/// @file
/// Bernoulli inclusion by geometric gaps: the sampler the library's uniform one was chosen against, and
/// a sampler of independent inclusions for tests.
#pragma once

#include <algorithm>
#include <cmath>

#include "vattention/core/concepts.hpp"
#include "vattention/core/errors.hpp"

namespace vattn_bench {

namespace bernoulli_detail {

/// What a draw carries from one growth to the next, in the sampler's constants.
enum slot : vattn::index_t { size_slot = 0, used_slot = 1 };

/// 2^32 times the inclusion probability of a threshold.
inline double scaled(vattn::threshold_t threshold) noexcept {
  return static_cast<double>(threshold) + 1.0;
}

/// Appends to the draw each of `count` positions with probability `share`, independently, ascending.
/// A gap between two of them is floor(log u / log(1 - share)). Returns the numbers used.
template <class Drawn>
std::uint64_t append_by_gaps(Drawn& drawn, vattn::index_t count, double share,
                             const vattn::random_stream& stream, std::uint64_t first) noexcept {
  const double log_miss = std::log1p(-share);  // -inf for share = 1: every gap is 0
  std::uint64_t used = 0;
  for (double at = 0.0;; at += 1.0) {
    const std::uint64_t bits = stream.u64(first + used++) >> 11U;
    at += std::floor(std::log((static_cast<double>(bits) + 1.0) * 0x1p-53) / log_miss);
    if (!(at < static_cast<double>(count))) return used;
    drawn.append(static_cast<vattn::row_t>(at), vattn::certain);
  }
}

/// Raises every residual row's inclusion probability to size / n. A row not drawn yet joins with
/// (p' - p) / (1 - p), so samples are nested. O(rows drawn + n / 64).
template <class Drawing>
void grow(const Drawing& d, vattn::index_t size, bool first) noexcept {
  const vattn::index_t n = d.rest.size();
  double* const kept = d.state.constants.data();
  if (first) {
    d.state.ranks.reset(n);
    d.state.ranks.list();
    kept[size_slot] = kept[used_slot] = 0.0;
  }
  const double had_share =
      kept[size_slot] == 0.0
          ? 0.0
          : scaled(vattn::threshold_of(kept[size_slot] / static_cast<double>(n)));
  const vattn::threshold_t threshold =
      vattn::threshold_of(static_cast<double>(size) / static_cast<double>(n));
  const double share = (scaled(threshold) - had_share) / (0x1p32 - had_share);
  const vattn::random_stream stream(d.call.key,
                                    static_cast<std::uint32_t>(vattn::purpose::sampling));
  const auto origin = static_cast<std::uint64_t>(d.call.kv.first_row()) << 32U;

  const vattn::index_t had = d.drawn.size();
  d.drawn.begin_growth();
  const auto used = static_cast<std::uint64_t>(kept[used_slot]);
  kept[used_slot] +=
      static_cast<double>(append_by_gaps(d.drawn, n - had, share, stream, origin + used));
  kept[size_slot] = static_cast<double>(size);
  const std::span<vattn::row_t> fresh = d.drawn.rows_from(had);
  vattn::population(n, d.state.ranks).to_rows(fresh);  // positions among those not drawn -> ranks
  for (const vattn::row_t rank : fresh) d.state.ranks.add(rank);
  d.state.ranks.list();
  d.rest.to_rows(fresh);
  d.drawn.set_all(threshold);
}

}  // namespace bernoulli_detail

/// Every residual row for itself with probability size / n. `size` is the expected number of rows.
class bernoulli_base {
public:
  using role = vattn::role::base_sampling;
  static constexpr vattn::design scheme = vattn::design::independent;

  explicit bernoulli_base(vattn::extent size, vattn::index_t at_least = 1)
      : size_(size), at_least_(at_least) {
    vattn::require(at_least >= 1, "bernoulli_base", "at_least >= 1", at_least);
  }
  vattn::index_t size(vattn::index_t population) const noexcept {
    return std::min(population, std::max(at_least_, size_.of(population)));
  }
  template <class Drawing>
  void draw(const Drawing& d) const noexcept {
    bernoulli_detail::grow(d, size(d.rest.size()), true);
  }

private:
  vattn::extent size_;
  vattn::index_t at_least_;
};
static_assert(vattn::base_sampling_policy<bernoulli_base>);

/// Growth of such a sample to the largest expected size that any query head asks for.
class bernoulli_growth {
public:
  using role = vattn::role::dynamic_sampling;
  static constexpr vattn::design scheme = vattn::design::independent;

  template <class Drawing>
  void grow(const Drawing& d, std::span<const vattn::index_t> sizes) const noexcept {
    const vattn::index_t most = *std::max_element(sizes.begin(), sizes.end());
    bernoulli_detail::grow(d, std::min(d.rest.size(), most), false);
  }

  template <class Drawing>
  vattn::index_t size(const Drawing& d, int /*head*/) const noexcept {
    return static_cast<vattn::index_t>(d.state.constants[bernoulli_detail::size_slot]);
  }

  /// sum over the present sample of y^2 (1 - p') / (p' p).
  template <class Drawing>
  double variance_at(const Drawing& d, int head, const vattn::contributions& y,
                     vattn::index_t size_then, vattn::correction finite) const noexcept {
    const auto n = static_cast<double>(d.rest.size());
    const double p = static_cast<double>(size(d, head)) / n;
    const double then = static_cast<double>(size_then) / n;
    const double missing = finite == vattn::correction::none ? 1.0 : std::max(0.0, 1.0 - then);
    return y.total / p * missing / then;
  }

  /// As of the uniform sampler.
  template <class Drawing>
  double resolution(const Drawing& d, int head) const noexcept {
    return 6.0 / static_cast<double>(size(d, head));
  }
};
static_assert(vattn::dynamic_sampling_policy<bernoulli_growth>);

}  // namespace vattn_bench
