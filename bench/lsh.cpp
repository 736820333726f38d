// SPDX-License-Identifier: Apache-2.0
// Sampling by collisions of hashes (MagicPIG) on captured heads, each trial with hash planes of its own. How much of the
// variance does the formula for independent rows miss, with the same planes for all keys and with a pattern a key? How
// far off are outputs, beside samples of as many rows in proportion to key codes and uniform ones? And do certificates
// hold, by row over the trials and by index over its rows?
#include <CLI/CLI.hpp>

#include <map>
#include <mutex>

#include "../examples/support/progress.hpp"
#include "support/experiment.hpp"
#include "support/guard.hpp"
#include "support/head_class.hpp"
#include "support/verdict.hpp"
#include "vattention/base_sampling/lsh.hpp"
#include "vattention/dynamic_sampling/lsh.hpp"
#include "vattention/top_k/lsh.hpp"
#include "vattention/vattention.hpp"

using namespace vattn_bench;
using vattn::index_t;

namespace {

struct settings : experiment_options {
  int trials = 60;
  bool groups = false;
  std::vector<double> shares{0.01, 0.03, 0.1}, epsilons{0.05, 0.1, 0.2};
  double delta = 0.1;
};

double mean_of(const std::vector<double>& x) {
  double sum = 0.0;
  for (const double value : x) sum += value;
  return sum / static_cast<double>(x.size());
}
double middle_share(const settings& s) { return s.shares[s.shares.size() / 2]; }
double worst_of(const std::vector<double>& x) { return *std::max_element(x.begin(), x.end()); }

/// The rows of each KV head.
std::vector<std::pair<const kv_head*, std::vector<const bench_row*>>> by_head(const row_set& rows) {
  std::vector<std::pair<const kv_head*, std::vector<const bench_row*>>> all;
  for (const kv_head* head : rows.heads()) {
    all.emplace_back(head, std::vector<const bench_row*>());
    for (const bench_row& row : rows.rows())
      if (row.head == head) all.back().second.push_back(&row);
  }
  return all;
}

// ---- the variance of a sum over the rows that collide ----

constexpr int tables = 128;

/// Rows in 1e12 of right-angled ones that collide in 0 .. `count` tables.
std::vector<index_t> unrelated(int count, int bits) {
  std::vector<index_t> rows;
  const double agree = std::pow(0.5, bits);
  for (int n = 0; n <= count; ++n)
    rows.push_back(static_cast<index_t>(1e12 * (vattn::binomial_upper_tail(count, agree, n) -
                                                vattn::binomial_upper_tail(count, agree, n + 1))));
  return rows;
}

/// A query's residual: weights, v - o, and chances under a rule that no planes have a part in.
class weighed_rows {
public:
  /// Chances are those of the row's query, or of another direction `[d]`.
  weighed_rows(const bench_row& row, const vattn::top_k::lsh_index& index,
               const std::vector<float>& other = {})
      : last_(row.visible() - 64) {
    const vattn::query_group query = row.query();
    const vattn::kv_view& kv = row.head->kv();
    const Eigen::VectorXd weights = vattn::softmax_weights(query, kv, row.lane());
    const Eigen::VectorXd output = vattn::reference(query, kv).output.row(row.lane());
    length_ = output.norm();
    const float* q = query.data + row.lane() * query.stride;
    direction_.assign(q, q + kv.key_dim());
    if (!other.empty()) direction_ = other;
    std::vector<float> turned = direction_;
    index.planes().turn(turned.data());
    std::vector<float> key(turned.size());
    sum_off_ = Eigen::VectorXd::Zero(kv.value_dim());
    for (index_t i = first_; i < last_; ++i) {
      index.load(kv, i, key.data());
      const double angle = vattn::angle_between(turned.data(), key.data(), kv.key_dim());
      same_side_.push_back(1.0 - angle / std::numbers::pi);
      weights_.push_back(weights[i]);
      off_.emplace_back(vattn::detail::widen_value(kv, static_cast<vattn::row_t>(i)) - output);
      sum_ += weights[i];
      sum_off_ += weights[i] * off_.back();
    }
  }

