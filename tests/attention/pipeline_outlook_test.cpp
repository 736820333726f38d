// SPDX-License-Identifier: Apache-2.0
#include "vattention/attention/pipeline_outlook.hpp"

#include "support/catch.hpp"
#include "support/random_cache.hpp"
#include "vattention/core/static_rows.hpp"
#include "vattention/presets.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

/// A sampler whose heads have 100 and 50 rows, and which foretells the sum of the squares over the size.
struct made_up_sampler {
  static constexpr design scheme = design::independent;
  template <class Drawing>
  index_t size(const Drawing&, int head) const noexcept {
    return head == 0 ? 100 : 50;
  }
  template <class Drawing>
  double variance_at(const Drawing&, int, const contributions& y, index_t size,
                     correction) const noexcept {
    double sum = 0.0;
    for (const float square : y.squares) sum += static_cast<double>(square);
    return sum / static_cast<double>(size);
  }
};

/// What an outlook is made of: two heads, 130 rows drawn of 1,000.
struct scene {
  random_cache cache{{.rows = 1000, .heads = 2}};
  query_group queries = cache.group();
  kv_view kv = cache.view();
  attention_call<kv_view> call{queries, kv, {}};
  workspace ws;
  top_k::key_code predictor{4, rows(0)};
  top_k::key_code_index index = predictor.make_index(64);
  judgement judged[2];
  made_up_sampler sampler;

  scene() {
    ws.reserve(2, 1000, 64, 64, true);
    ws.exact.list();
    for (row_t row = 0; row < 130; ++row) ws.drawn.append(5 * row, certain);
  }
};

}  // namespace

TEST_CASE("an outlook foretells a growth by the head that asks for most of its own", "[outlook]") {
  scene s;
  const population rest(1000, s.ws.exact);
  const drawing d{s.call, rest, s.predictor, s.index, s.ws};
  detail::pipeline_outlook look(d, s.sampler, s.judged, 77.0);
  CHECK(look.heads() == 2);
  CHECK(look.population() == 1000);
  CHECK(look.fixed_bytes() == 77.0);
  CHECK(look.row_bytes() == 512.0);
  CHECK(look.look() == 1);
  look.next_look();
  CHECK(look.look() == 2);
  const auto growth = [&](index_t first, index_t second) {
    look.sizes()[0] = first;
    look.sizes()[1] = second;
    return look.growth().more;
  };
  CHECK(growth(100, 50) == 0.0);
  CHECK(growth(110, 50) == 10.0);              // no more than all heads ask for
  CHECK(growth(200, 100) == Approx(130.0));    // twice the sample
  CHECK(growth(900, 100) == Approx(850.0));    // what all ask for
  CHECK(growth(9000, 9000) == Approx(870.0));  // all that is left
}

TEST_CASE("squares are formed once a look and sum, for all heads", "[outlook]") {
  scene s;
  const population rest(1000, s.ws.exact);
  const drawing d{s.call, rest, s.predictor, s.index, s.ws};
  detail::pipeline_outlook look(d, s.sampler, s.judged, 0.0);
  for (int h = 0; h < 2; ++h) {
    s.ws.head(h).clear_numbers();
    s.ws.head(h).max_logit() = 0.0;
    std::fill_n(s.ws.logits_of(h), 130, std::log(static_cast<float>(h + 2)));
  }
  const auto denominator = [&](int h) {
    return look.variance(h, contribution::denominator, 10, correction::none);
  };
  CHECK(denominator(0) == Approx(130.0 * 4.0 / 10.0));
  CHECK(denominator(1) == Approx(130.0 * 9.0 / 10.0));
  std::fill_n(s.ws.logits_of(0), 130, 0.0F);
  CHECK(denominator(0) == Approx(52.0));  // of the look at hand
  look.forget();
  CHECK(denominator(0) == Approx(13.0));
}
