// SPDX-License-Identifier: Apache-2.0
#include "vattention/certify/doubt.hpp"

#include "support/batch.hpp"
#include "support/catch.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

/// Queries so many times as long as those of a random cache.
random_cache sharpened(float times, const cache_plan& plan = {.rows = 3000, .heads = 2}) {
  random_cache c(plan);
  c.options.scale = times / std::sqrt(static_cast<float>(plan.dim));
  return c;
}

template <class Predictor>
double doubt_of(const Predictor& predictor, const random_cache& c, int head = 0) {
  const kv_view kv = c.view();
  auto index = predictor.make_index(kv.key_dim());
  index.append(kv);
  const query_group queries = c.group();
  return predictor.doubt(attention_call<kv_view>(queries, kv, {}), index, head);
}

/// Root mean square of predicted logits about the true ones, a constant aside.
double error_of(const top_k::key_code& predictor, const random_cache& c) {
  const kv_view kv = c.view();
  auto index = predictor.make_index(kv.key_dim());
  index.append(kv);
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  workspace ws;
  ws.reserve(queries.heads, kv.rows(), kv.key_dim(), kv.value_dim(), true);
  predictor.predict(call, index, ws.seen, ws);
  const Eigen::VectorXd truth = logits(queries, kv, 0);
  Eigen::VectorXd off(kv.rows());
  for (index_t row = 0; row < kv.rows(); ++row)
    off[row] = static_cast<double>(ws.seen.scores(0)[static_cast<std::size_t>(row)]) - truth[row];
  return std::sqrt((off.array() - off.mean()).square().mean());
}

template <class Functor>
certificate certificate_of(const Functor& functor, const random_cache& c, std::uint64_t seed = 1) {
  const kv_view kv = c.view();
  workspace ws;
  return functor(c.group(), kv, functor.make_index(kv), {seed}, ws).certificates[0];
}

const epsilon asked{0.1};
const delta miss{0.1};

}  // namespace

TEST_CASE("a doubt is the standard error of the predicted logits", "[doubt]") {
  for (const int bits : {1, 2, 4, 6})  // of 8 bits the query's own rounding is as large
    for (const float times : {0.5F, 1.0F, 8.0F}) {
      CAPTURE(bits, times);
      const top_k::key_code predictor(bits, rows(0));
      const random_cache c = sharpened(times);
      CHECK(doubt_of(predictor, c) == Approx(error_of(predictor, c)).epsilon(0.15));
    }
}

TEST_CASE("that of a cascade is what its refinement leaves", "[doubt]") {
  const random_cache c = sharpened(1.0F);
  const double scan = doubt_of(top_k::key_code(2, rows(0)), c);
  const double both = doubt_of(top_k::cascade(2, 4), c);
  const double fine = doubt_of(top_k::key_code(4, rows(0)), c);
  CHECK(both < 0.5 * fine);
  CHECK(fine < 0.5 * scan);
}

TEST_CASE("an index that was appended to doubts like one built at once", "[doubt]") {
  const random_cache c = sharpened(1.0F, {.rows = 700});
  const kv_view all = c.view();
  const auto check = [&](const auto& predictor) {
    auto grown = predictor.make_index(all.key_dim());
    for (const index_t rows : {1, 100, 255, 256, 600, 700}) grown.append(all.shard(0, rows));
    const query_group queries = c.group();
    const attention_call<kv_view> call(queries, all, {});
    CHECK(same_bits(predictor.doubt(call, grown, 0), doubt_of(predictor, c)));
  };
  check(top_k::key_code(4, rows(0)));
  check(top_k::key_code(2, rows(0)));
  check(top_k::cascade(2, 4));
}

TEST_CASE("queries too sharp for the predictor are answered exactly", "[doubt]") {
  const auto check = [&](const auto& functor) {
    CHECK(certificate_of(functor, sharpened(1.0F)).status == status::met);
    const random_cache sharp = sharpened(60.0F);
    const certificate said = certificate_of(functor, sharp);
    CHECK(said.status == status::exact);
    CHECK(said.looks == 0);
    CHECK(said.rows_exact == 3000);
    random_cache one_of_two = sharpened(1.0F);  // one query of a group is enough
    one_of_two.queries.row(1) *= 60.0F;
    CHECK(certificate_of(functor, one_of_two).status == status::exact);
  };
  check(presets::standard(asked, miss));
  check(presets::proportional(asked, miss));
}

TEST_CASE("predictors that are trusted on average only are let be", "[doubt]") {
  CHECK(certificate_of(presets::fast(asked, miss), sharpened(60.0F)).looks > 0);
}

TEST_CASE("where a limit forbids to read everything the certificate claims no measurement",
          "[doubt]") {
  const auto limited = presets::standard(asked, miss, at_most(fraction(0.2)));
  CHECK(certificate_of(limited, sharpened(1.0F)).basis == basis::measured_per_row);
  const certificate said = certificate_of(limited, sharpened(60.0F));
  CHECK(said.rows_exact + said.rows_sampled < 3000);
  CHECK(said.basis == basis::unmeasured);
}

TEST_CASE("a doubt stays with the partial results of shards", "[doubt]") {
  const auto limited = presets::standard(asked, miss, at_most(fraction(0.2)));
  for (const float times : {1.0F, 60.0F}) {
    const random_cache c = sharpened(times, {.rows = 4000});
    const kv_view kv = c.view();
    std::vector<partial> merged;
    workspace ws;
    for (const index_t first : {0, 2000}) {
      const kv_view shard = kv.shard(first, 2000);
      const result got = limited(c.group(), shard, limited.make_index(shard), {.seed = 2}, ws);
      CHECK((got.certificates[0].basis == basis::unmeasured) == (times > 1.0F));
      partial part = take_partial(ws, 0, kv.value_dim());
      if (merged.empty())
        merged.push_back(std::move(part));
      else
        merged[0].view().merge(part.view());
    }
    const certificate said = limited.finish(merged, ws).certificates[0];
    CHECK((said.basis == basis::unmeasured) == (times > 1.0F));
  }
}

TEST_CASE("a query that is no number is doubtful", "[doubt]") {
  random_cache c = sharpened(1.0F);
  c.queries(0, 3) = std::nanf("");
  CHECK(certificate_of(presets::standard(asked, miss), c).status == status::non_finite);
}

TEST_CASE("certificates hold however sharp the queries are", "[doubt][statistical]") {
  // 10 heads x 20 seeds at each sharpness; of 200 certificates at most 20 may be beyond by promise. Below 35 with
  // probability .9996 if each is beyond with probability .1, and independently.
  const auto check = [&](const auto& functor) {
    for (const float times : {2.0F, 4.0F, 8.0F, 12.0F, 16.0F, 32.0F}) {
      int beyond = 0;
      for (std::uint64_t head = 1; head <= 10; ++head) {
        const random_cache c =
            sharpened(times, {.rows = 2000, .dim = 64, .value_dim = 16, .heads = 1, .seed = head});
        const kv_view kv = c.view();
        const auto index = functor.make_index(kv);
        workspace ws, exact;
        const Eigen::VectorXf want = dense(c.group(), kv, exact).output.row(0);
        for (std::uint64_t seed = 0; seed < 20; ++seed) {
          const result got = functor(c.group(), kv, index, {seed}, ws);
          const double off = static_cast<double>((got.output.row(0).transpose() - want).norm());
          beyond += off > 0.1 * static_cast<double>(want.norm()) ? 1 : 0;
        }
      }
      CAPTURE(times, beyond);
      CHECK(beyond < 35);
    }
  };
  check(presets::standard(asked, miss));
  check(presets::proportional(asked, miss));
}