  /// Sets the rule of so many tables under which that share of the rows is expected.
  void set_rule(int count, int bits, double share) {
    const std::vector<index_t> counts = unrelated(count, bits);
    set_chances(share, [&](double wanted) {
      rule_ = {count, bits};
      rule_.set(wanted, 0.3, counts);
      return chances_under(rule_);
    });
  }
  /// Sets the chances `make(x)`, which rise with x in (0, 1), at which that share of the rows is expected.
  template <class Make>
  void set_chances(double share, Make make) {
    double low = 1e-9;
    double high = 1.0;
    for (int step = 0; step < 40; ++step) {
      const double middle = std::sqrt(low * high);
      chances_ = make(middle);
      double expected = 0.0;
      for (const double chance : chances_) expected += chance;
      (expected < share * static_cast<double>(weights_.size()) ? low : high) = middle;
    }
    form_variances();
  }
  std::vector<double> chances_under(const vattn::collision_rule& rule) const {
    // By a table of logarithms, to 1e-4.
    constexpr int steps = 1024;
    std::vector<double> logs;
    logs.reserve(steps + 1);
    for (int i = 0; i <= steps; ++i) logs.push_back(std::log(rule.chance(i / double{steps})));
    std::vector<double> chances;
    chances.reserve(same_side_.size());
    for (const double side : same_side_) {
      const auto below = std::min(static_cast<std::size_t>(side * steps), std::size_t{steps - 1});
      const double part = side * steps - static_cast<double>(below);
      chances.push_back(std::exp(logs[below] + part * (logs[below + 1] - logs[below])));
    }
    return chances;
  }
  const std::vector<double>& chances() const noexcept { return chances_; }
  /// Takes the chances of another query on the same rows.
  void take_chances(const std::vector<double>& chances) {
    chances_ = chances;
    form_variances();
  }
  /// Standard error of the output, relative to it, if rows were independent.
  double standard_error() const noexcept { return std::sqrt(formula_[1]) / length_; }

  const std::vector<float>& direction() const noexcept { return direction_; }
  index_t first() const noexcept { return first_; }
  index_t last() const noexcept { return last_; }

  /// Adds the squared errors of a trial; `collisions(row)`.
  template <class Collisions>
  void add(const vattn::random_stream& numbers, Collisions collisions, double* squares) const {
    double sum = -sum_;
    Eigen::VectorXd off = -sum_off_;
    for (index_t row = first_; row < last_; ++row) {
      const auto i = static_cast<std::size_t>(row - first_);
      if (numbers.u32(static_cast<std::uint64_t>(row)) > rule_.threshold(collisions(row))) continue;
      sum += weights_[i] / chances_[i];
      off += weights_[i] / chances_[i] * off_[i];
    }
    squares[0] += sum * sum;
    squares[1] += off.squaredNorm();
  }
  /// Variance of the denominator (0) and of the output's numerator (1) if rows were independent.
  double formula(int which) const noexcept { return formula_[which]; }

private:
  void form_variances() {
    formula_[0] = formula_[1] = 0.0;
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      const double each = weights_[i] * weights_[i] * (1.0 - chances_[i]) / chances_[i];
      formula_[0] += each;
      formula_[1] += each * off_[i].squaredNorm();
    }
  }

  index_t first_ = 32, last_;
  vattn::collision_rule rule_;
  std::vector<float> direction_;
  std::vector<double> same_side_, chances_, weights_;
  std::vector<Eigen::VectorXd> off_;
  double length_ = 0.0, sum_ = 0.0, formula_[2] = {};
  Eigen::VectorXd sum_off_;
};

