// SPDX-License-Identifier: Apache-2.0
/// @file
/// What every view of a cache must keep: the answers of the same rows in a plain `kv_view`, bit for bit.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/random_cache.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/reference.hpp"

namespace vattn::test {

/// All numbers of a result as bytes; of the bytes touched those that are not rows, a row taking
/// `bytes_a_row`: views count what they touch.
inline std::string bytes_of(const result& r, index_t bytes_a_row) {
  std::string all;
  const auto put = [&](const auto& x) { all.append(reinterpret_cast<const char*>(&x), sizeof x); };
  for (index_t h = 0; h < r.output.rows(); ++h) {
    for (index_t j = 0; j < r.output.cols(); ++j) put(r.output(h, j));
    const auto i = static_cast<std::size_t>(h);
    const certificate& c = r.certificates[i];
    put(r.log_sum_exp[i]), put(r.log_sum_exp_error[i]);
    put(c.epsilon), put(c.denominator), put(c.denominator_error), put(c.max_logit);
    put(c.status), put(c.basis), put(c.bound), put(c.looks);
    put(c.rows_exact), put(c.rows_sampled), put(c.rows_total);
    put(c.bytes_touched - (c.rows_exact + c.rows_sampled) * bytes_a_row);
  }
  return all;
}

/// One functor on a view and on the same rows; `sampled` where it must not have read everything.
template <class Functor, class View>
void check_functor(const Functor& functor, const query_group& q, const View& kv,
                   const kv_view& plain, bool sampled) {
  workspace ws;
  const draw_key key{.seed = 3, .step = 9};
  CAPTURE(functor.budget().asked(), static_cast<int>(functor.budget().coverage()));
  const std::string want = bytes_of(functor(q, plain, functor.make_index(plain), key, ws),
                                    key_bytes(plain) + value_bytes(plain));
  const auto index = functor.make_index(kv);
  const result got = functor(q, kv, index, key, ws);
  const bool whole = got.certificates[0].rows_exact == got.certificates[0].rows_total;
  CHECK(whole == !sampled);
  const index_t value = whole ? row_bytes(kv.value_type(), kv.value_dim()) : value_bytes(kv);
  CHECK(bytes_of(got, key_bytes(kv) + value) == want);
  CHECK(count_allocations([&] { functor(q, kv, index, key, ws); }) == 0);
}

/// The same rows and numbers, one by one.
template <class View>
void check_rows(const View& kv, const kv_view& plain) {
  REQUIRE(kv.rows() == plain.rows());
  REQUIRE(kv.key_dim() == plain.key_dim());
  REQUIRE(kv.value_dim() == plain.value_dim());
  REQUIRE(kv.key_type() == plain.key_type());
  REQUIRE(kv.value_type() == plain.value_type());
  CHECK(kv.first_row() == plain.first_row());
  const auto size = static_cast<std::size_t>(plain.value_dim());
  std::vector<float> got(size), want(size);
  bool same = true;
  for (row_t i = 0; i < static_cast<row_t>(plain.rows()); ++i) {
    same = same && std::memcmp(kv.key_row(i), plain.key_row(i),
                               static_cast<std::size_t>(key_bytes(plain))) == 0;
    kernels::load_value(kv, i, got.data());
    kernels::load_value(plain, i, want.data());
    same = same && got == want;
  }
  CHECK(same);
}

/// Rows, dense attention, the reference, and functors of both sampling designs. Needs about 1,500 rows
/// for those to sample.
template <class View>
void check_view(const query_group& q, const View& kv, const kv_view& plain) {
  check_rows(kv, plain);
  workspace ws;
  const index_t row = key_bytes(plain) + value_bytes(plain);
  const std::string want = bytes_of(dense(q, plain, ws), row);
  CHECK(bytes_of(dense(q, kv, ws), row) == want);
  CHECK(reference(q, kv).output == reference(q, plain).output);
  check_functor(presets::standard(epsilon{0.3}, delta{0.1}), q, kv, plain, true);
  check_functor(presets::standard(epsilon{1e-9}, delta{0.1}), q, kv, plain, false);
  check_functor(presets::uniform_output(epsilon{0.3}, delta{0.1}), q, kv, plain, true);
  check_functor(presets::strict_output(epsilon{0.9}, delta{0.2}), q, kv, plain, true);
}

/// `check_view`, and two shards of the view and of the rows.
template <class View>
void check_view_and_shards(const query_group& q, const View& kv, const kv_view& plain) {
  check_view(q, kv, plain);
  for (const index_t first : {index_t{0}, index_t{37}}) {
    const index_t count = plain.rows() - first - 5;
    const auto part = kv.shard(first, count);
    check_rows(part, plain.shard(first, count));
    check_functor(presets::standard(epsilon{0.3}, delta{0.1}), q, part, plain.shard(first, count),
                  true);
    check_rows(part.shard(11, 7), plain.shard(first + 11, 7));
  }
  CHECK_THROWS_AS(kv.shard(3, kv.rows()), std::invalid_argument);
  CHECK_THROWS_AS(kv.shard(-1, 1), std::invalid_argument);
}

/// Memory of a layout: `put` copies a row's bytes to a place, everything else is NaN in any type.
class cache_memory {
public:
  explicit cache_memory(index_t bytes) : bytes_(static_cast<std::size_t>(bytes), std::byte{0xff}) {}
  void put(index_t at, const void* from, index_t bytes) {
    REQUIRE(at >= 0);
    REQUIRE(at + bytes <= static_cast<index_t>(bytes_.size()));
    std::memcpy(bytes_.data() + at, from, static_cast<std::size_t>(bytes));
  }
  const std::byte* data() const { return bytes_.data(); }

private:
  std::vector<std::byte> bytes_;
};

/// Keys and values of every type and pair of types, in caches that the presets sample.
inline std::vector<cache_plan> view_plans() {
  std::vector<cache_plan> plans;
  const element all[] = {element::f32, element::bf16, element::f16, element::q8_0};
  for (std::size_t i = 0; i < 4; ++i)
    plans.push_back({.rows = 1500,
                     .dim = 64,
                     .value_dim = 32,
                     .heads = static_cast<int>(i) + 1,
                     .keys = all[i],
                     .values = all[(i + (i > 1 ? 1 : 0)) % 4],
                     .seed = i + 1});
  return plans;
}

}  // namespace vattn::test
