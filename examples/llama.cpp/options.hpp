// SPDX-License-Identifier: Apache-2.0
/// @file
/// What the environment asks of vattention in llama.cpp.
#pragma once

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

namespace vattn_llama_cpp {

/// Environment variables, read once for each KV cache:
///   VATTN_POLICY   dense (or unset: off), default, never_slower, proportional, fast, strict, uniform, paper, exact,
///                  topk, oracle, window; see `make_engine`
///   VATTN_EPSILON  (0, 1), .1: the error asked for
///   VATTN_DELTA    (0, 1), .1: the share of calls that may miss it
///   VATTN_DENSITY  (0, 1], .1: the share of the rows that topk, oracle and window read
///   VATTN_TOKENS   1 to 64, 8: steps of more tokens a stream are prefill and stay dense
///   VATTN_AUDIT    0 or more, 0: one call in so many is checked against exact attention
///   VATTN_SEED     of the draws, 1
///   VATTN_SPLIT    1: each query head is a call of its own, so that more threads than KV heads have work; but a row
///                  that heads share is read for each of them
///   VATTN_VERBOSE  1: counts on stderr when the cache goes
///   VATTN_VERIFY   1: every index is compared with one built anew before it is used, see `state_report::stale`; slow
///   VATTN_ON_ERROR dense (default) or refuse: what happens where something above is wrong or a layer is not supported
struct options {
  std::string policy = "dense";
  double epsilon = 0.1, delta = 0.1, density = 0.1;
  int tokens = 8, audit = 0;
  std::uint64_t seed = 1;
  bool split = false, verbose = false, verify = false, refuse = false;
};

/// What is wrong with an option, as one line.
class option_error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

namespace detail {

template <class Number>
void read_number(const char* name, Number& value, const char* want, bool (*holds)(Number)) {
  const char* const text = std::getenv(name);
  if (text == nullptr || *text == '\0') return;
  Number read{};
  const char* const end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, read);
  if (error != std::errc() || stop != end || !holds(read))
    throw option_error(std::string(name) + ": want " + want + ", got " + text);
  value = read;
}

}  // namespace detail

/// Where something is wrong, from here on dense or no context at all? Anything but `refuse` is dense.
inline bool refuses() {
  const char* const text = std::getenv("VATTN_ON_ERROR");
  return text != nullptr && std::string_view(text) == "refuse";
}

/// @throws option_error that names the variable, what was wanted and what was got. Policies are not looked up here.
inline options read_options() {
  options all;
  if (const char* const text = std::getenv("VATTN_POLICY"); text != nullptr && *text != '\0')
    all.policy = text;
  if (const char* const text = std::getenv("VATTN_ON_ERROR");
      text != nullptr && *text != '\0' && std::string_view(text) != "dense" && !refuses())
    throw option_error(std::string("VATTN_ON_ERROR: want dense or refuse, got ") + text);
  using detail::read_number;
  const auto share = [](double x) { return x > 0.0 && x < 1.0; };
  read_number<double>("VATTN_EPSILON", all.epsilon, "a number in (0, 1)", share);
  read_number<double>("VATTN_DELTA", all.delta, "a number in (0, 1)", share);
  read_number<double>("VATTN_DENSITY", all.density, "a number in (0, 1]",
                      [](double x) { return x > 0.0 && x <= 1.0; });
  read_number<int>("VATTN_TOKENS", all.tokens, "1 to 64", [](int x) { return x >= 1 && x <= 64; });
  read_number<int>("VATTN_AUDIT", all.audit, "0 or more", [](int x) { return x >= 0; });
  read_number<std::uint64_t>("VATTN_SEED", all.seed, "0 to 2^64 - 1",
                             [](std::uint64_t) { return true; });
  const auto read_switch = [](const char* name) {
    int on = 0;
    read_number<int>(name, on, "0 or 1", [](int x) { return x == 0 || x == 1; });
    return on == 1;
  };
  all.split = read_switch("VATTN_SPLIT");
  all.verbose = read_switch("VATTN_VERBOSE");
  all.verify = read_switch("VATTN_VERIFY");
  all.refuse = refuses();
  return all;
}

}  // namespace vattn_llama_cpp
