// SPDX-License-Identifier: Apache-2.0
/// @file
/// What is said of a race: a table to read and JSON to keep.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdio>

#include "machine.hpp"
#include "race.hpp"

namespace vattn_bench {

using json = nlohmann::ordered_json;

namespace detail {

/// Quotient of two contenders, round by round.
inline std::vector<double> ratios(const std::vector<double>& over,
                                  const std::vector<double>& under) {
  std::vector<double> all(std::min(over.size(), under.size()));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = over[i] / under[i];
  return all;
}

inline json spread(const std::vector<double>& x) {
  return {{"median", quantile_of(x, .5)}, {"p10", quantile_of(x, .1)}, {"p90", quantile_of(x, .9)}};
}

inline double sum_of(const std::vector<double>& x) {
  double sum = 0.0;
  for (const double y : x) sum += y;
  return sum;
}

inline json describe_shares(const score& s) {
  json shares = json::object();
  phase_times sum{};
  double whole = 0.0;
  for (const phase_times& round : s.phases)
    for (std::size_t p = 0; p < sum.size(); ++p) {
      sum[p] += round[p];
      whole += round[p];
    }
  for (std::size_t p = 0; p < sum.size(); ++p) shares[phase_names[p]] = sum[p] / whole;
  return shares;
}

inline json describe_certificates(const score& s) {
  return {{"statuses", s.statuses},
          {"hold", s.holding},
          {"hold_but_error_beyond_asked", s.beyond_asked},
          {"state_a_bound", s.stated},
          {"error_beyond_stated_bound", s.beyond_stated}};
}

}  // namespace detail

/// One contender of a race. `stream_fraction` is the time that a stream of the bytes it touches would take
/// over its own, `speedup_vs_dense` the dense kernel's time over its own, both within a round.
inline json describe(const race& all, std::size_t c) {
  const score& s = all.of(c);
  const decode_shape& shape = all.shared().data.shape();
  const double whole = static_cast<double>(shape.bytes());
  const double touched = detail::sum_of(s.bytes) / static_cast<double>(s.bytes.size());
  std::vector<double> fractions = detail::ratios(all.of(0).seconds, s.seconds);
  for (std::size_t i = 0; i < fractions.size(); ++i) fractions[i] *= s.bytes[i] / whole;
  json about{{"name", all.at(c).name()}};
  if (!all.at(c).way().empty()) about["way"] = all.at(c).way();
  about["seconds"] = detail::spread(s.seconds);
  about["seconds_per_head"] = quantile_of(s.seconds, .5) / shape.heads;
  about["bytes_touched"] = touched;
  about["bytes_share"] = touched / whole;
  about["gigabytes_per_second"] = touched / quantile_of(s.seconds, .5) * 1e-9;
  about["stream_fraction"] = detail::spread(fractions);
  about["speedup_vs_dense"] = detail::spread(detail::ratios(all.of(1).seconds, s.seconds));
  if (!s.densities.empty())
    about["density"] = detail::sum_of(s.densities) / static_cast<double>(s.densities.size());
  if (!s.phases.empty()) {
    about["shares"] = detail::describe_shares(s);
    about["profiled_over_plain"] = quantile_of(detail::ratios(s.profiled_seconds, s.seconds), .5);
  }
  if (!s.errors.empty())
    about["error"] = {{"median", quantile_of(s.errors, .5)},
                      {"p95", quantile_of(s.errors, .95)},
                      {"max", quantile_of(s.errors, 1.0)}};
  if (!s.statuses.empty()) about["certificates"] = detail::describe_certificates(s);
  about["rounds_seconds"] = s.seconds;
  return about;
}

/// Everything of a race. Contenders that were filtered out are left out.
inline json describe(const race& all, std::int64_t last_level, bool capped) {
  const decode_shape& shape = all.shared().data.shape();
  json about{{"rows", shape.rows},
             {"dim", shape.dim},
             {"group", shape.group},
             {"type", name_of(shape.type)},
             {"threads", all.shared().pool.threads()},
             {"heads", shape.heads},
             {"kv_bytes", shape.bytes()},
             {"kv_over_last_level_cache",
              static_cast<double>(shape.bytes()) / static_cast<double>(last_level)},
             {"capped_by_memory", capped},
             {"clock", all.shared().pool.threads() == 1 ? "process CPU" : "wall"},
             {"dense_error", all.dense_error()}};
  for (const double q : {.05, .25, .5, .75, .95})
    about["entropy_share_quantiles"].push_back(quantile_of(all.entropy_shares(), q));
  about["contenders"] = json::array();
  for (std::size_t c = 0; c < all.size(); ++c)
    if (!all.of(c).seconds.empty()) about["contenders"].push_back(describe(all, c));
  return about;
}

namespace detail {

inline void print_contender(const json& c) {
  const json& fast = c["speedup_vs_dense"];
  const auto number = [](const json& x) { return x.get<double>(); };
  std::printf("%-24s %9.3f %8.1f", c["name"].get<std::string>().c_str(),
              1e3 * number(c["seconds"]["median"]), 1e6 * number(c["seconds_per_head"]));
  std::printf(" %6.2f %6.1f", 100 * number(c["bytes_share"]),
              100 * number(c["stream_fraction"]["median"]));
  if (fast["median"].is_number())
    std::printf("  %5.2f (%.2f .. %.2f)", number(fast["median"]), number(fast["p10"]),
                number(fast["p90"]));
  if (c.contains("shares")) {
    std::printf("  ");
    for (const char* phase : phase_names) std::printf(" %3.0f", 100 * number(c["shares"][phase]));
  }
  if (c.contains("error") && number(c["error"]["p95"]) > 1e-6)
    std::printf("   error %.3f %.3f %.3f", number(c["error"]["median"]), number(c["error"]["p95"]),
                number(c["error"]["max"]));
  std::puts("");
  if (c.contains("way")) std::printf("    (%s)\n", c["way"].get<std::string>().c_str());
}

inline void print_certificates(const json& c) {
  const json& said = c["certificates"];
  if (said["hold"].get<int>() == 0) return;
  std::printf("    %s: rows %.2f %%; certificates:", c["name"].get<std::string>().c_str(),
              100 * c["density"].get<double>());
  for (const auto& [status, count] : said["statuses"].items())
    std::printf(" %d %s,", count.get<int>(), status.c_str());
  std::printf(" %d errors beyond the epsilon asked, %d beyond the bound stated\n",
              said["hold_but_error_beyond_asked"].get<int>(),
              said["error_beyond_stated_bound"].get<int>());
}

}  // namespace detail

inline void print(const json& about) {
  std::printf(
      "\n%lld keys, d = %lld, %d queries a KV head, %s, %d heads = %.0f MB (%.1f x the last-level "
      "cache), %d thread(s), %s time\n",
      about["rows"].get<long long>(), about["dim"].get<long long>(), about["group"].get<int>(),
      about["type"].get<std::string>().c_str(), about["heads"].get<int>(),
      1e-6 * about["kv_bytes"].get<double>(), about["kv_over_last_level_cache"].get<double>(),
      about["threads"].get<int>(), about["clock"].get<std::string>().c_str());
  std::printf("entropy shares of the queries, 5 25 50 75 95 %%:");
  for (const json& share : about["entropy_share_quantiles"])
    std::printf(" %.3f", 100 * share.get<double>());
  std::printf(" %%\n%-24s %9s %8s %6s %6s  %-21s  %s\n", "", "ms", "us/head", "bytes%", "strm%",
              "speed-up (10 .. 90 %)", "  sel sam est att %  error 50 95 100 %");
  for (const json& c : about["contenders"]) detail::print_contender(c);
  for (const json& c : about["contenders"])
    if (c.contains("certificates") && c["name"] != "dense") detail::print_certificates(c);
  std::fflush(stdout);
}

/// Time a head on the longest caches over that on the shortest ones of at least `from` rows, of contenders
/// that ran in both; races that differ in rows alone.
inline json growth(const json& races, index_t from) {
  json all = json::array();
  for (const json& a : races)
    for (const json& b : races) {
      bool alike = a["rows"].get<index_t>() == from && b["rows"].get<index_t>() > from;
      for (const char* same : {"dim", "group", "type", "threads"})
        alike = alike && a[same] == b[same];
      if (!alike) continue;
      for (const json& x : a["contenders"])
        for (const json& y : b["contenders"])
          if (x["name"] == y["name"])
            all.push_back({{"name", x["name"]},
                           {"from", a["rows"]},
                           {"to", b["rows"]},
                           {"group", a["group"]},
                           {"dim", a["dim"]},
                           {"type", a["type"]},
                           {"threads", a["threads"]},
                           {"time", y["seconds_per_head"].get<double>() /
                                        x["seconds_per_head"].get<double>()}});
    }
  return all;
}

}  // namespace vattn_bench
