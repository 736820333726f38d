// SPDX-License-Identifier: Apache-2.0
/// @file
/// A progress bar on stderr, drawn by the `tqdm` command.
#pragma once

#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <unistd.h>

namespace vattn_examples {

/// When to draw: only if stderr is a terminal, or always.
enum class bar { on_terminal, always };

/// Draws nothing, and does no harm, where the command is not installed.
class progress {
public:
  progress(std::size_t total, const char* unit, bar when = bar::on_terminal) {
    if (when == bar::on_terminal && ::isatty(STDERR_FILENO) == 0) return;
    if (std::system("command -v tqdm >/dev/null 2>&1") != 0) return;
    std::signal(SIGPIPE, SIG_IGN);  // the bar may go away before we do
    const std::string command =
        "tqdm --unit=' " + std::string(unit) + "' --total " + std::to_string(total) + " >/dev/null";
    pipe_ = ::popen(command.c_str(), "w");
  }
  ~progress() { finish(); }
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  void step() {
    if (pipe_ != nullptr && (std::fputc('\n', pipe_) == EOF || std::fflush(pipe_) == EOF)) finish();
  }
  /// Waits until the bar has been drawn to its end.
  void finish() {
    if (pipe_ != nullptr) ::pclose(pipe_);
    pipe_ = nullptr;
  }

private:
  std::FILE* pipe_ = nullptr;
};

}  // namespace vattn_examples
