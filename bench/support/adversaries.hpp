// SPDX-License-Identifier: Apache-2.0
/// @file
/// Caches that are made to fool a predictor, a sampler or a certificate.
#pragma once

#include <numeric>

#include "vattention/testing/heads.hpp"

namespace vattn_bench {

using vattn::index_t;

enum class adversary {
  lying_code,   ///< one key of norm 60 holds 20 % of the mass, and its code is far off
  needle,       ///< one ordinary key, anywhere, holds 30 % of the mass of a flat head
  duplicates,   ///< 16 different keys only, each n / 16 times, values of their own
  equal_keys,   ///< one key n times: every weight is 1 / n
  huge_values,  ///< 8 rows of ordinary weight, values a thousand times as long as the others'
  ordered,      ///< N(0, 2^2) logits in ascending order
  sharp,        ///< N(0, 40^2) logits: one key or two have all the mass, and codes are off by nats
};

inline constexpr std::array<std::pair<const char*, adversary>, 7> adversary_names{
    {{"lying_code", adversary::lying_code},
     {"needle", adversary::needle},
     {"duplicates", adversary::duplicates},
     {"equal_keys", adversary::equal_keys},
     {"huge_values", adversary::huge_values},
     {"ordered", adversary::ordered},
     {"sharp", adversary::sharp}}};

/// Logits of a generated head's only query, up to a constant.
inline Eigen::VectorXf logits_of(const vattn::synthetic_head& head) {
  return head.keys * head.queries.row(0).transpose() /
         std::sqrt(static_cast<float>(head.keys.cols()));
}

/// Moves a key along the query until it holds a share of the mass.
inline void make_heavy(vattn::synthetic_head& head, index_t row, double mass) {
  const Eigen::ArrayXd l = logits_of(head).cast<double>();
  const double others = l.exp().sum() - std::exp(l[row]);
  const double wanted = std::log(others * mass / (1.0 - mass));
  const Eigen::RowVectorXf q = head.queries.row(0);
  const double root = std::sqrt(static_cast<double>(head.keys.cols()));
  const auto length = static_cast<double>(q.squaredNorm());
  head.keys.row(row) += static_cast<float>((wanted - l[row]) * root / length) * q;
}

/// Rows in ascending order of their logits.
inline void sort_by_logit(vattn::synthetic_head& head) {
  const Eigen::VectorXf l = logits_of(head);
  std::vector<index_t> order(static_cast<std::size_t>(l.size()));
  std::iota(order.begin(), order.end(), index_t{0});
  std::sort(order.begin(), order.end(), [&](index_t a, index_t b) { return l[a] < l[b]; });
  const vattn::synthetic_head from = head;
  for (index_t i = 0; i < l.size(); ++i) {
    head.keys.row(i) = from.keys.row(order[static_cast<std::size_t>(i)]);
    head.values.row(i) = from.values.row(order[static_cast<std::size_t>(i)]);
  }
}

/// A cache of n keys for one query, d = d_v; the same arguments give the same cache.
inline vattn::synthetic_head make_adversary(adversary what, index_t n, index_t d,
                                            std::uint64_t seed) {
  using vattn::head_kind;
  const auto kind = what == adversary::lying_code   ? head_kind::missed_key
                    : what == adversary::equal_keys ? head_kind::flat
                                                    : head_kind::log_normal;
  vattn::synthetic_head head = vattn::make_head(kind, n, d, d, 1, seed);
  const vattn::random_stream stream({.seed = seed}, 0x61647665U);
  const auto anywhere = [&](std::uint64_t i) {
    return static_cast<index_t>(stream.below(i, static_cast<std::uint64_t>(n)));
  };
  switch (what) {
    case adversary::lying_code: break;
    case adversary::needle:
      head = vattn::make_head(head_kind::flat, n, d, d, 1, seed);
      make_heavy(head, anywhere(0), 0.3);
      break;
    case adversary::duplicates:
      for (index_t i = 16; i < n; ++i) head.keys.row(i) = head.keys.row(i % 16);
      break;
    case adversary::equal_keys:
      for (index_t i = 1; i < n; ++i) head.keys.row(i) = head.keys.row(0);
      break;
    case adversary::huge_values:
      for (std::uint64_t i = 0; i < 8; ++i) head.values.row(anywhere(i)) *= 1000.0F;
      break;
    case adversary::ordered: sort_by_logit(head); break;
    case adversary::sharp: head.queries *= 20.0F; break;
  }
  return head;
}

}  // namespace vattn_bench
