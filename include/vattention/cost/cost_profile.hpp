// SPDX-License-Identifier: Apache-2.0
/// @file
/// What the parts of a call cost on one machine: a few constants.
#pragma once

#include <array>
#include <cmath>
#include <string>

#include "vattention/core/errors.hpp"

namespace vattn {

/// Prices in nanoseconds of one thread, with caches in memory rather than in the processor's cache. Only their
/// ratios decide anything. A plain aggregate: store it as you like. Head counts: g + 1 stands for work of which
/// a part is done once for the group and a part for each query.
///
/// The defaults were measured on one core of an AMD EPYC of the Zen 5 generation, with the best kernels.
/// `bash bench/run.sh cost` prints those of another machine, `calibrate()` measures them in a program.
struct cost_profile {
  // dense attention
  double dense_byte = 0.030;      ///< a byte of keys and values
  double dense_product = 0.0047;  ///< a coordinate of a key or a value, for each query
  double dense_row = 0.65;        ///< a row, for each query

  // a sparse call
  double call = 11000.0;        ///< what does not depend on any size
  double scanned_byte = 0.047;  ///< a byte of the predictor's index that is scanned
  double key = 0.31;            ///< a key that a pass of the sampler looks at, times g + 1
  double bound = 29.0;          ///< a logit that is bounded, of a key and a query
  double record = 5.5;          ///< a refined record, times g + 1
  double row_byte = 0.075;      ///< a byte of the keys and values that are read
  double drawn_row = 7.4;       ///< a drawn row that a look sums, for each query
  double look = 3200.0;         ///< a look at the sample, for each query
  double look_value = 43.0;     ///< and for each coordinate of its values

  bool operator==(const cost_profile&) const = default;
};

/// Counts of what a call does, each in the unit of the price of the same name.
struct call_work {
  double dense_byte = 0.0, dense_product = 0.0, dense_row = 0.0;
  double call = 0.0, scanned_byte = 0.0, key = 0.0, bound = 0.0, record = 0.0, row_byte = 0.0,
         drawn_row = 0.0, look = 0.0, look_value = 0.0;
};

/// A price, its name, and how often it is paid.
struct cost_item {
  const char* name;
  double cost_profile::*price;
  double call_work::*count;
};

/// All of them, in the order of their declaration; the first `dense_items` are those of dense attention.
inline constexpr std::size_t dense_items = 3;
inline constexpr std::array<cost_item, 12> cost_items{{
    {"dense_byte", &cost_profile::dense_byte, &call_work::dense_byte},
    {"dense_product", &cost_profile::dense_product, &call_work::dense_product},
    {"dense_row", &cost_profile::dense_row, &call_work::dense_row},
    {"call", &cost_profile::call, &call_work::call},
    {"scanned_byte", &cost_profile::scanned_byte, &call_work::scanned_byte},
    {"key", &cost_profile::key, &call_work::key},
    {"bound", &cost_profile::bound, &call_work::bound},
    {"record", &cost_profile::record, &call_work::record},
    {"row_byte", &cost_profile::row_byte, &call_work::row_byte},
    {"drawn_row", &cost_profile::drawn_row, &call_work::drawn_row},
    {"look", &cost_profile::look, &call_work::look},
    {"look_value", &cost_profile::look_value, &call_work::look_value},
}};

/// Nanoseconds that the work takes.
inline double time_of(const call_work& work, const cost_profile& prices) noexcept {
  double sum = 0.0;
  for (const cost_item& item : cost_items) sum += work.*item.count * prices.*item.price;
  return sum;
}

/// @throws std::invalid_argument naming `where` and a price that is not positive and finite.
inline void require_prices(const char* where, const cost_profile& prices) {
  for (const cost_item& item : cost_items) {
    const double price = prices.*item.price;
    const std::string want = std::string("a positive finite ") + item.name + " [ns]";
    require(price > 0.0 && std::isfinite(price), where, want.c_str(), price);
  }
}

}  // namespace vattn