void study_variance(const settings& s, const row_set& rows) {
  using vattn::top_k::lsh_planes;
  std::vector<double> ratio[2][2];
  std::mutex shared;
  const auto heads = by_head(rows);
  for_each_parallel(heads.size(), s.threads, [&](int, std::size_t h) {
    const vattn::kv_view& kv = heads[h].first->kv();
    const auto words = static_cast<index_t>(tables / 64);
    vattn::top_k::lsh_index turned(tables, 1, kv.key_dim(), 0);
    turned.append(kv);
    std::vector<weighed_rows> all;
    for (const bench_row* row : heads[h].second) {
      all.emplace_back(*row, turned);
      all.back().set_rule(tables, 1, middle_share(s));
    }
    std::vector<std::array<std::array<double, 2>, 2>> squares(all.size());
    std::vector<float> x(static_cast<std::size_t>(kv.key_dim())), room(x.size());
    for (int trial = 0; trial < s.trials; ++trial) {
      const auto seed = s.seed + static_cast<std::uint64_t>(trial);
      const lsh_planes planes(tables, kv.key_dim(), seed);
      for (int own = 0; own < 2; ++own) {
        std::vector<std::uint64_t> keys(static_cast<std::size_t>(words * kv.rows()));
        const auto pattern = [&](index_t row) {
          return own == 1 ? lsh_planes::pattern_of(row) : 0;
        };
        for (index_t row = 0; row < kv.rows(); ++row) {
          turned.load(kv, row, x.data());
          planes.hash(x.data(), pattern(row), room.data(), keys.data() + words * row);
        }
        for (std::size_t r = 0; r < all.size(); ++r) {
          std::vector<std::uint64_t> asked(static_cast<std::size_t>(words * lsh_planes::patterns));
          x = all[r].direction();
          planes.turn(x.data());
          for (int p = 0; p < (own == 1 ? lsh_planes::patterns : 1); ++p)
            planes.hash(x.data(), p, room.data(), asked.data() + words * p);
          const vattn::random_stream numbers({.seed = seed, .step = r}, 77);
          all[r].add(
              numbers,
              [&](index_t row) {
                int apart = 0;
                for (index_t w = 0; w < words; ++w)
                  apart += std::popcount(keys[static_cast<std::size_t>(words * row + w)] ^
                                         asked[static_cast<std::size_t>(words * pattern(row) + w)]);
                return tables - apart;
              },
              squares[r][static_cast<std::size_t>(own)].data());
        }
      }
    }
    const std::lock_guard lock(shared);
    for (std::size_t r = 0; r < all.size(); ++r)
      for (int own = 0; own < 2; ++own)
        for (int which = 0; which < 2; ++which)
          ratio[own][which].push_back(
              squares[r][static_cast<std::size_t>(own)][static_cast<std::size_t>(which)] /
              s.trials / all[r].formula(which));
  });
  std::printf(
      "\nvariance over what independent rows would have, %d tables of 1 bit, about %.3g %% of the rows, %d planes\n"
      "                    | output: median 90 %%  worst | denominator: median 90 %%  worst\n",
      tables, 100 * middle_share(s), s.trials);
  for (int own = 0; own < 2; ++own)
    std::printf("%-19s | %14.2f %6.2f %6.2f | %19.2f %6.2f %6.2f\n",
                own == 1 ? "a pattern a key" : "same planes for all",
                quantile_of(ratio[own][1], 0.5), quantile_of(ratio[own][1], 0.9),
                worst_of(ratio[own][1]), quantile_of(ratio[own][0], 0.5),
                quantile_of(ratio[own][0], 0.9), worst_of(ratio[own][0]));
}

/// What tables of several bits are worth at the same rows.
void compare_kinds(const settings& s, const row_set& rows) {
  constexpr std::array<std::pair<int, int>, 8> kinds{
      {{64, 1}, {128, 1}, {256, 1}, {64, 2}, {32, 4}, {16, 8}, {64, 16}, {150, 10}}};
  std::vector<double> errors[kinds.size()];
  std::mutex shared;
  const auto heads = by_head(rows);
  for_each_parallel(heads.size(), s.threads, [&](int, std::size_t h) {
    const vattn::kv_view& kv = heads[h].first->kv();
    vattn::top_k::lsh_index index(64, 1, kv.key_dim(), 0);
    index.append(kv);
    for (const bench_row* row : heads[h].second) {
      weighed_rows all(*row, index);
      for (std::size_t k = 0; k < kinds.size(); ++k) {
        all.set_rule(kinds[k].first, kinds[k].second, middle_share(s));
        const std::lock_guard lock(shared);
        errors[k].push_back(all.standard_error());
      }
    }
  });
  std::printf(
      "\nstandard error of the output %% if rows were independent, %.3g %% of the rows\n"
      "tables x bits | bytes a key | mean median worst\n",
      100 * middle_share(s));
  for (std::size_t k = 0; k < kinds.size(); ++k)
    std::printf("%7d x %-3d | %11.1f | %5.2f %6.2f %5.1f\n", kinds[k].first, kinds[k].second,
                kinds[k].first * kinds[k].second / 8.0, 100 * mean_of(errors[k]),
                100 * quantile_of(errors[k], 0.5), 100 * worst_of(errors[k]));
}

