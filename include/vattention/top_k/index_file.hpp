// SPDX-License-Identifier: Apache-2.0
/// @file
/// Indices in files.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <istream>
#include <ostream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "vattention/core/concepts.hpp"

namespace vattn {

namespace detail {

inline constexpr char index_magic[8] = {'v', 'a', 't', 't', 'n', 'i', 'd', 'x'};
inline constexpr std::uint32_t index_version = 1;

/// FNV-1a, 64 bits.
inline std::uint64_t checksum_of(const std::string& bytes) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const char byte : bytes)
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x00000100000001B3U;
  return hash;
}

[[noreturn]] inline void refuse_index(const std::string& why) {
  throw std::runtime_error("vattention: load_index: " + why);
}

template <class T>
concept plain_number = std::is_arithmetic_v<T> && !std::is_same_v<T, bool> && sizeof(T) <= 8;

/// Appends numbers to a string, little-endian.
class index_writer {
public:
  /// A number that an index is made with: another one is another kind of index.
  void same(const char* /*name*/, std::int64_t number) { put(number); }
  template <plain_number T>
  void number(T& x) {
    put(x);
  }
  template <plain_number T>
  void numbers(std::vector<T>& all, index_t count) {
    put(static_cast<std::uint64_t>(count));
    for (index_t i = 0; i < count; ++i) put(all[static_cast<std::size_t>(i)]);
  }
  /// As many as there are: rows below `rows`, ascending.
  void ascending(std::vector<row_t>& all, index_t /*rows*/) {
    numbers(all, static_cast<index_t>(all.size()));
  }
  const std::string& bytes() const noexcept { return bytes_; }

private:
  template <plain_number T>
  void put(T x) {
    char raw[sizeof(T)];
    std::memcpy(raw, &x, sizeof x);
    if constexpr (std::endian::native == std::endian::big) std::reverse(raw, raw + sizeof raw);
    bytes_.append(raw, sizeof raw);
  }

  std::string bytes_;
};

/// Reads them back; what an index writes it reads by the same calls.
class index_reader {
public:
  explicit index_reader(const std::string& bytes) noexcept : bytes_(bytes) {}

  void same(const char* name, std::int64_t number) {
    const auto had = get<std::int64_t>();
    if (had != number)
      refuse_index("an index of " + std::string(name) + " " + std::to_string(had) + ", not " +
                   std::to_string(number));
  }
  template <plain_number T>
  void number(T& x) {
    x = get<T>();
  }
  template <plain_number T>
  void numbers(std::vector<T>& all, index_t count) {
    const auto had = get<std::uint64_t>();
    if (had != static_cast<std::uint64_t>(count)) refuse_index("damaged: a list of another length");
    read(all, had);
  }
  void ascending(std::vector<row_t>& all, index_t rows) {
    read(all, get<std::uint64_t>());
    for (std::size_t i = 0; i < all.size(); ++i)
      if (static_cast<index_t>(all[i]) >= rows || (i > 0 && all[i] <= all[i - 1]))
        refuse_index("damaged: rows that are not in order");
  }
  bool at_end() const noexcept { return at_ == bytes_.size(); }

private:
  template <plain_number T>
  void read(std::vector<T>& all, std::uint64_t count) {
    if (count > (bytes_.size() - at_) / sizeof(T)) refuse_index("damaged: a list beyond the end");
    all.resize(static_cast<std::size_t>(count));
    for (T& x : all) x = get<T>();
  }
  template <plain_number T>
  T get() {
    if (bytes_.size() - at_ < sizeof(T)) refuse_index("damaged: it ends too early");
    char raw[sizeof(T)];
    std::memcpy(raw, bytes_.data() + at_, sizeof raw);
    if constexpr (std::endian::native == std::endian::big) std::reverse(raw, raw + sizeof raw);
    at_ += sizeof raw;
    T x;
    std::memcpy(&x, raw, sizeof x);
    return x;
  }

