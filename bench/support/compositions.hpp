// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a coverage experiment can measure: named procedures, each called on a row once a seed.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>

#include "authors.hpp"
#include "rows.hpp"
#include "vattention/audit/audit_report.hpp"
#include "vattention/budget/joint.hpp"
#include "vattention/budget/numerator.hpp"
#include "vattention/presets.hpp"
#include "vattention/top_k/oracle.hpp"
#include "vattention/top_k/sign_hash.hpp"

namespace vattn_bench {

/// What some calls on one row gave for one epsilon and delta, summed up.
struct tally {
  int trials = 0;
  int output_beyond = 0, denominator_beyond = 0;
  /// Errors beyond the bound that the call's own certificate states, which is often below epsilon.
  int bound_beyond = 0;
  double density = 0.0, output_error = 0.0, denominator_error = 0.0, bytes = 0.0;
  /// Certificates by status; all 0 where none is given.
  std::array<int, vattn::status_count> statuses{};

  void add(const deviation& off, double epsilon, double density_of_call, double bytes_of_call) {
    ++trials;
    output_beyond += off.output > epsilon ? 1 : 0;
    denominator_beyond += off.denominator > epsilon ? 1 : 0;
    density += density_of_call;
    output_error += off.output;
    denominator_error += off.denominator;
    bytes += bytes_of_call;
  }
  double mean(double sum) const { return sum / trials; }
};

/// Seeds [first, first + count).
struct seeds {
  std::uint64_t first;
  int count;
};

/// A procedure with a name, for all (epsilon, delta) of an experiment.
class composition {
public:
  composition(std::string name, vattn::quantity promise, std::vector<asked> cells)
      : name_(std::move(name)), promise_(promise), cells_(std::move(cells)) {}
  virtual ~composition() = default;
  composition(const composition&) = delete;
  composition& operator=(const composition&) = delete;

  const std::string& name() const noexcept { return name_; }
  /// What its epsilon is about.
  vattn::quantity promise() const noexcept { return promise_; }
  const std::vector<asked>& cells() const noexcept { return cells_; }

  /// Makes what is kept for a KV head; before any `measure` on it.
  virtual void prepare(const kv_head& head) = 0;
  /// Calls the procedure for each cell and seed; adds to `tallies`, one a cell. Thread-safe.
  virtual void measure(const bench_row& row, const vattn::exact_attention& exact, seeds which,
                       vattn::workspace& ws, std::vector<tally>& tallies) const = 0;

private:
  std::string name_;
  vattn::quantity promise_;
  std::vector<asked> cells_;
};

/// A functor of the library, one a cell, called as any user calls it.
template <class Functor>
class library_composition final : public composition {
public:
  template <class Make>
  library_composition(std::string name, std::vector<asked> cells, Make make)
      : composition(std::move(name),
                    make(vattn::epsilon(0.5), vattn::delta(0.5)).budget().guarantees(),
                    std::move(cells)) {
    for (const asked& a : this->cells())
      functors_.push_back(make(vattn::epsilon(a.epsilon), vattn::delta(a.delta)));
  }

  void prepare(const kv_head& head) override {
    indices_.emplace(&head, functors_.front().make_index(head.kv()));
  }

  void measure(const bench_row& row, const vattn::exact_attention& exact, seeds which,
               vattn::workspace& ws, std::vector<tally>& tallies) const override {
    const vattn::kv_view& kv = row.head->kv();
    const auto& index = indices_.at(row.head);
    const vattn::query_group query = row.query();
    const auto whole =
        static_cast<double>(row.visible() * (vattn::key_bytes(kv) + vattn::value_bytes(kv)));
    for (std::size_t c = 0; c < functors_.size(); ++c)
      for (int i = 0; i < which.count; ++i) {
        const auto key = row.head->draw(row.position, which.first + static_cast<std::uint64_t>(i));
        const vattn::result r = functors_[c](query, kv, index, key, ws);
        const int lane = row.lane();
        const auto at = static_cast<std::size_t>(lane);
        const vattn::certificate& said = r.certificates[at];
        const deviation off = off_in_units(said, r, exact, lane);
        // Without a target the certificate's own bound is what is claimed.
        const bool targeted = !std::isnan(said.epsilon_asked);
        tallies[c].add(off, targeted ? cells()[c].epsilon : said.epsilon, said.density(),
                       static_cast<double>(said.bytes_touched) / whole);
        const double claimed =
            said.quantity == vattn::quantity::denominator ? off.denominator : off.output;
        tallies[c].bound_beyond += claimed > said.epsilon + vattn::audit_row::rounding ? 1 : 0;
        ++tallies[c].statuses[static_cast<std::size_t>(said.status)];
      }
  }

private:
  static deviation off_in_units(const vattn::certificate& said, const vattn::result& r,
                                const vattn::exact_attention& exact, int lane) {
    deviation off = deviation_of(r.output.row(lane), r.log_sum_exp[static_cast<std::size_t>(lane)],
                                 exact, lane);
    if (!std::isnan(said.unit)) off.output *= exact.output.row(lane).norm() / said.unit;
    return off;
  }

  std::vector<Functor> functors_;
  std::map<const kv_head*, typename Functor::index_type> indices_;
};

template <class Make>
std::unique_ptr<composition> of_library(std::string name, const std::vector<asked>& cells,
                                        Make make) {
  using functor = decltype(make(vattn::epsilon(0.5), vattn::delta(0.5)));
  return std::make_unique<library_composition<functor>>(std::move(name), cells, make);
}

/// The authors' implementation. Bytes: the oracle's scan of all keys, and K and V of the masked rows.
class authors_composition final : public composition {
public:
  explicit authors_composition(const std::vector<asked>& cells)
      : composition("authors", vattn::quantity::denominator, cells) {}

