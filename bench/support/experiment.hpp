// SPDX-License-Identifier: Apache-2.0
/// @file
/// What every experiment on captured heads takes and writes: options, and one CSV file.
#pragma once

#include <CLI/CLI.hpp>

#include <fstream>

#include "rows.hpp"

namespace vattn_bench {

/// The options that all experiments share.
struct experiment_options {
  std::vector<std::filesystem::path> captures = vattn_examples::default_captures();
  std::string csv;
  int positions = 1;
  int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  std::uint64_t seed = 1;
};

/// An option that takes `a,b,c`.
template <class T>
CLI::Option* list_option(CLI::App& app, const char* name, std::vector<T>& values,
                         const char* help) {
  return app.add_option(name, values, help)->delimiter(',')->allow_extra_args(false);
}

inline void declare(CLI::App& app, experiment_options& s) {
  app.add_option("--captures", s.captures, "safetensors files (default: examples/data)");
  app.add_option("--csv", s.csv, "file for the numbers behind the table");
  app.add_option("--positions", s.positions, "every m-th text position, the last one among them")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--threads", s.threads)->check(CLI::Range(1, 1024));
  app.add_option("--seed", s.seed, "first seed");
}

/// A CSV file, or nothing if its path is empty. It is opened before the work, so that a wrong path
/// shows at once.
class csv_file {
public:
  /// @throws std::runtime_error if the file cannot be written.
  csv_file(std::string path, const char* header) : path_(std::move(path)) {
    if (path_.empty()) return;
    file_.open(path_);
    file_.precision(4);
    row(header);
  }
  template <class First, class... Rest>
  void row(const First& first, const Rest&... rest) {
    if (path_.empty()) return;
    file_ << first;
    ((file_ << ',' << rest), ...);
    file_ << '\n';
    if (!file_) throw std::runtime_error(path_ + ": cannot be written");
  }

private:
  std::string path_;
  std::ofstream file_;
};

}  // namespace vattn_bench
