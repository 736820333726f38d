// SPDX-License-Identifier: Apache-2.0
#include "../../examples/support/safetensors_writer.hpp"

#include <iterator>

#include "../../examples/support/safetensors.hpp"
#include "support/catch.hpp"
#include "support/scratch_file.hpp"
#include "vattention/kernels/convert.hpp"

using namespace vattn_examples;
using vattn::element;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
std::filesystem::path part_of(const std::filesystem::path& path) { return path.string() + ".part"; }

std::vector<float> values_of(const tensor& t) {
  std::int64_t count = 1;
  for (const std::int64_t extent : t.shape) count *= extent;
  std::vector<float> values(static_cast<std::size_t>(count));
  if (count > 0) vattn::kernels::load_row(t.type, t.data, count, values.data());
  return values;
}

/// What `work` says of the file, without the path; empty if it says nothing. The old file must stay.
template <class Work>
std::string refusal(Work work) {
  const vattn::test::scratch_file file("writer", "old");
  std::string message;
  try {
    safetensors_writer to(file.path());
    work(to);
  } catch (const std::runtime_error& error) {
    message = error.what();
    const std::string path = file.path().string() + ": ";
    CHECK(message.starts_with(path));
    CHECK(message.find('\n') == std::string::npos);
    message = message.substr(std::min(path.size(), message.size()));
    CHECK(bytes_of(file.path()) == "old");
  }
  CHECK_FALSE(std::filesystem::exists(part_of(file.path())));
  return message;
}

}  // namespace

TEST_CASE("what is written is read again", "[safetensors]") {
  const std::vector<float> exact{0.0F, -1.5F, 2.0F, 0.0078125F, -infinity, 65280.0F};
  for (const element type : {element::bf16, element::f16, element::f32}) {
    const vattn::test::scratch_file file("writer", "old");
    {
      safetensors_writer to(file.path());
      to.begin(type, {{"late", {2, 3}}, {"empty", {0, 7}}, {"early", {3}}, {"one", {}}},
               {{"scale", "0.125"}});
      to.add(std::span(exact).first(1));
      to.add({});
      to.add(std::span(exact).subspan(1));
      to.add(std::span(exact).first(3));
      to.add(std::span(exact).subspan(2, 1));
      CHECK(bytes_of(file.path()) == "old");
      to.commit();
    }
    CHECK_FALSE(std::filesystem::exists(part_of(file.path())));

    const safetensors_file read(file.path());
    REQUIRE(read.tensors().size() == 4);
    CHECK(read.find("late")->type == type);
    CHECK(read.find("late")->shape == std::vector<std::int64_t>{2, 3});
    CHECK(read.find("empty")->shape == std::vector<std::int64_t>{0, 7});
    CHECK(read.find("one")->shape.empty());
    CHECK(values_of(*read.find("late")) == exact);
    CHECK(values_of(*read.find("early")) == std::vector<float>(exact.begin(), exact.begin() + 3));
    CHECK(values_of(*read.find("one")) == std::vector<float>{2.0F});
    CHECK(read.metadata().at("scale") == "0.125");
    // the data begin at a multiple of 8 bytes
    const auto data_bytes = static_cast<std::size_t>(10 * vattn::size_of(type));
    CHECK((bytes_of(file.path()).size() - data_bytes) % 8 == 0);
  }
}

TEST_CASE("values are rounded to the nearest of the type", "[safetensors]") {
  const std::vector<float> between{1.0F + 0x1p-9F, 1.0F + 0x3p-9F, 1.0F + 0x1.8p-9F};
  const vattn::test::scratch_file file("writer", "");
  safetensors_writer to(file.path());
  to.begin(element::bf16, {{"x", {3}}}, {});
  to.add(between);
  to.commit();
  CHECK(values_of(*safetensors_file(file.path()).find("x")) ==
        std::vector<float>{1.0F, 1.0F + 0x1p-7F, 1.0F});
}

TEST_CASE("any text may be metadata", "[safetensors]") {
  const std::map<std::string, std::string> texts{
      {"quotes", R"(a "b" \c\)"},
      {"lines", "a\nb\tc\r"},
      {"control", std::string("\x01\0z", 3)},
      {"umlaut ü", "≤ 😀"},
      {"", ""},
  };
  const vattn::test::scratch_file file("writer", "");
  safetensors_writer to(file.path());
  to.begin(element::f32, {{"a \"name\"\n", {1}}}, texts);
  to.add(std::vector{1.0F});
  to.commit();
  const safetensors_file read(file.path());
  CHECK(read.metadata() == texts);
  CHECK(read.find("a \"name\"\n") != nullptr);

  safetensors_writer other(file.path());
  other.begin(element::f32, {}, {{"latin", "\xFC"}});
  other.commit();
  CHECK(safetensors_file(file.path()).metadata().at("latin") == "\uFFFD");
}

TEST_CASE("values that do not fit their shape are refused, and the old file stays",
          "[safetensors]") {
  const std::vector<float> six(6, 1.0F);
  const auto with = [&](std::vector<std::int64_t> shape, auto work) {
    return refusal([&](safetensors_writer& to) {
      to.begin(element::f32, {{"x", std::move(shape)}}, {});
      work(to);
    });
  };
  CHECK(with({2, 3}, [&](auto& to) {
          to.add(six);
          to.commit();
        }).empty());
  CHECK(with({5}, [&](auto& to) { to.add(six); }) == "tensor 'x': more values than its shape says");
  CHECK(with({6}, [&](auto& to) {
          to.add(six);
          to.add(six);
        }) == "more values than its tensors hold");
  CHECK(with({7}, [&](auto& to) {
          to.add(six);
          to.commit();
        }) == "tensor 'x' lacks 1 of its values");
  CHECK(with({7}, [&](auto& to) { to.add(six); }).empty());  // given up
  CHECK(with({-1}, [](auto&) {}) == "tensor 'x': a negative extent");
  CHECK(with({std::int64_t{1} << 32, std::int64_t{1} << 32}, [](auto&) {}) ==
        "tensor 'x': shape is too large for any file");
  CHECK(refusal([](auto& to) { to.commit(); }) == "nothing was written");
}

TEST_CASE("plans and values that no file can hold are refused", "[safetensors]") {
  const auto plan = [](element type, std::vector<planned_tensor> tensors) {
    return refusal([&](safetensors_writer& to) { to.begin(type, tensors, {}); });
  };
  const std::int64_t half = std::int64_t{1} << 60;
  CHECK(plan(element::f32, {{"x", {1}}, {"y", {2}}, {"x", {1}}}) ==
        "tensor 'x' stands there twice");
  CHECK(plan(element::f32, {{"__metadata__", {1}}}) == "tensor '__metadata__' stands there twice");
  CHECK(plan(element::f32, {{"x", {half}}, {"y", {half}}}) ==
        "tensor 'y': shape is too large for any file");
  CHECK(plan(element::q8_0, {}) == "want f32, bf16 or f16, got q8_0");
  CHECK(refusal([](auto& to) {
          to.begin(element::f16, {{"x", {2}}}, {});
          to.add(std::vector{1.0F, 70000.0F});
        }) == "tensor 'x': 70000.000000 is beyond f16");
}

TEST_CASE("a file that cannot be written is refused in one line", "[safetensors]") {
  const auto folder = std::filesystem::temp_directory_path();
  const auto nowhere = folder / "vattention no such folder" / "x.safetensors";
  CHECK_THROWS_WITH(safetensors_writer(nowhere), nowhere.string() + ": cannot be written");
  CHECK_THROWS_WITH(safetensors_writer(folder), folder.string() + ": is a folder");
}