  void prepare(const kv_head& /*head*/) override {}

  void measure(const bench_row& row, const vattn::exact_attention& exact, seeds which,
               vattn::workspace& /*ws*/, std::vector<tally>& tallies) const override {
    const vattn::kv_view& kv = row.head->kv();
    const auto key_share = static_cast<double>(vattn::key_bytes(kv)) /
                           static_cast<double>(vattn::key_bytes(kv) + vattn::value_bytes(kv));
    if (row.in_group) throw std::runtime_error("authors: one query a call only");
    authors_row procedure(row.query(), kv);
    for (int i = 0; i < which.count; ++i) {
      const auto key = row.head->draw(row.position, which.first + static_cast<std::uint64_t>(i));
      procedure.trial(key, cells(), [&](std::size_t c, const authors_row::outcome& o) {
        const double density = static_cast<double>(o.rows) / static_cast<double>(procedure.rows());
        tallies[c].add(deviation_of(o.output, o.log_sum_exp, exact), cells()[c].epsilon, density,
                       key_share + density);
      });
    }
  }
};

/// Every composition by name, in the order of the tables. A new one is a line here.
inline std::unique_ptr<composition> make_composition(const std::string& name,
                                                     const std::vector<asked>& cells) {
  using namespace vattn;
  const extent k = fraction(0.02);
  const auto paper = [&](auto top_k) {
    return of_library(name, cells, [=](epsilon e, delta d) { return presets::paper(e, d, top_k); });
  };
  const auto one_draw = [&](auto make_budget) {
    return of_library(name, cells, [=](epsilon e, delta d) {
      return vattention(static_indices::sink_window(32, 64), top_k::key_code(4, k),
                        base_sampling::uniform(fraction(0.01), 2), make_budget(e, d),
                        dynamic_sampling::uniform());
    });
  };
  const auto joint = [&](joint_form form) {
    return one_draw(
        [=](epsilon e, delta d) { return budget::joint(e, d, correction::none, form); });
  };
  const auto with_predictor = [&](auto top_k) {
    return of_library(name, cells, [=](epsilon e, delta d) {
      return vattention(static_indices::sink_window(32, 64), top_k,
                        base_sampling::uniform(fraction(0.03)), budget::output(e, d),
                        dynamic_sampling::uniform());
    });
  };
  const auto cascaded = [&](int coarse, int fine) {
    return of_library(name, cells, [=](epsilon e, delta d) {
      return vattention(static_indices::sink_window(32, 64), top_k::cascade(coarse, fine),
                        base_sampling::proportional(), budget::output(e, d),
                        dynamic_sampling::proportional());
    });
  };
  if (name == "paper-oracle") return paper(top_k::oracle(k));
  if (name == "paper-key-code") return paper(top_k::key_code(4, k));
  if (name == "numerator")
    return one_draw([](epsilon e, delta d) { return budget::numerator(e, d); });
  if (name == "joint") return joint(joint_form::paper);
  if (name == "joint-tight") return joint(joint_form::tight);
  if (name == "paper-sign-hash") return paper(top_k::sign_hash(64, k));
  if (name == "authors") return std::make_unique<authors_composition>(cells);
  if (name == "uniform-output") return of_library(name, cells, presets::uniform_output);
  if (name == "proportional") return of_library(name, cells, presets::proportional);
  if (name == "default") return of_library(name, cells, presets::standard);
  if (name == "fast") return of_library(name, cells, presets::fast);
  if (name == "strict-denominator")
    return of_library(name, cells,
                      [](epsilon e, delta d) { return presets::strict_denominator(e, d); });
  if (name == "strict-output")
    return of_library(name, cells, [](epsilon e, delta d) { return presets::strict_output(e, d); });
  if (name == "default-of-values")
    return of_library(name, cells, [](epsilon e, delta d) {
      return presets::standard(epsilon_of_values(e.value()), d);
    });
  if (name == "strict-of-values")
    return of_library(name, cells, [](epsilon e, delta d) {
      return presets::strict_output(epsilon_of_values(e.value()), d);
    });
  if (name == "within")
    return of_library(name, cells, [](epsilon e, delta d) {
      return presets::within(at_most(fraction(e.value())), d);
    });
  if (name == "embedded") return cascaded(2, 2);
  if (name == "fast-4") return cascaded(1, 4);
  if (name == "uniform-sign-hash") return with_predictor(top_k::sign_hash(64, k));
  if (name == "uniform-no-top-k") return with_predictor(top_k::none());
  throw std::runtime_error("no composition is named '" + name + "'");
}

inline std::vector<std::string> composition_names() {
  return {"paper-oracle",       "paper-key-code", "paper-sign-hash", "authors",
          "uniform-output",     "proportional",   "default",         "fast",
          "strict-denominator", "strict-output"};
}

/// The default's budget with a lesser predictor, from a base sample of 3 %: what the predictor is for. Then
/// the paper's other budgets behind its 4-bit composition. Then errors in units of the values, and `within`,
/// for which epsilon is the density allowed and a violation is an error beyond what its certificate states.
inline std::vector<std::string> other_composition_names() {
  return {
      "uniform-sign-hash", "uniform-no-top-k",  "embedded",         "fast-4", "numerator", "joint",
      "joint-tight",       "default-of-values", "strict-of-values", "within"};
}

}  // namespace vattn_bench
