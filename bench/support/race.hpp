// SPDX-License-Identifier: Apache-2.0
/// @file
/// Contenders on the same caches in one process, a round at a time: every round has fresh queries and draws,
/// and all contenders once, in an order of its own.
#pragma once

#include <time.h>

#include <random>
#include <stdexcept>

#include "contender.hpp"
#include "head_class.hpp"
#include "vattention/testing/reference.hpp"

namespace vattn_bench {

/// What was measured of one contender; index: round.
struct score {
  std::vector<double> seconds, bytes;
  std::vector<phase_times> phases;
  std::vector<double> profiled_seconds;
  /// Of all queries of all rounds.
  std::vector<double> errors, densities, bounds;
  std::map<std::string, int> statuses;
  /// Outputs beyond the epsilon asked where the certificate holds, and beyond the bound that it states.
  int beyond_asked = 0, beyond_stated = 0, holding = 0, stated = 0;
};

/// One thread: CPU time of the process, which other programs disturb less and which threads cannot hide from.
/// Several: wall time.
inline double seconds_now(int threads) {
  std::timespec t{};
  clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

class race {
public:
  /// `flush_bytes` are read before every pass, so that nobody finds rows or codes in a cache that an earlier
  /// pass put there: in a decoder the rest of the model lies in between.
  /// In the first `profiles` rounds each pass is followed by one that looks at the clock.
  race(arena& a, std::size_t flush_bytes, std::uint64_t seed, int profiles)
      : arena_(a), seed_(seed), profiles_(profiles), flush_(flush_bytes, false) {
    std::fill_n(flush_.data(), flush_.size(), std::byte{1});
    enter(std::make_unique<stream_contender>("stream", a));
    enter(std::make_unique<dense_contender>("dense", a));
    arena_.data.new_step(arena_.pool);
    choose_stream();
    check_dense();
  }

  void enter(std::unique_ptr<contender> c) {
    contenders_.push_back(std::move(c));
    scores_.emplace_back();
  }
  /// Tries all ways of a peer, checks each against the dense kernel, and enters the fastest.
  /// @throws std::runtime_error if its outputs are further off than its arithmetic explains.
  void enter_peer(peer_family family) {
    auto c = std::make_unique<peer_contender>(arena_, std::move(family));
    std::vector<double> took(c->ways());
    for (std::size_t way = 0; way < took.size(); ++way) {
      c->use(way);
      timed_pass(*c);
      took[way] = timed_pass(*c);
      require_agreement(*c);
    }
    c->settle(static_cast<std::size_t>(std::min_element(took.begin(), took.end()) - took.begin()));
    enter(std::move(c));
  }

  std::size_t size() const noexcept { return contenders_.size(); }
  const contender& at(std::size_t c) const noexcept { return *contenders_[c]; }
  const score& of(std::size_t c) const noexcept { return scores_[c]; }
  const arena& shared() const noexcept { return arena_; }
  double dense_error() const noexcept { return dense_error_; }
  const std::vector<double>& entropy_shares() const noexcept { return shares_; }

  /// The order of a round.
  std::vector<std::size_t> order(int round) const {
    std::vector<std::size_t> all(size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    std::shuffle(all.begin(), all.end(),
                 std::mt19937_64(seed_ + static_cast<std::uint64_t>(round)));
    return all;
  }

  /// One pass of one contender in a round; rounds below 0 do not count.
  double run(std::size_t c, int round) {
    if (round != round_) {
      finish();
      round_ = round;
      dense_ran_ = false;
      arena_.data.new_step(arena_.pool);
    }
    const double took = timed_pass(*contenders_[c]);
    if (c == 1) dense_ran_ = true;
    if (round >= 0) {
      scores_[c].seconds.push_back(took);
      scores_[c].bytes.push_back(contenders_[c]->bytes());
      if (round < profiles_) profile(c);
    }
    return took;
  }

  /// Judges the outputs of the round that has ended.
  void finish() {
    if (round_ < 0) return;
    const std::vector<double>& shares = arena_.data.entropy_shares();
    shares_.insert(shares_.end(), shares.begin(), shares.end());
    if (!dense_ran_) contenders_[1]->pass();  // it may have been filtered out
    dense_ran_ = false;
    const std::vector<float> exact = contenders_[1]->outputs();
    for (std::size_t c = 2; c < size(); ++c)
      if (scores_[c].seconds.size() > judged_of(c)) judge(c, exact);
    round_ = -1;
  }

private:
  void profile(std::size_t c) {
    flush();
    const double start = seconds_now(arena_.pool.threads());
    const phase_times spent = contenders_[c]->profile();
    if (spent == phase_times{}) return;
    scores_[c].profiled_seconds.push_back(seconds_now(arena_.pool.threads()) - start);
    scores_[c].phases.push_back(spent);
  }

  double timed_pass(contender& c) {
    c.prepare();
    flush();
    const double start = seconds_now(arena_.pool.threads());
    c.pass();
    return seconds_now(arena_.pool.threads()) - start;
  }

  void flush() {
    constexpr std::size_t part = std::size_t{1} << 20U;
    arena_.pool.for_each(flush_.size() / part, [&](int, std::size_t i) {
      flushed_ += read_plans()[0].read(flush_.data() + i * part, part);
    });
  }

  void choose_stream() {
    auto& stream = static_cast<stream_contender&>(*contenders_[0]);
    double best = std::numeric_limits<double>::infinity();
    const read_plan* fastest = read_plans().data();
    for (int round = 0; round < 2; ++round)
      for (const read_plan& plan : read_plans()) {
        stream.use(plan);
        const double took = timed_pass(stream);
        if (took < best) {
          best = took;
          fastest = &plan;
        }
      }
    stream.use(*fastest);
  }

  /// The dense kernel against plain double precision, on the first query.
  void check_dense() {
    contenders_[1]->pass();
    const decode_data& data = arena_.data;
    const vattn::query_group one(data.all_queries().data(), 1, data.shape().dim);
    const vattn::exact_attention exact = vattn::reference(one, data.cache(0));
    const std::vector<float> outputs = contenders_[1]->outputs();
    const Eigen::Map<const Eigen::RowVectorXf> o(outputs.data(), data.shape().dim);
    dense_error_ = (o.cast<double>() - exact.output.row(0)).norm() / exact.output.row(0).norm();
    if (!(dense_error_ < 1e-4))
      throw std::runtime_error("the dense kernel is off by " + std::to_string(dense_error_));
  }

  /// Of the step that the dense contender has run on last. A wrong head would be off by about 1.
  void require_agreement(const peer_contender& c) const {
    const auto errors =
        output_errors(c.outputs(), contenders_[1]->outputs(), arena_.data.shape().dim);
    const double middle = quantile_of(errors, 0.5);
    if (!(middle <= c.tolerance()) || !(quantile_of(errors, 0.9) <= 0.5))
      throw std::runtime_error(c.name() + " (" + c.way() + ") is off the dense kernel by " +
                               std::to_string(middle) + " (median)");
  }

  std::size_t judged_of(std::size_t c) const noexcept {
    return scores_[c].errors.size() / static_cast<std::size_t>(arena_.data.shape().queries());
  }

  void judge(std::size_t c, const std::vector<float>& exact) {
    score& s = scores_[c];
    const std::vector<double> errors =
        output_errors(contenders_[c]->outputs(), exact, arena_.data.shape().dim);
    s.errors.insert(s.errors.end(), errors.begin(), errors.end());
    const std::vector<vattn::certificate> said = contenders_[c]->certificates();
    for (std::size_t i = 0; i < said.size(); ++i) {
      ++s.statuses[to_string(said[i].status)];
      s.densities.push_back(said[i].density());
      s.bounds.push_back(said[i].epsilon);
      s.holding += said[i].holds() ? 1 : 0;
      s.beyond_asked += said[i].holds() && !(errors[i] <= said[i].epsilon_asked) ? 1 : 0;
      if (std::isnan(said[i].epsilon)) continue;
      ++s.stated;
      s.beyond_stated += !(errors[i] <= said[i].epsilon + 1e-5) ? 1 : 0;
    }
  }

  arena& arena_;
  std::uint64_t seed_;
  int profiles_;
  page_store flush_;
  std::atomic<std::uint64_t> flushed_{0};
  std::vector<std::unique_ptr<contender>> contenders_;
  std::vector<score> scores_;
  std::vector<double> shares_;
  double dense_error_ = 0.0;
  int round_ = -1;
  bool dense_ran_ = false;
};

}  // namespace vattn_bench
