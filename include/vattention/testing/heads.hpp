// SPDX-License-Identifier: Apache-2.0
/// @file
/// Attention heads with a promised weight distribution, reproducible from a seed.
#pragma once

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "vattention/core/query_group.hpp"
#include "vattention/core/rng.hpp"

namespace vattn {

/// How the softmax weights of each query head are spread over the n keys. All query heads of a
/// group have the same kind of distribution, each over keys of its own (missed_key: the same key
/// for all).
enum class head_kind : std::uint8_t {
  /// min(8, n / 4) keys hold 95 % of the mass, the r-th of them in proportion to 1 / r, so the
  /// first 35 %; the other logits are N(0, 1).
  sharp,
  /// 1 % of the keys (at least one) hold half of the mass in equal parts, the rest is flat.
  mixed,
  /// Logits N(0, .1^2): exp(entropy) = .995 n.
  flat,
  /// The r-th largest weight is in proportion to 1 / r (density exponent alpha = 2).
  power_law,
  /// Logits N(0, 2^2).
  log_normal,
  /// One key of norm about 60, anywhere, holds 20 % of the mass of every head, and a sign code
  /// without a rotation ranks it among the last 2 %; the other logits are N(0, 1).
  missed_key,
};

/// Queries, keys and values of one KV head, row-major. Views refer to it, so it must outlive them.
struct synthetic_head {
  using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  /// `[g x d]`, `[n x d]`, `[n x d_v]`.
  matrix queries, keys, values;

  kv_view view() const { return {keys, values}; }
  query_group group(logit_options options = {}) const {
    return {queries.data(), static_cast<int>(queries.rows()), queries.cols(), options};
  }
};

/// A row-major copy in another element type, rounded to nearest: what a bf16 or fp16 cache holds.
/// `kv_view{rows_view(keys.data(), n, d), rows_view(values.data(), n, d_v)}` views such copies.
template <class T>
  requires is_element<T>
std::vector<T> narrow(const synthetic_head::matrix& m) {
  std::vector<T> out(static_cast<std::size_t>(m.size()));
  std::transform(m.data(), m.data() + m.size(), out.begin(), [](float x) { return T(x); });
  return out;
}

namespace detail {

/// Hands out the numbers of one stream in turn.
class head_source {
public:
  head_source(std::uint64_t seed, std::uint32_t part)
      : stream_({seed, 0, part, 0, 0}, 0x68656164U) {}

  index_t below(index_t bound) {
    return static_cast<index_t>(stream_.below(next_++, static_cast<std::uint64_t>(bound)));
  }
  /// Standard normal by Box and Muller's method, in double.
  double normal() {
    const double u = (static_cast<double>(stream_.u64(next_++) >> 11) + 1.0) * 0x1p-53;  // (0, 1]
    const double turn = static_cast<double>(stream_.u64(next_++) >> 11) * 0x1p-53;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * turn);
  }
  Eigen::VectorXd normals(index_t count, double deviation = 1.0) {
    return Eigen::VectorXd::NullaryExpr(count, [&] { return deviation * normal(); });
  }
  /// `l` in random order.
  void shuffle(Eigen::VectorXd& l) {
    for (index_t i = l.size() - 1; i > 0; --i) std::swap(l[i], l[below(i + 1)]);
  }

private:
  random_stream stream_;
  std::uint64_t next_ = 0;
};

/// Sets the first `shares.size()` logits so that these keys hold `mass` of the total, in proportion
/// to `shares`; the other logits stay.
inline void set_heavy(Eigen::VectorXd& l, const Eigen::VectorXd& shares, double mass) {
  const index_t others = l.size() - shares.size();
  const double rest = others == 0 ? 1.0 : l.tail(others).array().exp().sum();
  const double heavy = rest * mass / (1.0 - mass);
  l.head(shares.size()) = (shares.array() * (heavy / shares.sum())).log();
}

/// n logits of the promised distribution, in random order (the heavy key of missed_key comes
/// first).
inline Eigen::VectorXd head_logits(head_kind kind, index_t n, head_source& source) {
  const auto ranks = [](index_t count) {
    return Eigen::ArrayXd::LinSpaced(count, 1.0, static_cast<double>(count));
  };
  if (kind == head_kind::flat) return source.normals(n, 0.1);
  if (kind == head_kind::log_normal) return source.normals(n, 2.0);
  Eigen::VectorXd l = source.normals(n, kind == head_kind::mixed ? 0.1 : 1.0);
  if (kind == head_kind::missed_key) {
    set_heavy(l, Eigen::VectorXd::Ones(1), 0.2);
    return l;
  }
  if (kind == head_kind::power_law) l = -ranks(n).log();
  if (kind == head_kind::sharp)
    set_heavy(l, ranks(std::clamp<index_t>(n / 4, 1, 8)).inverse(), 0.95);
  if (kind == head_kind::mixed)
    set_heavy(l, Eigen::VectorXd::Ones(std::max<index_t>(n / 100, 1)), 0.5);
  source.shuffle(l);
  return l;
}

/// `x` less its part in the span of the orthonormal columns of `basis`; done twice for full
/// accuracy.
inline Eigen::VectorXd orthogonal_part(Eigen::VectorXd x, const Eigen::MatrixXd& basis) {
  for (int pass = 0; pass < 2; ++pass) x -= basis * (basis.transpose() * x).eval();
  return x;
}

/// g orthonormal directions in d dimensions, as columns.
inline Eigen::MatrixXd directions(index_t d, index_t g, head_source& source) {
  Eigen::MatrixXd basis(d, 0);
  for (index_t h = 0; h < g; ++h) {
    const Eigen::VectorXd x = orthogonal_part(source.normals(d), basis);
    basis.conservativeResize(d, h + 1);
    basis.col(h) = x.normalized();
  }
  return basis;
}

/// A unit vector orthogonal to all queries whose signs disagree with theirs: against the mean query
/// in all but its largest 7 % of coordinates, which agree and are large enough to balance the rest.
inline Eigen::VectorXd hiding_direction(const Eigen::MatrixXd& basis) {
  const Eigen::VectorXd q = basis.rowwise().sum();
  Eigen::VectorXd sizes = q.cwiseAbs();
  double* const end = sizes.data() + sizes.size();
  double* const cut = end - std::max<index_t>(q.size() * 7 / 100, 1);
  std::nth_element(sizes.data(), cut, end);
  const Eigen::ArrayXd large = (q.array().abs() >= *cut).cast<double>();
  const double inside = ((1.0 - large) * q.array().abs()).sum();
  const double outside = (large * q.array().abs()).sum();
  const Eigen::VectorXd x = q.array().sign() * (large * (inside / outside) - (1.0 - large));
  return orthogonal_part(x, basis).normalized();
}

}  // namespace detail

