// SPDX-License-Identifier: Apache-2.0
/// @file
/// A file in the temporary folder that goes with its scope.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace vattn::test {

class scratch_file {
public:
  /// `name` tells the files of a test program apart.
  scratch_file(const std::string& name, const std::string& bytes)
      : path_(std::filesystem::temp_directory_path() /
              ("vattention_" + name + "_" + std::to_string(::getpid()) + ".safetensors")) {
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ~scratch_file() { std::filesystem::remove(path_); }
  scratch_file(const scratch_file&) = delete;
  scratch_file& operator=(const scratch_file&) = delete;
  const std::filesystem::path& path() const { return path_; }

private:
  std::filesystem::path path_;
};

}  // namespace vattn::test