/// One sample for a group's queries: by their mean direction, or by a share of the tables for each.
void compare_directions(const settings& s, const row_set& rows) {
  std::vector<double> errors[2];
  std::mutex shared;
  const auto heads = by_head(rows);
  for_each_parallel(heads.size(), s.threads, [&](int, std::size_t h) {
    const vattn::kv_view& kv = heads[h].first->kv();
    vattn::top_k::lsh_index index(64, 1, kv.key_dim(), 0);
    index.append(kv);
    std::map<int, std::vector<const bench_row*>> groups;
    for (const bench_row* row : heads[h].second) groups[row->position].push_back(row);
    for (const auto& [position, group] : groups) {
      std::vector<weighed_rows> each;
      Eigen::VectorXf mean = Eigen::VectorXf::Zero(kv.key_dim());
      for (const bench_row* row : group) {
        each.emplace_back(*row, index);
        mean += Eigen::Map<const Eigen::VectorXf>(each.back().direction().data(), mean.size())
                    .normalized();
      }
      weighed_rows by_mean(*group[0], index, {mean.data(), mean.data() + mean.size()});
      by_mean.set_rule(tables, 1, middle_share(s));
      const int dealt = tables / static_cast<int>(group.size());
      const std::vector<index_t> counts = unrelated(dealt, 1);
      weighed_rows by_each = each[0];
      by_each.set_chances(middle_share(s), [&](double wanted) {
        vattn::collision_rule rule{dealt, 1};
        rule.set(wanted, 0.3, counts);
        std::vector<double> missed(by_each.chances_under(rule).size(), 1.0);
        for (const weighed_rows& of : each) {
          const std::vector<double> chances = of.chances_under(rule);
          for (std::size_t i = 0; i < missed.size(); ++i) missed[i] *= 1.0 - chances[i];
        }
        for (double& x : missed) x = 1.0 - x;
        return missed;
      });
      for (weighed_rows& of : each)
        for (const auto* by : {&by_mean, &by_each}) {
          of.take_chances(by->chances());
          const std::lock_guard lock(shared);
          errors[by == &by_mean ? 0 : 1].push_back(of.standard_error());
        }
    }
  });
  std::printf(
      "\nstandard error of the outputs of a group %% if rows were independent, %.3g %% of the rows: mean median worst\n",
      100 * middle_share(s));
  for (int k = 0; k < 2; ++k)
    std::printf("%-26s %6.2f %6.2f %5.1f\n",
                k == 0 ? "the queries' mean direction" : "a share of the tables each",
                100 * mean_of(errors[k]), 100 * quantile_of(errors[k], 0.5),
                100 * worst_of(errors[k]));
}

// ---- samplers of the library ----

/// What the trials on one row gave.
struct outcome {
  int trials = 0, beyond_bound = 0, beyond_asked = 0, denominator_beyond = 0;
  double density = 0.0, bytes = 0.0, error = 0.0, square = 0.0, variance = 0.0;
  double denominator = 0.0, denominator_square = 0.0, denominator_variance = 0.0;
  double exact = 0.0;

  /// How many standard errors the mean of D^ / D is from 1.
  double bias() const {
    const double mean = denominator / trials;
    return mean / std::sqrt((denominator_square / trials - mean * mean) / trials + 1e-20);
  }
};

struct outcomes {
  std::vector<outcome> of_row;
  /// Of each (head, trial) the share of its rows whose error is beyond the bound.
  std::vector<double> of_index;
};

