// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/hash_attention.hpp"

#include <functional>

#include "support/top_k_contract.hpp"
#include "vattention/batch/decode.hpp"
#include "vattention/batch/request_batch.hpp"
#include "vattention/parallel/serial.hpp"
#include "vattention/parallel/thread_pool.hpp"

using namespace vattn;
using top_k::activation;
using top_k::hash_attention;
using top_k::hash_layer;
using top_k::hash_mlp;
using top_k::hash_weights;

namespace {

/// A network of one hidden layer with normal numbers; `shift` moves the biases.
hash_mlp network(index_t dim, int bits, std::uint64_t seed) {
  vattn::detail::head_source source(seed, 3);
  const auto layer = [&](index_t in, index_t out) {
    hash_layer l{in, out, {}, {}};
    l.matrix.resize(static_cast<std::size_t>(in * out));
    l.bias.resize(static_cast<std::size_t>(out));
    for (float& x : l.matrix)
      x = static_cast<float>(source.normal() / std::sqrt(static_cast<double>(in)));
    for (float& x : l.bias) x = static_cast<float>(0.3 * source.normal());
    return l;
  };
  std::vector<hash_layer> layers;
  layers.reserve(2);
  layers.push_back(layer(dim, 48));
  layers.push_back(layer(48, bits));
  return {std::move(layers), activation::silu};
}
/// As after training: other networks for each head, and for queries and keys; or one of keys for all heads.
hash_weights trained(index_t dim, int bits, int heads, std::uint64_t seed = 1,
                     bool shared = false) {
  std::vector<hash_weights::pair> all;
  all.reserve(static_cast<std::size_t>(heads));
  for (int h = 0; h < heads; ++h) {
    const std::uint64_t of_head = 100 * seed + 2 * static_cast<std::uint64_t>(h);
    all.push_back(
        {network(dim, bits, of_head), network(dim, bits, shared ? 100 * seed + 99 : of_head + 1)});
  }
  return hash_weights(std::move(all));
}

/// The random directions of `hash_weights::random` as networks with a hidden layer: x = relu(x) - relu(-x).
hash_weights folded(int bits, index_t dim) {
  const auto by = top_k::hash_rotation::random(bits, dim, 1);
  hash_layer first{dim, 2 * bits, {}, {}}, second{2 * bits, bits, {}, {}};
  first.matrix.resize(static_cast<std::size_t>(first.in * first.out));
  second.matrix.resize(static_cast<std::size_t>(second.in * second.out));
  for (int bit = 0; bit < bits; ++bit) {
    for (index_t j = 0; j < dim; ++j) {
      first.matrix[static_cast<std::size_t>(2 * bit * dim + j)] = by.at(bit, j);
      first.matrix[static_cast<std::size_t>((2 * bit + 1) * dim + j)] = -by.at(bit, j);
    }
    second.matrix[static_cast<std::size_t>(bit * 2 * bits + 2 * bit)] = 1.0F;
    second.matrix[static_cast<std::size_t>(bit * 2 * bits + 2 * bit + 1)] = -1.0F;
  }
  std::vector<hash_layer> layers;
  layers.reserve(2);
  layers.push_back(std::move(first));
  layers.push_back(std::move(second));
  const hash_mlp one(std::move(layers), activation::relu);
  return hash_weights({{one, one}});
}
/// A policy whose indices have these networks.
class folded_hash : public hash_attention {
public:
  folded_hash(int bits, extent k) : hash_attention(bits, k), bits_(bits) {}
  top_k::hash_attention_index make_index(index_t dim) const {
    return hash_attention::make_index(folded(bits_, dim));
  }

private:
  int bits_;
};

void predict(const hash_attention& policy, const top_k::hash_attention_index& index,
             test::prepared_call& c) {
  const kv_view kv = c.view();
  const query_group queries = c.group();
  c.begin(true);
  policy.predict(attention_call<kv_view>(queries, kv, {}), index, c.ws.seen, c.ws);
}

/// The outputs of the networks of these tests in double, and which of them floats may give another sign.
Eigen::VectorXd outputs_of(const hash_mlp& by, const Eigen::VectorXf& x) {
  std::vector<float> scratch(static_cast<std::size_t>(by.scratch()));
  const float* const got =
      by.evaluate(kernels::get(kernels::isa::scalar), x.data(), scratch.data());
  return Eigen::Map<const Eigen::VectorXf>(got, by.bits()).cast<double>();
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

auto attending(const hash_attention& policy) {
  return vattn::vattention(policy, base_sampling::uniform(rows(20)), budget::fixed(rows(30)),
                           dynamic_sampling::uniform());
}

}  // namespace

TEST_CASE("hash_attention keeps the contract of predictors", "[top_k]") {
  for (const int bits : {32, 256})
    test::check_top_k_contract([&](extent k) { return hash_attention(bits, k); });
}

TEST_CASE("hash_attention keeps the contract with networks of several layers", "[top_k]") {
  test::check_top_k_contract([&](extent k) { return folded_hash(64, k); });
}

namespace {

/// Rows whose counts, for any head, are not those of the networks' signs; a sign of an output near 0 may be either.
struct wrong_counts {
  index_t off = 0, unsure = 0;

