// SPDX-License-Identifier: Apache-2.0
/// @file
/// Memory on pages of a size that is asked for.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace vattn_bench {

/// Uninitialised bytes on pages of 4 KB, or of 2 MB where the kernel grants them.
class page_store {
public:
  page_store() = default;
  /// @throws std::bad_alloc
  page_store(std::size_t bytes, bool huge_pages) : size_(bytes) {
    constexpr std::size_t page = std::size_t{2} << 20U;
    const std::size_t whole = (bytes + page - 1) / page * page;
    data_.reset(static_cast<std::byte*>(std::aligned_alloc(page, whole)));
    if (data_ == nullptr) throw std::bad_alloc();
    madvise(data_.get(), whole, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  }
  std::byte* data() noexcept { return data_.get(); }
  const std::byte* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }
  template <class T>
  T* as() noexcept {
    return reinterpret_cast<T*>(data_.get());
  }
  template <class T>
  const T* as() const noexcept {
    return reinterpret_cast<const T*>(data_.get());
  }

private:
  struct release {
    void operator()(std::byte* p) const noexcept { std::free(p); }
  };
  std::unique_ptr<std::byte, release> data_;
  std::size_t size_ = 0;
};

}  // namespace vattn_bench
