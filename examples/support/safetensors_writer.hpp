// SPDX-License-Identifier: Apache-2.0
/// @file
/// Writes a safetensors file that `safetensors.hpp` reads: a plan of tensors first, then their values in pieces.
#pragma once

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "safetensors.hpp"

namespace vattn_examples {

/// A tensor that is to be written; name and text in UTF-8.
struct planned_tensor {
  std::string name;
  std::vector<std::int64_t> shape;
};

/// Everything goes to `<path>.part`, which takes the name `path` when all is there: whatever goes wrong before, a
/// file of that name stays as it was, and no part of one is left. Holds one piece of values in memory.
/// Source: github.com/huggingface/safetensors, README, "Format".
class safetensors_writer {
public:
  /// @throws std::runtime_error `<path>: <what is wrong>`, one line, as all that is said here, if it cannot be written.
  explicit safetensors_writer(std::filesystem::path path)
      : path_(std::move(path)), part_(path_.string() + ".part") {
    require(!std::filesystem::is_directory(path_), "is a folder");
    file_.open(part_, std::ios::binary | std::ios::trunc);
    require(file_.is_open(), "cannot be written");
  }
  ~safetensors_writer() {
    if (!file_.is_open()) return;
    file_.close();
    std::error_code ignored;
    std::filesystem::remove(part_, ignored);
  }
  safetensors_writer(const safetensors_writer&) = delete;
  safetensors_writer& operator=(const safetensors_writer&) = delete;

  /// Once, before all values: the tensors in the order of their values, all of one type, and the metadata. In texts
  /// that are no UTF-8 the wrong bytes become U+FFFD.
  /// @throws std::runtime_error for a type with blocks, a name that stands twice or is the metadata's, extents below 0
  /// or too many values.
  void begin(vattn::element type, std::vector<planned_tensor> tensors,
             const std::map<std::string, std::string>& metadata) {
    require(tensors_.empty() && type_ == no_type, "begun twice");
    require(vattn::size_of(type) > 0, std::string("want f32, bf16 or f16, got ") + to_string(type));
    type_ = type;
    tensors_ = std::move(tensors);
    nlohmann::json header = {{"__metadata__", metadata}};
    std::int64_t end = 0;
    for (const planned_tensor& t : tensors_) {
      require(!header.contains(t.name), "tensor '" + one_line(t.name) + "' stands there twice");
      const std::int64_t first = end;
      end += values_of(t, (most_bytes - end) / vattn::size_of(type)) * vattn::size_of(type);
      header[t.name] = {
          {"dtype", name_of(type)}, {"shape", t.shape}, {"data_offsets", {first, end}}};
    }
    using error_handler = nlohmann::json::error_handler_t;
    std::string text = header.dump(-1, ' ', false, error_handler::replace);
    text.append((8 - text.size() % 8) % 8, ' ');  // the format wants the data aligned to 8 bytes
    std::string length;
    for (int i = 0; i < 8; ++i) length += static_cast<char>(text.size() >> (8 * i) & 0xFF);
    put(length.data(), length.size());
    put(text.data(), text.size());
    left_ = tensors_.empty() ? 0 : values_of(tensors_[0], most_bytes);
  }

  /// The next values of the first tensor that is not full; none for the one after it. Rounded to nearest even.
  /// @throws std::runtime_error if there are more than the shape says, if a finite one is beyond the type, or if the
  /// disk is full.
  void add(std::span<const float> values) {
    if (values.empty()) return;
    skip_full();
    require(at_ < tensors_.size(), "more values than its tensors hold");
    const std::string where = "tensor '" + one_line(tensors_[at_].name) + "': ";
    require(std::cmp_less_equal(values.size(), left_), where + "more values than its shape says");
    switch (type_) {
      case vattn::element::f32: put(values.data(), values.size_bytes()); break;
      case vattn::element::bf16: put_as<Eigen::bfloat16>(values, where); break;
      case vattn::element::f16: put_as<Eigen::half>(values, where); break;
      case vattn::element::q8_0: break;  // refused by begin()
    }
    left_ -= static_cast<std::int64_t>(values.size());
  }

  /// Gives the file its name. Nothing may be called afterwards.
  /// @throws std::runtime_error if values are missing or the disk is full.
  void commit() {
    require(type_ != no_type, "nothing was written");
    skip_full();
    if (at_ < tensors_.size())
      require(false, "tensor '" + one_line(tensors_[at_].name) + "' lacks " +
                         std::to_string(left_) + " of its values");
    file_.flush();
    require(file_.good(), "cannot be written to its end");
    std::error_code error;
    std::filesystem::rename(part_, path_, error);
    require(!error, "cannot take its name (" + error.message() + ")");
    file_.close();
  }

private:
  static constexpr std::int64_t most_bytes = std::numeric_limits<std::int64_t>::max();
  static constexpr auto no_type = vattn::element::q8_0;

  void require(bool holds, const std::string& reason) const {
    if (!holds) throw std::runtime_error(path_.string() + ": " + reason);
  }

  static const char* name_of(vattn::element type) noexcept {
    return type == vattn::element::f32 ? "F32" : type == vattn::element::bf16 ? "BF16" : "F16";
  }

  /// At most `most`.
  std::int64_t values_of(const planned_tensor& t, std::int64_t most) const {
    std::int64_t count = 1;
    for (const std::int64_t extent : t.shape) {
      require(extent >= 0, "tensor '" + one_line(t.name) + "': a negative extent");
      require(extent == 0 || count <= most / extent,
              "tensor '" + one_line(t.name) + "': shape is too large for any file");
      count *= extent;
    }
    return count;
  }

  void skip_full() {
    while (at_ < tensors_.size() && left_ == 0)
      if (++at_ < tensors_.size()) left_ = values_of(tensors_[at_], most_bytes);
  }

  template <class T>
  void put_as(std::span<const float> values, const std::string& where) {
    std::vector<T> rounded(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      rounded[i] = static_cast<T>(values[i]);
      if (std::isfinite(values[i]) && !std::isfinite(static_cast<float>(rounded[i])))
        require(false, where + std::to_string(values[i]) + " is beyond " + to_string(type_));
    }
    put(rounded.data(), rounded.size() * sizeof(T));
  }
  void put(const void* bytes, std::size_t count) {
    file_.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(count));
    require(file_.good(), "cannot be written to its end");
  }

  std::filesystem::path path_, part_;
  std::ofstream file_;
  vattn::element type_ = no_type;
  std::vector<planned_tensor> tensors_;
  /// The first tensor that is not full, and its values that are missing.
  std::size_t at_ = 0;
  std::int64_t left_ = 0;
};

}  // namespace vattn_examples