/// Calls `make(seed)` on every row, once a trial; `reseeded`: its index is another one with another seed.
template <class Make>
outcomes run_rows(const settings& s, const row_set& rows, bool reseeded, Make make) {
  const auto heads = by_head(rows);
  std::map<const bench_row*, std::size_t> place;
  for (std::size_t r = 0; r < rows.rows().size(); ++r) place[&rows.rows()[r]] = r;
  outcomes all;
  all.of_row.resize(rows.rows().size());
  std::vector<vattn::workspace> spaces(static_cast<std::size_t>(s.threads));
  std::mutex shared;
  for_each_parallel(heads.size(), s.threads, [&](int thread, std::size_t h) {
    const kv_head& head = *heads[h].first;
    vattn::workspace& ws = spaces[static_cast<std::size_t>(thread)];
    std::vector<vattn::exact_attention> exact;
    for (const bench_row* row : heads[h].second)
      exact.push_back(vattn::reference(row->query(), head.kv()));
    auto index = make(0).make_index(head.kv());
    for (int trial = 0; trial < s.trials; ++trial) {
      const auto seed = s.seed + static_cast<std::uint64_t>(trial);
      const auto functor = make(seed);
      if (reseeded) index = functor.make_index(head.kv());
      double beyond = 0.0;
      for (std::size_t r = 0; r < exact.size(); ++r) {
        const bench_row& row = *heads[h].second[r];
        const int lane = row.lane();
        const vattn::result got =
            functor(row.query(), head.kv(), index, head.draw(row.position, seed), ws);
        const vattn::certificate& said = got.certificates[static_cast<std::size_t>(lane)];
        const deviation off = deviation_of(
            got.output.row(lane), got.log_sum_exp[static_cast<std::size_t>(lane)], exact[r], lane);
        outcome& o = all.of_row[place[&row]];
        ++o.trials;
        o.density += said.density();
        o.bytes += static_cast<double>(said.bytes_touched) /
                   static_cast<double>(row.visible() * (vattn::key_bytes(head.kv()) +
                                                        vattn::value_bytes(head.kv())));
        o.error += off.output;
        o.square += off.output * off.output;
        const bool missed = !(off.output <= said.epsilon + 1e-5);
        beyond += missed ? 1.0 : 0.0;
        o.beyond_bound += missed ? 1 : 0;
        o.beyond_asked += off.output > said.epsilon_asked ? 1 : 0;
        o.exact += said.status == vattn::status::exact ? 1.0 : 0.0;
        const double d = std::expm1(got.log_sum_exp[static_cast<std::size_t>(lane)] -
                                    exact[r].log_sum_exp[lane]);
        o.denominator += d;
        o.denominator_square += d * d;
        if (said.status == vattn::status::exact) continue;
        const vattn::partial_view state = ws.head(lane);
        const double unit = exact[r].output.row(lane).norm() * state.denominator();
        o.variance += vattn::variance_at_output(state).total / (unit * unit);
        const double relative = said.denominator_error / state.denominator();
        o.denominator_variance += relative * relative;
        o.denominator_beyond +=
            std::fabs(d) > vattn::normal_upper_quantile(s.delta / 2.0) * relative ? 1 : 0;
      }
      const std::lock_guard lock(shared);
      all.of_index.push_back(beyond / static_cast<double>(exact.size()));
    }
  });
  return all;
}

template <class Of>
std::vector<double> each(const outcomes& all, Of of) {
  std::vector<double> x;
  for (const outcome& o : all.of_row) x.push_back(of(o));
  return x;
}

