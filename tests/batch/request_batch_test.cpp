// SPDX-License-Identifier: Apache-2.0
#include "vattention/batch/request_batch.hpp"

#include "support/batch.hpp"
#include "support/catch.hpp"
#include "vattention/batch/decode.hpp"
#include "vattention/batch/dense.hpp"
#include "vattention/parallel/serial.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

/// Two sequences of different length, three KV heads, six query heads, as an engine would hold them.
struct engine_step {
  static constexpr int batch = 2, query_heads = 6, kv_heads = 3;
  static constexpr index_t dim = 32, value_dim = 24;
  const decltype(presets::standard(epsilon{0.2}, delta{0.1})) attend =
      presets::standard(epsilon{0.2}, delta{0.1});

  std::vector<random_cache> caches;
  std::vector<kv_view> views;
  std::vector<top_k::cascade_index> indices;
  std::vector<float> queries, output;
  std::vector<double> log_sum_exp, log_sum_exp_error;
  std::vector<certificate> certificates;

  engine_step()
      : queries(batch * query_heads * dim),
        output(batch * query_heads * value_dim),
        log_sum_exp(batch * query_heads),
        log_sum_exp_error(batch * query_heads),
        certificates(batch * query_heads) {
    vattn::detail::head_source source(4, 0);
    for (float& x : queries) x = static_cast<float>(source.normal());
    for (int i = 0; i < batch * kv_heads; ++i)
      caches.emplace_back(cache_plan{.rows = i < kv_heads ? 1500 : 2200,
                                     .dim = dim,
                                     .value_dim = value_dim,
                                     .seed = 20 + static_cast<std::uint64_t>(i)});
    for (const random_cache& c : caches) views.push_back(c.view());
    for (const kv_view& kv : views) indices.push_back(attend.make_index(kv));
  }
  engine_step(const engine_step&) = delete;
  engine_step& operator=(const engine_step&) = delete;

  batch_tensors tensors() {
    return {.batch = batch,
            .query_heads = query_heads,
            .kv_heads = kv_heads,
            .dim = dim,
            .value_dim = value_dim,
            .queries = queries.data(),
            .output = output.data(),
            .log_sum_exp = log_sum_exp.data(),
            .log_sum_exp_error = log_sum_exp_error.data(),
            .certificates = certificates.data()};
  }
};

using batch_type = request_batch<kv_view, top_k::cascade_index>;

}  // namespace

TEST_CASE("a batch of tensors is what a loop over sequences and heads makes of it") {
  engine_step e;
  batch_type requests;
  STATIC_REQUIRE(request_range<batch_type>);
  requests.assign(e.tensors(), {.seed = 8, .layer = 5}, e.views, e.indices);
  REQUIRE(requests.size() == 6);
  decode_workspace<> scratch;
  decode(e.attend, requests, parallel::serial(), scratch);
  workspace ws;
  for (int sequence = 0; sequence < 2; ++sequence)
    for (int head = 0; head < 3; ++head) {
      const auto i = static_cast<std::size_t>(3 * sequence + head);
      const int first = 6 * sequence + 2 * head;
      const draw_key key{.seed = 8,
                         .sequence = static_cast<std::uint64_t>(sequence),
                         .layer = 5,
                         .head = static_cast<std::uint32_t>(head),
                         .step = sequence == 0 ? 1500U : 2200U};
      const result want = e.attend(query_group(e.queries.data() + first * 32, 2, 32), e.views[i],
                                   e.indices[i], key, ws);
      for (int q = 0; q < 2; ++q) {
        const auto at = static_cast<std::size_t>(first + q);
        CAPTURE(sequence, head, q);
        CHECK(std::equal(want.output.row(q).data(), want.output.row(q).data() + 24,
                         e.output.data() + 24 * at));
        CHECK(e.log_sum_exp[at] == want.log_sum_exp[static_cast<std::size_t>(q)]);
        CHECK(e.log_sum_exp_error[at] == want.log_sum_exp_error[static_cast<std::size_t>(q)]);
        CHECK(same_bits(e.certificates[at], want.certificates[static_cast<std::size_t>(q)]));
      }
    }
}