  wrong_counts(const hash_weights& weights, test::prepared_call& c) {
    const hash_attention policy(weights.bits(), rows(1), weights.key_hashes());
    auto index = policy.make_index(weights);
    index.append(c.view());
    predict(policy, index, c);
    const kv_view kv = c.view();
    const int bits = weights.bits();
    const float sign = c.options.scale < 0.0F ? -1.0F : 1.0F;
    for (int h = 0; h < c.shape.heads; ++h) {
      const Eigen::VectorXd query =
          outputs_of(weights.queries(h), sign * c.head.queries.row(h).transpose());
      Eigen::VectorXf key(c.shape.dim);
      for (index_t row = 0; row < c.shape.rows; ++row) {
        kernels::load_row(kv.key_type(), kv.key_row(static_cast<row_t>(row)), c.shape.dim,
                          key.data());
        const Eigen::VectorXd y = outputs_of(weights.keys(weights.key_hash_of(h)), key);
        double want = bits == 96 ? 33.0 : 1.0, slack = 0.0;  // bits of the last word are equal
        for (index_t bit = 0; bit < bits; ++bit) {
          want += (y[bit] > 0.0) == (query[bit] > 0.0) ? 1.0 : 0.0;
          slack += std::min(std::fabs(y[bit]), std::fabs(query[bit])) < 1e-4 ? 1.0 : 0.0;
        }
        const double got = c.ws.seen.counts(h)[static_cast<std::size_t>(row)];
        off += std::fabs(got - want) <= slack ? 0 : 1;
        unsure += slack > 0.0 ? 1 : 0;
      }
    }
  }
};

}  // namespace

TEST_CASE("hash_attention: equal signs of what a head's networks make of queries and keys",
          "[top_k]") {
  std::vector<test::cache_shape> shapes = test::contract_shapes();
  shapes.push_back({4200, 7, 2, element::f32, 11});
  for (const int bits : {32, 64, 96, 256})
    for (const test::cache_shape& shape : shapes)
      for (const bool shared : {false, true}) {
        test::prepared_call c(shape);
        c.options.scale = shared ? -0.5F : 0.0F;
        const hash_weights weights = trained(shape.dim, bits, shape.heads, 1, shared);
        REQUIRE(weights.key_hashes() == (shared ? 1 : shape.heads));
        const wrong_counts wrong(weights, c);
        CAPTURE(bits, shape.dim, shape.heads, static_cast<int>(shape.type), shared);
        CHECK(wrong.off == 0);
        CHECK(wrong.unsure < shape.heads * shape.rows / 4);
      }
}

TEST_CASE("hash_attention: each query head goes by its own hash, at every position", "[top_k]") {
  constexpr int heads = 3, positions = 2;
  test::prepared_call c({700, 64, heads * positions, element::bf16, 3});
  std::vector<index_t> sees;
  for (int q = 0; q < heads * positions; ++q) sees.push_back(699 + q % positions);
  c.options.visible_of = sees.data();
  const hash_weights weights = trained(64, 64, heads);
  const hash_attention grouped(64, rows(20), heads), single(64, rows(20));
  auto index = grouped.make_index(weights);
  index.append(c.view());
  predict(grouped, index, c);
  std::vector<std::vector<std::uint16_t>> counts;
  for (int q = 0; q < heads * positions; ++q) {
    const auto of_query = c.ws.seen.counts(q);
    counts.emplace_back(of_query.begin(), of_query.end());
  }
  // Alone, each query by the hash of its head: rows of positions lie together.
  for (int q = 0; q < heads * positions; ++q) {
    test::prepared_call one({700, 64, 1, element::bf16, 3});
    one.head.keys = c.head.keys;
    one.head.queries = c.head.queries.row(q);
    one.options.visible_of = sees.data() + q;
    auto own = single.make_index(weights.only(q / positions));
    own.append(one.view());
    predict(single, own, one);
    const auto want = one.ws.seen.counts(0);
    CAPTURE(q);
    CHECK(
        std::equal(counts[static_cast<std::size_t>(q)].begin(),
                   counts[static_cast<std::size_t>(q)].begin() + sees[static_cast<std::size_t>(q)],
                   want.begin()));
  }
  // The hashes do differ.
  CHECK(counts[0] != counts[2]);
}

TEST_CASE("hash_attention: a batch of positions goes by the same hashes as its calls", "[top_k]") {
  constexpr int query_heads = 4, positions = 3, d = 32;
  const synthetic_head head =
      make_head(head_kind::power_law, 6000, d, 16, query_heads * positions, 5);
  const hash_attention policy(64, rows(60), query_heads);
  const auto attend = attending(policy);
  std::vector<top_k::hash_attention_index> indices{policy.make_index(trained(d, 64, query_heads))};
  const std::vector<kv_view> views{head.view()};
  indices[0].append(views[0]);
  std::vector<float> output(query_heads * positions * 16);
  request_batch<kv_view, top_k::hash_attention_index> requests;
  requests.assign({.batch = 1,
                   .query_heads = query_heads,
                   .kv_heads = 1,
                   .dim = d,
                   .value_dim = 16,
                   .positions = positions,
                   .queries = head.queries.data(),
                   .output = output.data()},
                  {.seed = 1}, views, indices);
  decode_workspace scratch;
  parallel::thread_pool pool(3);
  decode(attend, requests, pool, scratch);
  std::vector<index_t> sees;
  for (int q = 0; q < query_heads * positions; ++q) sees.push_back(5998 + q % positions);
  workspace ws;
  const result want =
      attend(head.group({.visible_of = sees.data()}), views[0], indices[0], requests[0].key, ws);
  CHECK(std::equal(output.begin(), output.end(), want.output.data()));
}

TEST_CASE("hash_attention: calls with other query heads are refused, nothing changed", "[top_k]") {
  test::prepared_call c({300, 32, 4});
  const kv_view kv = c.view();
  const hash_attention policy(64, rows(12), 2);
  const auto functor = attending(policy);
  auto index = policy.make_index(trained(32, 64, 2));
  index.append(kv);
  CHECK(index.heads() == 2);
  const query_group two = c.head.group({});
  workspace ws;
  const query_group all = c.group();
  functor(all, kv, index, draw_key{}, ws);  // two positions of two heads
  const std::vector<row_t> exact(ws.exact.rows().begin(), ws.exact.rows().end());
  for (const int heads : {1, 3}) {
    query_group wrong = two;
    wrong.heads = heads;
    const std::string why =
        "want as many queries of each of the index's query heads (queries, "
        "query heads), got " +
        std::to_string(heads) + ", 2";
    CHECK_THROWS_WITH(functor(wrong, kv, index, draw_key{}, ws), "vattention: attend: " + why);
    CHECK_THROWS_WITH(functor.explain(wrong, kv, index, draw_key{}, ws),
                      "vattention: attend: " + why);
    CHECK_THROWS_AS(functor(wrong, kv, index, draw_key{}, ws), std::invalid_argument);
    std::vector<float> output(16, 7.0F);
    const request<kv_view, top_k::hash_attention_index> requests[] = {
        {.queries = wrong, .kv = kv, .index = &index, .output = output.data()}};
    decode_workspace scratch;
    CHECK_THROWS_WITH(decode(functor, requests, parallel::serial(), scratch),
                      "vattention: decode: request 0: " + why);
    CHECK(output == std::vector<float>(16, 7.0F));
  }
  CHECK(std::equal(exact.begin(), exact.end(), ws.exact.rows().begin(), ws.exact.rows().end()));
  // One hash serves any number.
  const hash_attention any(64, rows(12));
  auto shared = any.make_index(trained(32, 64, 1));
  shared.append(kv);
  for (const int heads : {1, 2, 3, 4}) {
    query_group some = two;
    some.heads = heads;
    CHECK_NOTHROW(attending(any)(some, kv, shared, draw_key{}, ws));
  }
}

TEST_CASE("hash_attention: an index in a file asks for the weights that it was made with",
          "[top_k]") {
  test::prepared_call c({401, 40, 2});
  for (const int bits : {32, 96}) {
    const hash_attention policy(bits, rows(9), 2);
    const hash_weights weights = trained(40, bits, 2);
    auto index = policy.make_index(weights);
    const kv_view kv = c.view();
    for (const index_t size : {1, 2, 31, 32, 33, 257, 401}) index.append(kv.shard(0, size));
    auto at_once = policy.make_index(weights);
    at_once.append(kv);
    const std::string file = test::saved_index(index);
    CHECK(test::saved_index(at_once) == file);
    const auto load = [&](top_k::hash_attention_index& to) {
      return message_of([&] {
        std::istringstream in(file);
        load_index(to, in);
      });
    };
    // Weights made again from the same numbers.
    auto read = policy.make_index(trained(40, bits, 2));
    CHECK(load(read).empty());
    CHECK(test::newly_selected(policy, read, c) == test::newly_selected(policy, index, c));
    const auto refuses = [&](top_k::hash_attention_index other, const std::string& why) {
      other.append(kv.shard(0, 77));
      const std::string before = test::saved_index(other);
      CHECK(load(other).starts_with("vattention: load_index: " + why));
      CHECK(test::saved_index(other) == before);
      CHECK(other.rows() == 77);
    };
    refuses(policy.make_index(trained(40, bits, 2, 7)), "an index of weights of checksum ");
    refuses(policy.make_index(index_t{40}), "an index of weights of checksum ");
    refuses(hash_attention(bits, rows(9)).make_index(weights.only(0)),
            "an index of query heads 2, not 1");
    refuses(hash_attention(bits, rows(9)).make_index(trained(40, bits, 2, 1, true)),
            "an index of weights of checksum ");
    refuses(hash_attention(128, rows(9), 2).make_index(trained(40, 128, 2)),
            "an index of bits " + std::to_string(bits) + ", not 128");
  }
}

TEST_CASE("hash_attention: a copy of an index goes its own way with the same weights", "[top_k]") {
  test::prepared_call c({300, 40, 2});
  const hash_attention policy(32, rows(9), 2);
  auto index = policy.make_index(trained(40, 32, 2));
  index.append(c.view().shard(0, 201));
  const std::string before = test::saved_index(index);
  auto copy = std::make_unique<top_k::hash_attention_index>(index);
  CHECK(copy->weights().checksum() == index.weights().checksum());
  copy->append(c.view());
  CHECK(test::saved_index(index) == before);
  copy->forget(201);
  CHECK(test::saved_index(*copy) == before);
  copy.reset();
  index.append(c.view());
  CHECK(index.rows() == 300);
}

TEST_CASE("hash_attention counts the bytes of the signatures of all its heads", "[top_k]") {
  test::prepared_call c({.rows = 500, .dim = 64, .heads = 4});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  for (const auto& [bits, bytes] : {std::pair{32, 4}, {64, 8}, {96, 16}, {256, 32}})
    for (const int heads : {1, 2, 4}) {
      const hash_attention policy(bits, rows(1), heads);
      const auto index = test::index_of(policy, c);
      CAPTURE(bits, heads);
      CHECK(policy.bytes_scanned(call) == 500 * bytes * heads);
      CHECK(index.bytes_of(500) == 500 * bytes * heads);
      // Of a network that the heads share there is one signature.
      const hash_attention one(bits, rows(1));
      auto shared = one.make_index(trained(64, bits, heads, 1, true));
      CHECK(shared.heads() == heads);
      CHECK(shared.bytes_of(500) == 500 * bytes);
      CHECK(one.bytes_scanned(call) == 500 * bytes);
    }
}

TEST_CASE("hash_attention: rows beyond a query's sight are not free, odd ones must be read",
          "[top_k]") {
  test::prepared_call c({300, 32, 2});
  const std::vector<index_t> sees{290, 300};
  c.options.visible_of = sees.data();
  for (const index_t row : {7, 295}) c.head.keys(row, 3) = std::numeric_limits<float>::quiet_NaN();
  const hash_attention policy(64, rows(5), 2);
  auto index = policy.make_index(trained(32, 64, 2));
  index.append(c.view());
  predict(policy, index, c);
  for (std::size_t row = 0; row < 300; ++row) {
    const std::uint16_t count = c.ws.seen.counts(0)[row];
    CHECK((count == predictions::not_free) == (row >= 290));
    CHECK((count == predictions::must_read) == (row == 7));
    CHECK((c.ws.seen.counts(1)[row] == predictions::must_read) == (row == 7 || row == 295));
  }
}

TEST_CASE("hash_attention refuses what it cannot work with, and says so", "[top_k]") {
  using Catch::Contains;
  for (const int bits : {0, 16, 33, 288, -64})
    CHECK_THROWS_WITH(
        hash_attention(bits, rows(1)),
        "vattention: hash_attention: want 32, 64, ... 256 bits, got " + std::to_string(bits));
  for (const int heads : {0, -1, 65})
    CHECK_THROWS_WITH(hash_attention(64, rows(1), heads),
                      "vattention: hash_attention: want 1 to 64 signatures of a key, got " +
                          std::to_string(heads));
  const hash_attention policy(64, rows(1), 2);
  CHECK_THROWS_WITH(
      policy.make_index(trained(32, 96, 2)),
      Contains("hash_attention::make_index") && Contains("bits, the policy's), got 96, 64"));
  CHECK_THROWS_WITH(policy.make_index(trained(32, 64, 3)),
                    Contains("(their networks of keys, the policy's), got 3, 2"));
  CHECK_THROWS_WITH(policy.make_index(trained(32, 64, 2, 1, true)), Contains("got 1, 2"));
  for (const index_t dim : {0, -1, 4097})
    CHECK_THROWS_WITH(policy.make_index(dim), Contains("1 <= key dimension <= 4096"));
  test::prepared_call c({30, 40});
  auto index = policy.make_index(trained(41, 64, 2));
  CHECK_THROWS_WITH(index.append(c.view()), Contains("hash_attention_index::append"));
  CHECK(index.rows() == 0);
}