void print_outcomes(const settings& s, const std::string& name, double size, const outcomes& all,
                    csv_file& csv) {
  const int most = allowed(s.trials, s.delta);
  const auto density = each(all, [](const outcome& o) { return o.density / o.trials; });
  const auto bytes = each(all, [](const outcome& o) { return o.bytes / o.trials; });
  const auto error = each(all, [](const outcome& o) { return o.error / o.trials; });
  const auto ratio =
      each(all, [](const outcome& o) { return o.variance > 0.0 ? o.square / o.variance : 1.0; });
  const auto of_sum = each(all, [](const outcome& o) {
    return o.denominator_variance > 0.0 ? o.denominator_square / o.denominator_variance : 1.0;
  });
  const auto bias = each(all, [](const outcome& o) { return o.bias() * o.bias(); });
  const auto beyond =
      each(all, [](const outcome& o) { return static_cast<double>(o.beyond_bound) / o.trials; });
  const auto asked =
      each(all, [](const outcome& o) { return static_cast<double>(o.beyond_asked) / o.trials; });
  const auto sum_beyond = each(
      all, [](const outcome& o) { return static_cast<double>(o.denominator_beyond) / o.trials; });
  const auto exact = each(all, [](const outcome& o) { return o.exact / o.trials; });
  int failing = 0;
  for (const outcome& o : all.of_row) failing += o.beyond_bound > most ? 1 : 0;
  std::printf(
      "%-22s %6.3g | %6.2f %6.2f | %7.2f %7.2f %7.2f | %5.2f | %6.2f %6.2f | %6.2f | %5.1f %6.1f %4d | %5.1f %5.1f | %5.1f %5.1f | %5.1f | %5.1f\n",
      name.c_str(), size, 100 * mean_of(density), 100 * mean_of(bytes), 100 * mean_of(error),
      100 * quantile_of(error, 0.5), 100 * worst_of(error), std::sqrt(mean_of(bias)),
      quantile_of(ratio, 0.5), worst_of(ratio), quantile_of(of_sum, 0.5), 100 * mean_of(beyond),
      100 * worst_of(beyond), failing, 100 * quantile_of(all.of_index, 0.9),
      100 * worst_of(all.of_index), 100 * mean_of(sum_beyond), 100 * worst_of(sum_beyond),
      100 * mean_of(asked), 100 * mean_of(exact));
  csv.row(name, size, mean_of(density), mean_of(bytes), mean_of(error), quantile_of(error, 0.5),
          worst_of(error), std::sqrt(mean_of(bias)), quantile_of(ratio, 0.5), worst_of(ratio),
          quantile_of(of_sum, 0.5), mean_of(beyond), worst_of(beyond), failing,
          quantile_of(all.of_index, 0.9), worst_of(all.of_index), mean_of(sum_beyond),
          worst_of(sum_beyond), mean_of(asked), mean_of(exact));
  std::fflush(stdout);
}

void print_head() {
  std::puts(
      "sampler                  size | rows %  bytes | error %: mean median worst | bias z | error^2 / V^: median"
      " worst, of D | beyond bound %: all, worst row, failing | of an index: 90 %, worst | D beyond its error: all, worst row | beyond epsilon % | exact %");
}

template <class TopK, class Base, class Budget, class Dynamic>
auto composed(TopK top_k, Base base, Budget budget, Dynamic dynamic) {
  return vattn::vattention(vattn::static_indices::sink_window(32, 64), top_k, base, budget,
                           dynamic);
}

