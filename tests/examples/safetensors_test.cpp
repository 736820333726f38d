// SPDX-License-Identifier: Apache-2.0
#include "../../examples/support/safetensors.hpp"

#include <cstring>
#include <nlohmann/json.hpp>

#include "../../examples/support/capture.hpp"
#include "support/catch.hpp"
#include "support/scratch_file.hpp"

using namespace vattn_examples;

namespace {

std::string length_field(std::uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 0xFF);
  return bytes;
}
std::string file_of(const std::string& header, const std::string& data) {
  return length_field(header.size()) + header + data;
}

/// The one line with which `Reader` refuses a file of these bytes, without the path; empty if it
/// does not.
template <class Reader>
std::string refusal(const std::string& bytes) {
  const vattn::test::scratch_file file("test", bytes);
  try {
    const Reader reader(file.path());
    return "";
  } catch (const std::runtime_error& error) {
    const std::string message = error.what();
    const std::string path = file.path().string() + ": ";
    CHECK(message.starts_with(path));
    CHECK(message.find('\n') == std::string::npos);
    CHECK(message.size() < path.size() + 200);
    return message.substr(std::min(path.size(), message.size()));
  }
}
std::string refusal(const std::string& header, const std::string& data) {
  return refusal<safetensors_file>(file_of(header, data));
}

const std::string two_floats = R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";

std::string bytes_of(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// One KV head: 2 query heads, 2 positions, 3 rows, d = 2, d_v = 1, all F32; q counts up from 0.
nlohmann::json small_header() {
  return {{"__metadata__", {{"scale", "0.25"}}},
          {"layer03.kv1.q", {{"dtype", "F32"}, {"shape", {2, 2, 2}}, {"data_offsets", {0, 32}}}},
          {"layer03.kv1.k", {{"dtype", "F32"}, {"shape", {3, 2}}, {"data_offsets", {32, 56}}}},
          {"layer03.kv1.v", {{"dtype", "F32"}, {"shape", {3, 1}}, {"data_offsets", {56, 68}}}}};
}
std::string small_capture(const nlohmann::json& header = small_header()) {
  std::vector<float> values(17);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  return file_of(header.dump(), bytes_of(values));
}

}  // namespace

TEST_CASE("a safetensors file gives its tensors in the order of their data", "[safetensors]") {
  const std::string header =
      R"({"late":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]},)"
      R"("empty":{"dtype":"F16","shape":[0,7],"data_offsets":[8,8]},)"
      R"("early":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"a":"b"}}   )";
  const vattn::test::scratch_file file(
      "test", file_of(header, bytes_of({1.5F, -2.0F}) + std::string("\x80\x3F\0\x40", 4)));
  const safetensors_file read(file.path());

  REQUIRE(read.tensors().size() == 3);
  CHECK(read.tensors()[0].name == "early");
  CHECK(read.tensors()[2].name == "late");
  CHECK(read.metadata().at("a") == "b");
  CHECK(read.find("nothing") == nullptr);

  const tensor& early = *read.find("early");
  CHECK(early.type == vattn::element::f32);
  CHECK(early.shape == std::vector<std::int64_t>{2});
  float second = 0.0F;
  std::memcpy(&second, early.data + 4, 4);
  CHECK(second == -2.0F);

  const tensor& late = *read.find("late");
  CHECK(late.type == vattn::element::bf16);
  Eigen::bfloat16 pair[2];
  std::memcpy(pair, late.data, 4);
  CHECK(static_cast<float>(pair[0]) == 1.0F);
  CHECK(static_cast<float>(pair[1]) == 2.0F);
}

TEST_CASE("an odd header length leaves the data aligned", "[safetensors]") {
  for (const char* padding : {"", " ", "  ", "   "}) {
    const vattn::test::scratch_file file("test", file_of(two_floats + padding, bytes_of({1, 2})));
    const safetensors_file read(file.path());
    CHECK(reinterpret_cast<std::uintptr_t>(read.tensors()[0].data) % 4 == 0);
  }
}

