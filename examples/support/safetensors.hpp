// SPDX-License-Identifier: Apache-2.0
/// @file
/// Reads a safetensors file: named tensors and text metadata. Everything is checked before use.
#pragma once

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "vattention/core/kv_view.hpp"

namespace vattn_examples {

/// `data` lies in the file that the tensor came from and is aligned to its element.
struct tensor {
  std::string name;
  vattn::element type = vattn::element::f32;
  std::vector<std::int64_t> shape;
  const std::byte* data = nullptr;
};

/// Text of unknown origin as part of a message of one line: control characters become `?`.
inline std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return text.size() > 80 ? text.substr(0, 77) + "..." : text;
}

/// A whole file in memory: 8 bytes of header length (little endian), a JSON header, the data, which
/// the tensors cover without gap or overlap. Elements F32, BF16, F16. Move-only.
/// Source: github.com/huggingface/safetensors, README, "Format".
class safetensors_file {
public:
  /// @throws std::runtime_error `<path>: <what is wrong>`, one line, if anything is.
  explicit safetensors_file(const std::filesystem::path& path) : path_(path) {
    std::error_code error;
    const std::uintmax_t size = std::filesystem::file_size(path, error);
    require(!error, "cannot be read (" + error.message() + ")");
    std::ifstream file(path, std::ios::binary);
    require(file.good(), "cannot be opened");
    require(size >= 8, "shorter than the 8 bytes every safetensors file begins with");
    const std::uint64_t header_bytes = header_length(read(file, 8).get());
    require(header_bytes <= max_header, "header length " + std::to_string(header_bytes) +
                                            " is above 100 MB: not a safetensors file");
    require(header_bytes <= size - 8,
            "header length " + std::to_string(header_bytes) + " goes beyond the end of the file");
    const auto header = read(file, header_bytes);
    data_bytes_ = size - 8 - header_bytes;
    data_ = read(file, data_bytes_);
    parse(reinterpret_cast<const char*>(header.get()), header_bytes);
    check_coverage();
  }

  const std::filesystem::path& path() const noexcept { return path_; }
  /// File name without folder and `.safetensors`.
  std::string stem() const { return path_.stem().string(); }
  /// In the order of the data.
  const std::vector<tensor>& tensors() const noexcept { return tensors_; }
  const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }
  /// Null if there is none of that name.
  const tensor* find(const std::string& name) const noexcept {
    const auto at = std::find_if(tensors_.begin(), tensors_.end(),
                                 [&](const tensor& t) { return t.name == name; });
    return at == tensors_.end() ? nullptr : &*at;
  }

  /// Refuses the file with one line. Also for what readers of a certain kind of file expect of it.
  void require(bool holds, const std::string& reason) const {
    if (!holds) throw std::runtime_error(path_.string() + ": " + reason);
  }