TEST_CASE("sequences, sinks and biases go where they belong, and what is not wanted is left out") {
  engine_step e;
  batch_tensors t = e.tensors();
  t.log_sum_exp = nullptr;
  t.certificates = nullptr;
  const float sinks[6] = {0, 1, 2, 3, 4, 5};
  std::vector<float> bias(6 * 2200, 0.0F);
  t.logits = {.scale = 0.25F, .bias = bias.data(), .bias_stride = 2200, .sink_logits = sinks};
  const std::uint64_t names[2] = {77, 1234567};
  request_batch<kv_view> requests;
  requests.assign(t, {.seed = 1, .layer = 2, .sequences = names}, e.views);
  for (std::size_t i = 0; i < 6; ++i) {
    const auto& r = requests[i];
    const std::size_t head = i % 3;
    CHECK(r.index == nullptr);
    CHECK(r.key.sequence == names[i / 3]);
    CHECK(r.key.head == head);
    CHECK(r.queries.logits.sink_logits == sinks + 2 * head);
    CHECK(r.queries.logits.bias == bias.data() + 2 * head * 2200);
    CHECK(r.queries.logits.scale == 0.25F);
    CHECK(r.log_sum_exp == nullptr);
    CHECK(r.certificates == nullptr);
    CHECK(r.log_sum_exp_error == e.log_sum_exp_error.data() + 2 * i);
  }
  decode_workspace<> scratch;
  dense(requests, parallel::serial(), scratch);
  workspace ws;
  query_group last(e.queries.data() + 10 * 32, 2, 32, {.scale = 0.25F, .sink_logits = sinks + 4});
  const result want = dense(last, e.views[5], ws);
  CHECK(std::equal(want.output.data(), want.output.data() + 48, e.output.data() + 24 * 10));
}

TEST_CASE("the last positions of each sequence, each of which sees a row more") {
  engine_step e;
  batch_tensors t = e.tensors();
  t.query_heads = 3;  // one a KV head, at two positions
  t.positions = 2;
  batch_type requests;
  requests.assign(t, {.seed = 8}, e.views, e.indices);
  REQUIRE(requests.size() == 6);
  decode_workspace<> scratch;
  decode(e.attend, requests, parallel::serial(), scratch);
  for (std::size_t i = 0; i < 6; ++i) {
    const index_t rows = e.views[i].rows();
    const auto& r = requests[i];
    REQUIRE(r.queries.heads == 2);
    CHECK(r.queries.logits.visible_of[0] == rows - 1);
    CHECK(r.queries.logits.visible_of[1] == rows);
    CHECK(r.queries.data == e.queries.data() + 64 * i);
    const exact_attention want = reference(r.queries, r.kv);
    for (index_t q = 0; q < 2; ++q) {
      const auto at = 2 * i + static_cast<std::size_t>(q);
      const Eigen::Map<const Eigen::RowVectorXf> got(e.output.data() + 24 * at, 24);
      CHECK(e.certificates[at].rows_total == rows - 1 + q);
      CHECK(relative_error(got, want.output.row(q)) <= 0.3);
    }
  }
  CHECK(count_allocations([&] { requests.assign(t, {}, e.views, e.indices); }) == 0);

  const auto refuses = [&](auto spoil, const std::string& why) {
    batch_tensors bad = t;
    spoil(bad);
    CHECK_THROWS_WITH(requests.assign(bad, {}, e.views, e.indices),
                      "vattention: request_batch: want " + why);
  };
  refuses([](batch_tensors& bad) { bad.positions = 0; }, "at least one position, got 0");
  refuses([](batch_tensors& bad) { bad.positions = 1501; },
          "a row for each position (rows, positions), got 1500, 1501");
  refuses([](batch_tensors& bad) { bad.logits.visible_rows = 9; },
          "no other limit of visible rows beside positions, got 2");
}

TEST_CASE("the next step uses the same memory") {
  engine_step e;
  batch_type requests;
  requests.assign(e.tensors(), {}, e.views, e.indices);
  CHECK(count_allocations([&] { requests.assign(e.tensors(), {.seed = 2}, e.views, e.indices); }) ==
        0);
  CHECK(requests.begin()->key.seed == 2);
  batch_tensors none = e.tensors();
  none.batch = 0;
  requests.assign(none, {}, {}, {});
  CHECK(requests.begin() == requests.end());
}

TEST_CASE("tensors that do not fit are refused, and the requests stay") {
  engine_step e;
  batch_type requests;
  requests.assign(e.tensors(), {.seed = 6}, e.views, e.indices);
  const auto refuses = [&](auto spoil, const std::string& why) {
    batch_tensors t = e.tensors();
    spoil(t);
    CHECK_THROWS_WITH(requests.assign(t, {}, e.views, e.indices),
                      "vattention: request_batch: want " + why);
    CHECK(requests.size() == 6);
    CHECK(requests[5].key.seed == 6);
  };
  refuses([](batch_tensors& t) { t.query_heads = 7; },
          "query heads that the KV heads divide (query heads, KV heads), got 7, 3");
  refuses([](batch_tensors& t) { t.kv_heads = 0; },
          "batch >= 0, query heads and KV heads >= 1, got 2, 6, 0");
  refuses([](batch_tensors& t) { t.batch = 3; },
          "a view for each sequence and KV head (views, batch, KV heads), got 6, 3, 3");
  refuses([](batch_tensors& t) { t.value_dim = 25; },
          "views of the tensors' dimensions, got 32, 24, 32, 25");
  CHECK_THROWS_WITH(requests.assign(e.tensors(), {}, e.views, std::span(e.indices).first(5)),
                    "vattention: request_batch: want an index for each view, got 5, 6");
}
