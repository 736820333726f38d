// SPDX-License-Identifier: Apache-2.0
#include "vattention/certify/strict.hpp"

#include "support/catch.hpp"

using namespace vattn;

namespace {

/// D = 2, o = (1, 0), nothing uncertain yet.
partial made_up() {
  partial p(2);
  const partial_view state = p.view();
  state.max_logit() = 0.0;
  state.denominator() = 2.0;
  state.numerator()[0] = 2.0;
  state.floor() = 1.5;
  state.reference_norm() = 1.0;
  state.sampled_shards() = 1.0;
  return p;
}

}  // namespace

TEST_CASE("the radius is the root of Bernstein's inequality") {
  const double log_term = std::log(2.0 / 0.1);
  for (const double variance : {0.0, 1e-6, 0.3, 40.0})
    for (const double largest : {0.0, 1e-3, 2.0}) {
      const double t = bernstein_radius(variance, largest, log_term);
      CHECK(t * t == Approx(2.0 * log_term * (variance + largest * t / 3.0)).margin(1e-300));
    }
  // At V = 1, R = 0 and delta = .1 it is the sub-Gaussian sqrt(2 log 20).
  CHECK(bernstein_radius(1.0, 0.0, log_term) == Approx(2.4477).epsilon(1e-4));
}

TEST_CASE("the denominator's bound uses the better of both lower bounds of D") {
  partial p = made_up();
  const partial_view state = p.view();
  state.spread(0) = 1e-4;
  state.largest_term() = 1e-3;
  const double t = bernstein_radius(1e-4, 1e-3, 3.0);
  const judgement high_estimate = bound_denominator_strictly(state, 3.0);
  CHECK(high_estimate.epsilon == Approx(t / (2.0 - t) + rounding_room));
  CHECK(high_estimate.bound == bound_kind::bernstein);
  state.floor() = 1.9999;
  CHECK(bound_denominator_strictly(state, 3.0).epsilon == Approx(t / 1.9999 + rounding_room));
  state.sampled_shards() = 2.0;
  CHECK(bound_denominator_strictly(state, 3.0).bound == bound_kind::none);
}

TEST_CASE("without uncertain rows only rounding is left") {
  partial p = made_up();
  CHECK(bound_denominator_strictly(p.view(), 3.0).epsilon == Approx(rounding_room));
  CHECK(bound_output_strictly(p.view(), 3.0).epsilon == Approx(rounding_room).epsilon(1e-3));
}

TEST_CASE("the norm that bounds the output satisfies its inequality and is tight") {
  partial p = made_up();
  const partial_view state = p.view();
  state.spread(0) = 1e-3;
  state.spread(1) = 2e-3;
  state.spread(2) = 5e-3;
  state.largest_term() = 1e-2;
  const double b = largest_output_norm(state, 1.0, 3.0);
  const auto excess = [&](double x) { return 1.0 + output_radius(state, x, 3.0) / 2.0 - x; };
  CHECK(excess(b) <= 0.0);
  CHECK(excess(b * (1.0 - 1e-4)) >= 0.0);
  // Every larger norm satisfies it as well: the set that does not is an interval from 0.
  for (double x = b; x < 100.0 * b; x *= 1.3) CHECK(excess(x) <= 0.0);
  for (double x = 0.0; x < b * (1.0 - 1e-4); x += 0.05 * b) CHECK(excess(x) >= 0.0);
  const double err = output_radius(state, b, 3.0) / 2.0 + rounding_room;
  CHECK(bound_output_strictly(state, 3.0).epsilon == Approx(err / (1.0 - err)));
}

TEST_CASE("a radius that grows as fast as the norm bounds nothing") {
  partial p = made_up();
  const partial_view state = p.view();
  state.spread(0) = 4.0;  // t(b) / D > b
  state.largest_term() = 1.0;
  CHECK(std::isinf(largest_output_norm(state, 1.0, 3.0)));
  const judgement judged = bound_output_strictly(state, 3.0);
  CHECK(std::isinf(judged.epsilon));
  CHECK(judged.bound == bound_kind::none);
}

TEST_CASE("a strict bound in the units of each scale") {
  partial p = made_up();
  const partial_view state = p.view();
  state.spread(0) = 1e-3;
  state.spread(2) = 5e-3;
  state.largest_term() = 1e-2;
  state.rows_total() = 10.0;
  state.value_squares() = 40.0;  // rms 2
  const double err =
      output_radius(state, largest_output_norm(state, 1.0, 3.0), 3.0) / 2.0 + 2.0 * rounding_room;
  CHECK(bound_output_strictly<error_scale::absolute>(state, 3.0).epsilon == Approx(err));
  CHECK(bound_output_strictly<error_scale::values>(state, 3.0).epsilon == Approx(err / 2.0));
  CHECK(bound_output_strictly(state, 3.0).epsilon == Approx(err / (1.0 - err)));
  // Small beside the values though not beside the output: a flat head.
  state.numerator()[0] = 0.02;
  state.reference_norm() = 0.01 + err;
  CHECK(std::isinf(bound_output_strictly(state, 3.0).epsilon));
  CHECK(bound_output_strictly<error_scale::values>(state, 3.0).epsilon < err);
}