void compare_samplers(const settings& s, const row_set& rows, csv_file& csv) {
  using namespace vattn;
  std::printf("\nsamples of a given size, delta %g, %d trials\n", s.delta, s.trials);
  print_head();
  for (const double share : s.shares) {
    const extent size = fraction(share);
    const budget::fixed fixed(size, delta{s.delta});
    const auto lsh = [&](const char* name, int count, int bits) {
      print_outcomes(s, name, share,
                     run_rows(s, rows, true,
                              [&](std::uint64_t seed) {
                                return composed(top_k::lsh(count, bits, vattn::rows(0), seed),
                                                base_sampling::lsh(size, 1), fixed,
                                                dynamic_sampling::lsh());
                              }),
                     csv);
    };
    const auto codes = [&](const char* name, auto top_k) {
      print_outcomes(s, name, share,
                     run_rows(s, rows, false,
                              [&](std::uint64_t) {
                                return composed(top_k,
                                                base_sampling::proportional(size, 1, 1 << 30),
                                                fixed, dynamic_sampling::proportional());
                              }),
                     csv);
    };
    lsh("lsh 64 x 1", 64, 1);
    lsh("lsh 128 x 1", 128, 1);
    lsh("lsh 256 x 1", 256, 1);
    lsh("lsh 32 x 8", 32, 8);
    lsh("lsh 64 x 16", 64, 16);
    print_outcomes(s, "lsh 256 with picks of 2 %", share,
                   run_rows(s, rows, true,
                            [&](std::uint64_t seed) {
                              return composed(top_k::lsh(256, 1, fraction(0.02), seed),
                                              base_sampling::lsh(size, 1), fixed,
                                              dynamic_sampling::lsh());
                            }),
                   csv);
    print_outcomes(s, "lsh 128 picks and uniform", share,
                   run_rows(s, rows, true,
                            [&](std::uint64_t seed) {
                              return composed(top_k::lsh(128, 1, fraction(0.02), seed, 0),
                                              base_sampling::uniform(size), fixed,
                                              dynamic_sampling::uniform());
                            }),
                   csv);
    codes("key_code 1 bit", top_k::key_code(1, vattn::rows(0)));
    codes("key_code 2 bits", top_k::key_code(2, vattn::rows(0)));
    codes("key_code 4 bits", top_k::key_code(4, vattn::rows(0)));
    print_outcomes(s, "uniform", share,
                   run_rows(s, rows, false,
                            [&](std::uint64_t) {
                              return composed(top_k::none(), base_sampling::uniform(size), fixed,
                                              dynamic_sampling::uniform());
                            }),
                   csv);
  }
}

void compare_budgets(const settings& s, const row_set& rows, csv_file& csv) {
  using namespace vattn;
  std::printf("\nthe output's budget, delta %g, %d trials\n", s.delta, s.trials);
  print_head();
  for (const double error : s.epsilons) {
    const budget::output<> output(epsilon{error}, delta{s.delta});
    const auto lsh = [&](const char* name, int count, int bits) {
      print_outcomes(s, name, error,
                     run_rows(s, rows, true,
                              [&](std::uint64_t seed) {
                                return composed(top_k::lsh(count, bits, vattn::rows(0), seed),
                                                base_sampling::lsh(), output,
                                                dynamic_sampling::lsh());
                              }),
                     csv);
    };
    lsh("output: lsh 128 x 1", 128, 1);
    lsh("output: lsh 256 x 1", 256, 1);
    print_outcomes(s, "output: 4-bit codes", error,
                   run_rows(s, rows, false,
                            [&](std::uint64_t) {
                              return presets::proportional(epsilon{error}, delta{s.delta});
                            }),
                   csv);
  }
}

void run(const settings& s) {
  const row_set rows(s.captures, s.positions, "", s.groups);
  csv_file csv(s.csv,
               "sampler,size,density,bytes_fraction,mean_error,median_error,worst_error,bias,"
               "square_over_variance,worst_square_over_variance,denominator_square_over_variance,"
               "beyond_bound,worst_row_beyond_bound,rows_failing,"
               "index_beyond_bound_90,worst_index_beyond_bound,denominator_beyond,"
               "worst_row_denominator_beyond,beyond_epsilon,exact");
  print_build();
  std::printf("%zu rows%s\n", rows.rows().size(), s.groups ? ", each called with its group" : "");
  if (!s.groups) compare_kinds(s, rows);
  if (!s.groups) study_variance(s, rows);
  if (s.groups) compare_directions(s, rows);
  compare_samplers(s, rows, csv);
  compare_budgets(s, rows, csv);
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  s.positions = 64;
  CLI::App app("Sampling by collisions of hashes.", "lsh");
  declare(app, s);
  app.add_option("--trials", s.trials, "planes, or draws, a row")->check(CLI::Range(2, 1'000'000));
  app.add_flag("--groups", s.groups, "all query heads of a KV head in one call");
  list_option(app, "--shares", s.shares, "sizes of samples, of the rows");
  list_option(app, "--epsilons", s.epsilons, "errors asked for");
  app.add_option("--delta", s.delta)->check(CLI::Range(1e-9, 0.5));
  CLI11_PARSE(app, argc, argv);
  return guarded("lsh", [&] { run(s); });
}