/// A head of `n` keys and `g` queries whose weights are distributed as `kind` says, to float
/// rounding.
///
/// Queries are orthogonal, of norm 3 sqrt(d). Keys have a common mean, N(0, 1) noise orthogonal to
/// all queries, and along each query what gives the wanted logit q.k / sqrt(d), up to one constant
/// a query. A 1-bit code then misses logits by 2.2, a bf16 copy by .006 (standard deviations).
/// Values are N(0, 1) about a mean of +-1/2 a coordinate: on flat heads rms ||v|| is 2.2 ||o||. The
/// heavy key of missed_key owes its norm to a direction no query sees. Without a rotation its sign
/// code ranks it about last; with a random one the code is off by 17 to either side and hides it
/// from the top 2 % in 45 of 100 seeds. Reading all keys but this one gives an output about 40 %
/// off (never below 28 % in 720 heads with d_v = 64).
///
/// Same arguments, same head, up to the platform's log and cos. O(n (d g + d_v)) time; allocates.
/// @throws std::invalid_argument unless n, d_v >= 1 and 1 <= g <= d (g < d for missed_key).
inline synthetic_head make_head(head_kind kind, index_t n, index_t d, index_t d_v, int g,
                                std::uint64_t seed) {
  require(n >= 1 && d_v >= 1, "make_head", "n >= 1 and d_v >= 1", n, d_v);
  require(g >= 1 && g <= d - (kind == head_kind::missed_key ? 1 : 0), "make_head",
          "1 <= g <= d, and g < d for missed_key", g, d);
  constexpr double query_scale = 3.0;
  const double root = std::sqrt(static_cast<double>(d));
  detail::head_source geometry(seed, 0), noise(seed, 1), scores(seed, 2), contents(seed, 3);
  const Eigen::MatrixXd basis = detail::directions(d, g, geometry);
  const Eigen::VectorXd mean_key = geometry.normals(d);

  Eigen::MatrixXd l(n, g);
  for (int h = 0; h < g; ++h) l.col(h) = detail::head_logits(kind, n, scores);
  const index_t special = scores.below(n);
  if (kind == head_kind::missed_key) l.row(0).swap(l.row(special));

  synthetic_head head;
  head.queries = (query_scale * root * basis.transpose()).cast<float>();
  head.keys.resize(n, d);
  for (index_t i = 0; i < n; ++i) {
    Eigen::VectorXd key = detail::orthogonal_part(noise.normals(d), basis);
    if (kind == head_kind::missed_key && i == special) key = 60.0 * detail::hiding_direction(basis);
    key += mean_key + basis * l.row(i).transpose() / query_scale;
    head.keys.row(i) = key.transpose().cast<float>();
  }
  head.values.resize(n, d_v);
  const Eigen::VectorXd mean_value = contents.normals(d_v).array().sign() * 0.5;
  for (index_t i = 0; i < n; ++i)
    head.values.row(i) = (mean_value + contents.normals(d_v)).transpose().cast<float>();
  return head;
}

}  // namespace vattn