  const std::string& bytes_;
  std::size_t at_ = 0;
};

/// At most `size` bytes of a stream, in pieces: a damaged size must not ask for all memory.
inline std::string read_bytes(std::istream& in, std::uint64_t size) {
  constexpr std::uint64_t piece = 1U << 20U;
  std::string bytes;
  while (bytes.size() < size && in) {
    const auto had = bytes.size();
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(piece, size - had));
    bytes.resize(had + wanted);
    in.read(bytes.data() + had, static_cast<std::streamsize>(wanted));
    bytes.resize(had + static_cast<std::size_t>(in.gcount()));
  }
  return bytes;
}

}  // namespace detail

/// An index that can be written to a file and read back.
///   kind              its name in a file
///   exchange(file)    passes all that it keeps to `file`, which writes or reads it: what it is made with to
///                     `same(name, number)`, the rest to `number`, `numbers(list, count)` and `ascending(rows, below)`
template <class I>
concept stored_index = key_index<I> && requires(I& index, detail::index_writer& out) {
  { I::kind } -> std::convertible_to<const char*>;
  index.exchange(out);
};

/// Writes an index: magic, version, kind, size, numbers (little-endian), FNV-1a checksum of all of it.
/// @throws std::runtime_error if the stream does not take it.
template <stored_index Index>
void save_index(const Index& index, std::ostream& out) {
  detail::index_writer head, body, end;
  Index all = index;
  all.exchange(body);
  const std::string kind = Index::kind;
  std::string bytes(detail::index_magic, sizeof detail::index_magic);
  std::uint32_t version = detail::index_version;
  auto letters = static_cast<std::uint32_t>(kind.size());
  auto size = static_cast<std::uint64_t>(body.bytes().size());
  head.number(version);
  head.number(letters);
  head.number(size);
  bytes += head.bytes() + kind + body.bytes();
  std::uint64_t checksum = detail::checksum_of(bytes);
  end.number(checksum);
  bytes += end.bytes();
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!out) throw std::runtime_error("vattention: save_index: the stream does not take it");
}

/// Reads what `save_index` wrote into an index made with the same numbers (bits, dimension, ...).
/// @throws std::runtime_error that says why not: no index file, another version, kind or number, cut short, or
/// damaged; the index is as it was then.
template <stored_index Index>
void load_index(Index& index, std::istream& in) {
  constexpr std::size_t head_size = sizeof detail::index_magic + 16;
  std::string bytes = detail::read_bytes(in, head_size);
  if (bytes.size() < head_size ||
      std::memcmp(bytes.data(), detail::index_magic, sizeof detail::index_magic) != 0)
    detail::refuse_index("no index file");
  std::uint32_t version = 0, letters = 0;
  std::uint64_t size = 0, checksum = 0;
  const std::string numbers = bytes.substr(sizeof detail::index_magic);
  detail::index_reader head(numbers);
  head.number(version);
  head.number(letters);
  head.number(size);
  if (version != detail::index_version)
    detail::refuse_index("a file of version " + std::to_string(version) + ", not " +
                         std::to_string(detail::index_version));
  const std::string kind = detail::read_bytes(in, std::min<std::uint32_t>(letters, 64));
  if (kind != Index::kind)
    detail::refuse_index("an index of kind '" + kind + "', not '" + Index::kind + "'");
  const std::string body = detail::read_bytes(in, size);
  const std::string end = detail::read_bytes(in, 8);
  if (body.size() < size || end.size() < 8) detail::refuse_index("the file is cut short");
  detail::index_reader(end).number(checksum);
  bytes += kind + body;
  if (checksum != detail::checksum_of(bytes))
    detail::refuse_index("damaged: its checksum is wrong");
  detail::index_reader reader(body);
  Index loaded = index;
  loaded.exchange(reader);
  if (!reader.at_end()) detail::refuse_index("damaged: it has more than the index");
  index = std::move(loaded);
}

}  // namespace vattn