private:
  using json = nlohmann::json;
  static constexpr std::uint64_t max_header = 100'000'000;

  static std::uint64_t header_length(const std::byte* bytes) noexcept {
    std::uint64_t value = 0;
    for (int i = 7; i >= 0; --i) value = value << 8 | std::to_integer<std::uint64_t>(bytes[i]);
    return value;
  }

  std::unique_ptr<std::byte[]> read(std::ifstream& file, std::uint64_t bytes) const {
    auto buffer = std::make_unique_for_overwrite<std::byte[]>(bytes);
    file.read(reinterpret_cast<char*>(buffer.get()), static_cast<std::streamsize>(bytes));
    require(file.good(), "ends before its announced size");
    return buffer;
  }

  void parse(const char* text, std::uint64_t bytes) {
    std::set<std::string> names;
    std::string twice;
    const auto note = [&](int depth, json::parse_event_t event, json& value) {
      if (depth == 1 && event == json::parse_event_t::key &&
          !names.insert(value.get<std::string>()).second)
        twice = value.get<std::string>();
      return true;
    };
    json header;
    try {
      header = json::parse(text, text + bytes, note);
    } catch (const json::parse_error& error) {
      require(false, "header is no valid JSON near its byte " + std::to_string(error.byte));
    } catch (const json::exception&) {
      require(false, "header holds a number out of all range");
    }
    require(header.is_object(), "header is no JSON object");
    require(twice.empty(), "header names '" + one_line(twice) + "' twice");
    for (const auto& [name, value] : header.items()) {
      if (name == "__metadata__")
        parse_metadata(value);
      else
        parse_tensor(name, value);
    }
  }

  void parse_metadata(const json& value) {
    require(value.is_object(), "__metadata__ is no JSON object");
    for (const auto& [key, text] : value.items()) {
      require(text.is_string(), "__metadata__ '" + one_line(key) + "' is no text");
      metadata_[key] = text.get<std::string>();
    }
  }

  void parse_tensor(const std::string& name, const json& value) {
    const std::string where = "tensor '" + one_line(name) + "': ";
    require(value.is_object() && value.contains("dtype") && value.contains("shape") &&
                value.contains("data_offsets"),
            where + "wants dtype, shape and data_offsets");
    const json& offsets = value["data_offsets"];
    require(is_list_of_counts(offsets) && offsets.size() == 2,
            where + "data_offsets are not two counts");
    const auto first = offsets[0].get<std::uint64_t>();
    const auto last = offsets[1].get<std::uint64_t>();
    require(first <= last && last <= data_bytes_,
            where + "bytes " + std::to_string(first) + " to " + std::to_string(last) +
                " are not within the " + std::to_string(data_bytes_) + " bytes of data");

    tensor t{name, element_of(value["dtype"], where), {}, data_.get() + first};
    require(is_list_of_counts(value["shape"]), where + "shape is no list of counts");
    const auto width = static_cast<std::uint64_t>(vattn::size_of(t.type));
    std::uint64_t bytes = width;
    for (const json& extent : value["shape"]) {
      const auto count = extent.get<std::uint64_t>();
      const bool fits = count == 0 || bytes <= max_bytes / count;
      require(fits, where + "shape is too large for any file");
      bytes *= count;
      t.shape.push_back(static_cast<std::int64_t>(count));
    }
    require(bytes == last - first, where + "shape and dtype want " + std::to_string(bytes) +
                                       " bytes, data_offsets hold " + std::to_string(last - first));
    require(first % width == 0, where + "data are not aligned to their elements");
    ranges_.push_back({first, last, tensors_.size()});
    tensors_.push_back(std::move(t));
  }

  static bool is_list_of_counts(const json& value) {
    return value.is_array() && std::all_of(value.begin(), value.end(), [](const json& count) {
             return count.is_number_unsigned() && count.get<std::uint64_t>() <= max_bytes;
           });
  }

  vattn::element element_of(const json& dtype, const std::string& where) const {
    if (dtype == "F32") return vattn::element::f32;
    if (dtype == "BF16") return vattn::element::bf16;
    require(dtype == "F16", where + "want dtype F32, BF16 or F16, got " +
                                (dtype.is_string() ? one_line(dtype.get<std::string>())
                                                   : "something that is no text"));
    return vattn::element::f16;
  }

  /// Tensors in the order of their data cover it once.
  void check_coverage() {
    std::sort(ranges_.begin(), ranges_.end());
    std::vector<tensor> ordered;
    std::uint64_t end = 0;
    for (const range& r : ranges_) {
      const std::string name = "tensor '" + one_line(tensors_[r.tensor].name) + "'";
      require(r.first >= end, name + " overlaps the one before it");
      require(r.first == end,
              std::to_string(r.first - end) + " bytes before " + name + " belong to no tensor");
      end = r.last;
      ordered.push_back(std::move(tensors_[r.tensor]));
    }
    require(end == data_bytes_,
            std::to_string(data_bytes_ - end) + " bytes after the last tensor belong to none");
    tensors_ = std::move(ordered);
  }

  struct range {
    std::uint64_t first, last;
    std::size_t tensor;
    auto operator<=>(const range&) const = default;
  };
  static constexpr std::uint64_t max_bytes = std::numeric_limits<std::int64_t>::max();

  std::filesystem::path path_;
  std::unique_ptr<std::byte[]> data_;
  std::uint64_t data_bytes_ = 0;
  std::vector<tensor> tensors_;
  std::vector<range> ranges_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace vattn_examples
