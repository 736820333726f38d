// SPDX-License-Identifier: Apache-2.0
// A proved certificate is conservative: over all heads and seeds the share of calls beyond the reported
// bound must not only stay below delta, it must be next to nothing. Seeds are fixed.
#include "support/catch.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;

namespace {

constexpr head_kind kinds[] = {head_kind::sharp,     head_kind::mixed,      head_kind::flat,
                               head_kind::power_law, head_kind::log_normal, head_kind::missed_key};

struct outcome {
  int calls = 0, beyond = 0, sampled = 0;
};

template <class Make, class Error>
outcome try_all(Make make, Error error) {
  outcome all;
  workspace ws;
  for (const head_kind kind : kinds)
    for (const double asked : {0.05, 0.3}) {
      const synthetic_head head = make_head(kind, 8192, 64, 32, 2, 3);
      const exact_attention want = reference(head.group(), head.view());
      const auto functor = make(epsilon{asked}, delta{0.2});
      const auto index = functor.make_index(head.view());
      for (std::uint64_t seed = 0; seed < 60; ++seed) {
        const result got = functor(head.group(), head.view(), index, {.seed = seed}, ws);
        for (std::size_t h = 0; h < 2; ++h) {
          const certificate& c = got.certificates[h];
          REQUIRE(c.holds());
          ++all.calls;
          all.sampled += c.status == status::met ? 1 : 0;
          all.beyond += error(got, want, h) > c.epsilon + 1e-5 ? 1 : 0;
        }
      }
    }
  return all;
}

}  // namespace

TEST_CASE("strict denominators stay within their bounds", "[statistical]") {
  const outcome all =
      try_all([](epsilon e, delta d) { return presets::strict_denominator(e, d); },
              [](const result& got, const exact_attention& want, std::size_t h) {
                return std::fabs(std::expm1(got.log_sum_exp[h] -
                                            want.log_sum_exp[static_cast<Eigen::Index>(h)]));
              });
  CHECK(all.sampled > all.calls / 3);
  CHECK(all.beyond <= all.calls / 50);
}

TEST_CASE("strict outputs stay within their bounds", "[statistical]") {
  const outcome all = try_all([](epsilon e, delta d) { return presets::strict_output(e, d); },
                              [](const result& got, const exact_attention& want, std::size_t h) {
                                const auto row = static_cast<Eigen::Index>(h);
                                return relative_error(got.output.row(row), want.output.row(row));
                              });
  CHECK(all.sampled > all.calls / 6);
  CHECK(all.beyond == 0);
}
