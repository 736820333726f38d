// SPDX-License-Identifier: Apache-2.0
/// @file
/// What an audit's numbers mean: which failure signatures a head shows, by stated rules.
#pragma once

#include <ostream>

#include "vattention/audit/audit_report.hpp"
#include "vattention/audit/finding.hpp"

namespace vattn {

/// When a signature is found, each head on its own. All thresholds may be changed.
struct diagnosis_rules {
  /// Heads with fewer calls that claim something are not judged: with 30, three times a delta of .1
  /// shows.
  index_t calls = 30;

  /// low_sparsity: calls that drew a sample read this share of the rows or more, at an asked
  /// epsilon of `high_epsilon` or more (none if it is absolute). Half: from there on gathering single rows saves little
  /// beside a dense stream; at epsilon .1 the default reads 13 % on captured heads with flat ones
  /// over-represented.
  double dense = 0.5, high_epsilon = 0.1;

  /// recall_failing: so much more of the softmax mass could have been covered by a perfect
  /// predictor (`exact_mass`: attainable less covered, means of the audited calls). On captured
  /// heads 64-bit sign hashes left .10 more than an oracle to the sample, and broke promises; 1-bit
  /// codes left .04 more (medians). The default's 4-bit codes lose .01 at most on synthetic heads,
  /// and a flat head next to nothing whatever the predictor, for no row is heavy.
  double missed_mass = 0.1;

  /// promise_broken, output_not_covered: more errors beyond epsilon than delta explains, by a
  /// binomial test with this false-alarm rate for all judged heads together. Each head by its own
  /// calls: an average hides heads that fail always.
  double false_alarm = 1e-3;

  /// error_far_below: the mean error of calls that left rows out is below this share of epsilon,
  /// while `worthwhile` of the rows are drawn. A fifth: 25 times the drawn rows. Heads that the
  /// default grows for end at .6 to .7; where its base sample is enough, that is 240 rows at most
  /// and less than .15 of 1,600. base_sample_too_large instead if calls end at the first look (mean
  /// below `one_look`).
  double slack = 0.2, worthwhile = 0.15, one_look = 1.25;

  /// base_sample_too_large also: half of the calls are read whole before a sample is drawn, for
  /// base sample and exact rows would take half of the cache, though caches have so many rows on
  /// average. The default samples from 700 rows on.
  double long_cache = 1000.0;
};

/// A signature of one head: the number that was seen and the threshold it passed.
struct found {
  finding what = finding::low_sparsity;
  int layer = 0, kv_head = 0, query = 0;
  double seen = 0.0, threshold = 0.0;
};

struct diagnosis {
  std::vector<found> findings;
  /// Heads that were judged, and heads with audited calls too few to judge.
  index_t judged = 0, too_few = 0;

  bool healthy() const noexcept { return findings.empty() && judged > 0; }
};

namespace detail {

/// Applies the rules to one head.
class head_judge {
public:
  head_judge(const audit_report& report, const audit_row& row, const diagnosis_rules& rules,
             double false_alarm, std::vector<found>& out)
      : report_(report), row_(row), rules_(rules), false_alarm_(false_alarm), out_(out) {}

  void judge() {
    const bool asked = !std::isnan(report_.epsilon_asked);
    const bool high =
        report_.scale != error_scale::absolute && report_.epsilon_asked >= rules_.high_epsilon;
    const bool dense = asked && high && row_.sampled_density() >= rules_.dense;
    if (dense) add(finding::low_sparsity, row_.sampled_density(), rules_.dense);
    unsampled();
    const double missed = row_.mean_attainable() - row_.mean_covered();
    if (missed >= rules_.missed_mass) add(finding::recall_failing, missed, rules_.missed_mass);
    if (asked) coverage();
    if (asked && !dense) waste();
  }

private:
  void add(finding what, double seen, double threshold) {
    out_.push_back({what, row_.layer, row_.kv_head, row_.query, seen, threshold});
  }

  void unsampled() {
    const double share = static_cast<double>(row_.unsampled) / static_cast<double>(row_.calls);
    const double rows = static_cast<double>(row_.visible) / static_cast<double>(row_.calls);
    if (share >= 0.5 && rows >= rules_.long_cache) add(finding::base_sample_too_large, share, 0.5);
  }

  void coverage() {
    if (misses(row_.within_asked) > allowed())
      add(finding::promise_broken, rate(row_.within_asked), report_.delta);
    else if (report_.quantity == quantity::denominator &&
             misses(row_.output_within_asked) > allowed())
      add(finding::output_not_covered, rate(row_.output_within_asked), report_.delta);
  }

  void waste() {
    const bool of_denominator = report_.quantity == quantity::denominator;
    const index_t left_out = row_.claims - row_.count(status::exact);
    const double sum = of_denominator ? row_.denominator_error : row_.output_error;
    const double mean = sum / static_cast<double>(left_out);
    const double least = rules_.slack * report_.epsilon_asked;
    if (left_out < rules_.calls || mean >= least || row_.mean_drawn() < rules_.worthwhile) return;
    const double looks =
        static_cast<double>(row_.looks) / static_cast<double>(row_.calls - row_.unsampled);
    add(looks < rules_.one_look ? finding::base_sample_too_large : finding::error_far_below, mean,
        least);
  }

  index_t misses(index_t within) const noexcept { return row_.claims - within; }
  double rate(index_t within) const noexcept {
    return static_cast<double>(misses(within)) / static_cast<double>(row_.claims);
  }
  index_t allowed() const noexcept {
    return binomial_upper_point(row_.claims, report_.delta, false_alarm_);
  }

  const audit_report& report_;
  const audit_row& row_;
  const diagnosis_rules& rules_;
  double false_alarm_;
  std::vector<found>& out_;
};

}  // namespace detail

/// Judges every head with enough audited calls. No finding is no proof of health: see `audited`.
inline diagnosis diagnose(const audit_report& report, const diagnosis_rules& rules = {}) {
  diagnosis all;
  const auto enough = [&](const audit_row& row) { return row.claims >= rules.calls; };
  for (const audit_row& row : report.rows) {
    all.judged += enough(row) ? 1 : 0;
    all.too_few += row.calls > 0 && !enough(row) ? 1 : 0;
  }
  const double false_alarm =
      rules.false_alarm / static_cast<double>(std::max<index_t>(all.judged, 1));
  for (const audit_row& row : report.rows)
    if (enough(row)) detail::head_judge(report, row, rules, false_alarm, all.findings).judge();
  return all;
}

/// A finding a line, with its advice.
inline std::ostream& operator<<(std::ostream& out, const diagnosis& all) {
  for (const found& f : all.findings)
    out << "layer " << f.layer << ", KV head " << f.kv_head << ", query " << f.query << ": "
        << to_string(f.what) << " (" << f.seen << " against " << f.threshold
        << "): " << advice(f.what) << '\n';
  return out << all.findings.size() << " findings on " << all.judged << " heads judged; "
             << all.too_few << " heads with too few calls\n";
}

}  // namespace vattn
