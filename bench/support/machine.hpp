// SPDX-License-Identifier: Apache-2.0
/// @file
/// What this machine is: processor, cores, caches, memory. Linux; elsewhere what the standard library knows.
#pragma once

#include <unistd.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "vattention/kernels/kernels.hpp"

namespace vattn_bench {

/// Caches of one kind: `size` bytes each, `count` of them on the machine.
struct cache_level {
  int level = 0;
  std::string type;
  std::int64_t size = 0, count = 0;
};

namespace detail {

inline std::string line_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

/// `32K`, `105M` or plain bytes.
inline std::int64_t bytes_of(const std::string& size) {
  if (size.empty()) return 0;
  const std::int64_t number = std::strtoll(size.c_str(), nullptr, 10);
  const char unit = size.back();
  return number << (unit == 'K' ? 10 : unit == 'M' ? 20 : unit == 'G' ? 30 : 0);
}

/// The value of a `key : value` line of a file of /proc, empty if there is none.
inline std::string proc_value(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);)
    if (line.rfind(key, 0) == 0) {
      const std::size_t from = line.find_first_not_of(" \t", line.find(':') + 1);
      return from == std::string::npos ? "" : line.substr(from);
    }
  return "";
}

}  // namespace detail

/// Data and unified caches as sysfs lists them, smallest level first; empty where it lists none.
inline std::vector<cache_level> cache_levels() {
  namespace fs = std::filesystem;
  std::vector<cache_level> levels;
  std::set<std::string> seen;  // an instance is told by its level, type and the cores that share it
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  for (unsigned core = 0; core < cores; ++core)
    for (int index = 0; index < 8; ++index) {
      const fs::path at = "/sys/devices/system/cpu/cpu" + std::to_string(core) + "/cache/index" +
                          std::to_string(index);
      const std::string type = detail::line_of(at / "type");
      if (type.empty() || type == "Instruction") continue;
      const int level = std::atoi(detail::line_of(at / "level").c_str());
      const std::int64_t size = detail::bytes_of(detail::line_of(at / "size"));
      const std::string name = std::to_string(level) + type;
      if (!seen.insert(name + detail::line_of(at / "shared_cpu_list")).second) continue;
      auto known = levels.begin();
      while (known != levels.end() && (known->level != level || known->type != type)) ++known;
      if (known == levels.end()) known = levels.insert(levels.end(), {level, type, size, 0});
      ++known->count;
    }
  return levels;
}

/// Bytes of all caches of the last level together, from sysfs or sysconf; 32 MB where neither tells.
inline std::int64_t last_level_bytes() {
  std::int64_t bytes = 0;
  int last = 0;
  for (const cache_level& c : cache_levels())
    if (c.level >= last) {
      last = c.level;
      bytes = c.size * c.count;
    }
#ifdef _SC_LEVEL3_CACHE_SIZE
  if (bytes <= 0) bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (bytes <= 0) bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
  return bytes > 0 ? bytes : std::int64_t{32} << 20U;
}

/// Memory that may be asked for; 4 GB where /proc does not tell.
inline std::int64_t available_bytes() {
  const std::int64_t kilobytes =
      std::strtoll(detail::proc_value("/proc/meminfo", "MemAvailable").c_str(), nullptr, 10);
  return kilobytes > 0 ? kilobytes << 10U : std::int64_t{4} << 30U;
}

inline std::string cpu_model() {
  for (const char* key : {"model name", "Model", "CPU part"}) {
    const std::string name = detail::proc_value("/proc/cpuinfo", key);
    if (!name.empty()) return name;
  }
  return "unknown";
}

inline const char* compiler_name() {
#ifdef __clang__
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

inline nlohmann::ordered_json describe_machine() {
  nlohmann::ordered_json caches = nlohmann::ordered_json::array();
  for (const cache_level& c : cache_levels())
    caches.push_back({{"level", c.level}, {"type", c.type}, {"bytes", c.size}, {"count", c.count}});
  const auto of_cpu = [](const char* key) { return detail::proc_value("/proc/cpuinfo", key); };
  return {{"cpu", cpu_model()},
          {"cpu_family", of_cpu("cpu family")},
          {"cpu_model", of_cpu("model\t")},
          {"cores", std::thread::hardware_concurrency()},
          {"caches", caches},
          {"memory_available_bytes", available_bytes()},
          {"compiler", compiler_name()},
          {"kernels", vattn::kernels::active().name}};
}

}  // namespace vattn_bench