TEST_CASE("a damaged safetensors file is refused in one line", "[safetensors]") {
  const auto of_bytes = [](const std::string& bytes) { return refusal<safetensors_file>(bytes); };
  const std::string data = bytes_of({1, 2});
  REQUIRE(refusal(two_floats, data).empty());

  SECTION("lengths") {
    CHECK(of_bytes("") == "shorter than the 8 bytes every safetensors file begins with");
    CHECK(of_bytes("1234567") == "shorter than the 8 bytes every safetensors file begins with");
    CHECK(of_bytes(length_field(0)) == "header is no valid JSON near its byte 1");
    CHECK(of_bytes(length_field(3) + "{}") == "header length 3 goes beyond the end of the file");
    CHECK(of_bytes(length_field(~std::uint64_t{0}) + "{}") ==
          "header length 18446744073709551615 is above 100 MB: not a safetensors file");
    CHECK(of_bytes("just a line of text, no header\n").find("not a safetensors file") !=
          std::string::npos);
  }
  SECTION("every truncation") {
    const std::string whole = file_of(two_floats, data);
    for (std::size_t size = 0; size < whole.size(); ++size)
      CHECK_FALSE(of_bytes(whole.substr(0, size)).empty());
    CHECK(of_bytes(whole + "x") == "1 bytes after the last tensor belong to none");
  }
  SECTION("JSON") {
    CHECK(refusal("{\"x\":", data) == "header is no valid JSON near its byte 6");
    CHECK(refusal("[]", "") == "header is no JSON object");
    CHECK(refusal("7", "") == "header is no JSON object");
    CHECK(refusal("{\"x\":1e999}", "") == "header holds a number out of all range");
    CHECK(refusal("{\"\xFF\":1}", "").starts_with("header is no valid JSON"));
    CHECK(refusal(std::string(100'000, '['), "").starts_with("header is no valid JSON"));
    CHECK(refusal(two_floats.substr(0, two_floats.size() - 1) + "," + two_floats.substr(1), data) ==
          "header names 'x' twice");
  }
  SECTION("metadata") {
    CHECK(refusal(R"({"__metadata__":3})", "") == "__metadata__ is no JSON object");
    CHECK(refusal(R"({"__metadata__":{"n":3}})", "") == "__metadata__ 'n' is no text");
  }
  SECTION("fields of a tensor") {
    CHECK(refusal(R"({"x":3})", "") == "tensor 'x': wants dtype, shape and data_offsets");
    CHECK(refusal(R"({"x":{"dtype":"F32","shape":[2]}})", data) ==
          "tensor 'x': wants dtype, shape and data_offsets");
    CHECK(refusal(R"({"x":{"dtype":"I8","shape":[8],"data_offsets":[0,8]}})", data) ==
          "tensor 'x': want dtype F32, BF16 or F16, got I8");
    CHECK(refusal(R"({"x":{"dtype":[],"shape":[8],"data_offsets":[0,8]}})", data) ==
          "tensor 'x': want dtype F32, BF16 or F16, got something that is no text");
    for (const char* shape : {"2", "[-2]", "[2.0]", "[\"2\"]", "[null]", "{}"})
      CHECK(refusal(
                R"({"x":{"dtype":"F32","data_offsets":[0,8],"shape":)" + std::string(shape) + "}}",
                data) == "tensor 'x': shape is no list of counts");
    for (const char* offsets : {"8", "[]", "[8]", "[0,4,8]", "[-8,0]", "[0,8.0]", "[\"0\",8]"})
      CHECK(refusal(
                R"({"x":{"dtype":"F32","shape":[2],"data_offsets":)" + std::string(offsets) + "}}",
                data) == "tensor 'x': data_offsets are not two counts");
    CHECK(refusal("{\"a\\n" + std::string(300, 'b') + "\":3}", "").starts_with("tensor 'a?bbb"));
  }
  SECTION("offsets") {
    const auto at = [&](const std::string& shape, const std::string& offsets) {
      return refusal(
          R"({"x":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}", data);
    };
    CHECK(at("[2]", "[0,12]") == "tensor 'x': bytes 0 to 12 are not within the 8 bytes of data");
    CHECK(at("[2]", "[8,0]") == "tensor 'x': bytes 8 to 0 are not within the 8 bytes of data");
    CHECK(at("[2]", "[0,18446744073709551615]") == "tensor 'x': data_offsets are not two counts");
    CHECK(at("[3]", "[0,8]") == "tensor 'x': shape and dtype want 12 bytes, data_offsets hold 8");
    CHECK(at("[4294967296,4294967296,4294967296]", "[0,8]") ==
          "tensor 'x': shape is too large for any file");
    CHECK(at("[1]", "[4,8]") == "4 bytes before tensor 'x' belong to no tensor");
    CHECK(at("[1]", "[0,4]") == "4 bytes after the last tensor belong to none");
    CHECK(at("[1]", "[1,5]") == "tensor 'x': data are not aligned to their elements");
  }
  SECTION("two tensors on the same bytes") {
    CHECK(refusal(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                  R"("y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                  data) == "tensor 'y' overlaps the one before it");
  }
}

TEST_CASE("a file that is not there is refused in one line", "[safetensors]") {
  const auto nowhere = std::filesystem::temp_directory_path() / "vattention no such file";
  CHECK_THROWS_WITH(safetensors_file(nowhere),
                    nowhere.string() + ": cannot be read (No such file or directory)");
  CHECK_THROWS_AS(safetensors_file(std::filesystem::temp_directory_path()), std::runtime_error);
}

TEST_CASE("a capture gives the queries with the rows they see", "[safetensors][capture]") {
  const vattn::test::scratch_file file("test", small_capture());
  const capture read(file.path());
  REQUIRE(read.heads().size() == 1);
  const kv_head& head = read.heads()[0];
  CHECK(head.name() == "layer03.kv1");
  CHECK(head.row_name(1, 0) == read.file().stem() + "/layer03.kv1.q1@0");
  CHECK(head.kv().rows() == 3);
  CHECK(head.kv().value_dim() == 1);
  CHECK(head.query_heads() == 2);
  CHECK(head.positions() == 2);
  CHECK(head.visible_rows(0) == 2);
  CHECK(head.visible_rows(1) == 3);

  const vattn::query_group all = head.group(1);
  CHECK(all.heads == 2);
  CHECK(all.data[0] == 2.0F);
  CHECK(all.data[all.stride + 1] == 7.0F);
  CHECK(all.logits.scale == 0.25F);
  CHECK(all.logits.visible_rows == 3);
  const vattn::query_group one = head.query(1, 0);
  CHECK(one.heads == 1);
  CHECK(one.data[0] == 4.0F);
  CHECK(one.logits.visible_rows == 2);

  const vattn::draw_key draw = head.draw(1, 5);
  CHECK(draw.seed == 5);
  CHECK(draw.layer == 3);
  CHECK(draw.head == 1);
  CHECK(draw.step == 2);
}

TEST_CASE("a capture that does not fit together is refused in one line", "[safetensors][capture]") {
  const auto with = [](auto change) {
    nlohmann::json header = small_header();
    change(header);
    return refusal<capture>(small_capture(header));
  };
  const auto rename = [](const std::string& from, const std::string& to) {
    return [=](nlohmann::json& header) {
      header[to] = header[from];
      header.erase(from);
    };
  };
  REQUIRE(with([](auto&) {}).empty());
  CHECK(with(rename("layer03.kv1.v", "layer03.kv1.w")) == "tensor 'layer03.kv1.v' is missing");
  CHECK(with(rename("layer03.kv1.q", "other")) == "tensor 'layer03.kv1.q' is missing");
  CHECK(with([&](nlohmann::json& header) {
          for (const std::string part : {"q", "k", "v"})
            rename("layer03.kv1." + part, "head." + part)(header);
        }) == "holds no KV head (tensors layerLL.kvK.q, .k and .v)");
  CHECK(with([](auto& header) { header["layer03.kv1.q"]["shape"] = {4, 2}; }) ==
        "layer03.kv1.q: want 3 dimensions, none of them 0");
  CHECK(with([](auto& header) { header["layer03.kv1.k"]["shape"] = {6}; }) ==
        "layer03.kv1.k: want 2 dimensions, none of them 0");
  for (const auto& shape : {nlohmann::json{1, 4, 2}, nlohmann::json{2, 1, 4}})
    CHECK(with([&](auto& header) { header["layer03.kv1.q"]["shape"] = shape; }) ==
          "layer03.kv1.q: want at most 1024 heads, a key a position, and the keys' length");
  CHECK(with([](auto& header) { header["layer03.kv1.v"]["shape"] = {1, 3}; }) ==
        "layer03.kv1: want as many values as keys");
  for (const char* scale : {"", "a", "-1", "0", "1/8", "nan", "1e99"})
    CHECK(with([&](auto& header) { header["__metadata__"]["scale"] = scale; }) ==
          "metadata scale is no positive number: '" + std::string(scale) + "'");
}

TEST_CASE("the captures that come with the examples are sound", "[safetensors][capture]") {
  const std::filesystem::path data =
      std::filesystem::path(VATTN_TESTS_DIR) / ".." / "examples" / "data";
  for (const char* name : {"smollm2-135m-book", "smollm2-135m-needle"}) {
    const capture read(data / (std::string(name) + ".safetensors"));
    CHECK(read.heads().size() == 2);
    for (const kv_head& head : read.heads()) {
      CHECK(head.kv().rows() == 8000);
      CHECK(head.kv().key_dim() == 64);
      CHECK(head.query_heads() == 3);
      CHECK(head.positions() == 64);
      CHECK(head.visible_rows(0) == 7937);
      CHECK(head.visible_rows(63) == 8000);
      CHECK(head.full_name(2).starts_with(name));
      CHECK(head.group(0).logits.scale == 0.125F);
    }
  }
}
