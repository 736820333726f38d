// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/index_file.hpp"

#include <sstream>

#include "support/top_k_contract.hpp"
#include "vattention/top_k/cascade.hpp"
#include "vattention/top_k/sign_hash.hpp"

using namespace vattn;

namespace {

template <class Index>
std::string saved(const Index& index) {
  std::ostringstream out;
  save_index(index, out);
  return out.str();
}

template <class Index>
void load(Index& index, const std::string& bytes) {
  std::istringstream in(bytes);
  load_index(index, in);
}

/// The file with its checksum made right again.
std::string resealed(std::string bytes) {
  bytes.resize(bytes.size() - 8);
  std::uint64_t checksum = detail::checksum_of(bytes);
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(checksum >> (8 * i)));
  return bytes;
}

}  // namespace

TEST_CASE("a file holds magic, version and kind, little-endian", "[top_k]") {
  test::prepared_call c({300, 16});
  const std::string bytes = saved(test::index_of(top_k::sign_hash(64, rows(1)), c));
  CHECK(bytes.substr(0, 8) == "vattnidx");
  CHECK(bytes.substr(8, 4) == std::string("\1\0\0\0", 4));
  CHECK(bytes.substr(12, 4) == std::string("\x09\0\0\0", 4));
  CHECK(bytes.substr(24, 9) == "sign_hash");
  CHECK(bytes == resealed(bytes));
}

TEST_CASE("files that are not the index's are refused, and it stays as it was", "[top_k]") {
  test::prepared_call c({300, 16});
  const top_k::sign_hash policy(64, rows(9));
  auto index = test::index_of(policy, c);
  const std::string good = saved(index);
  const auto refused = [&](const std::string& bytes, const char* why) {
    CAPTURE(why);
    CHECK_THROWS_WITH(load(index, bytes), Catch::Contains("load_index") && Catch::Contains(why));
    CHECK(saved(index) == good);
  };
  refused("", "no index file");
  refused("not an index at all, but long enough for one", "no index file");
  std::string other = good;
  other[8] = 2;
  refused(other, "version 2");
  refused(saved(test::index_of(top_k::sign_hash(32, rows(9)), c)), "bits 32, not 64");
  refused(saved(test::index_of(top_k::cascade(2, 4), c)), "kind 'cascade', not 'sign_hash'");
  test::prepared_call wide({300, 17});
  refused(saved(test::index_of(policy, wide)), "dimension 17, not 16");
  for (const std::size_t size : {9UL, 20UL, 40UL, good.size() - 9, good.size() - 1}) {
    CAPTURE(size);
    CHECK_THROWS_AS(load(index, good.substr(0, size)), std::runtime_error);
    CHECK(saved(index) == good);
  }
  for (std::size_t at = 0; at < good.size(); at += 37) {
    std::string damaged = good;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    CAPTURE(at);
    CHECK_THROWS_AS(load(index, damaged), std::runtime_error);
  }
  CHECK(saved(index) == good);
}

TEST_CASE("a file whose lists do not fit is refused whatever its checksum", "[top_k]") {
  test::prepared_call c({300, 16});
  c.head.keys(20, 3) = std::nanf("");
  c.head.keys(21, 3) = std::nanf("");
  auto index = test::index_of(top_k::sign_hash(64, rows(9)), c);
  const std::string good = saved(index);
  const std::size_t body = 24 + 9;
  std::string rows_changed = good;
  rows_changed[body + 16] = static_cast<char>(rows_changed[body + 16] + 1);
  CHECK_THROWS_WITH(load(index, resealed(rows_changed)), Catch::Contains("another length"));
  std::string out_of_order = good;  // the last list: rows 20 and 21
  out_of_order[good.size() - 8 - 4] = 19;
  CHECK_THROWS_WITH(load(index, resealed(out_of_order)), Catch::Contains("not in order"));
  std::string beyond = good;
  beyond[good.size() - 8 - 3] = 9;
  CHECK_THROWS_WITH(load(index, resealed(beyond)), Catch::Contains("not in order"));
  std::string longer = good;
  longer[good.size() - 8 - 16] = 3;
  CHECK_THROWS_WITH(load(index, resealed(longer)), Catch::Contains("beyond the end"));
  CHECK(saved(index) == good);
  load(index, good);
}

TEST_CASE("a stream that takes nothing is an error") {
  test::prepared_call c({30, 16});
  std::ostringstream out;
  out.setstate(std::ios::badbit);
  CHECK_THROWS_AS(save_index(test::index_of(top_k::sign_hash(64, rows(1)), c), out),
                  std::runtime_error);
}
