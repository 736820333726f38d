// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a call did, look by look: rows, probabilities, judgements.
#pragma once

#include <ostream>
#include <vector>

#include "vattention/core/certificate.hpp"
#include "vattention/core/draw.hpp"
#include "vattention/core/index_set.hpp"
#include "vattention/core/outlook.hpp"

namespace vattn {

/// A replayed call, see `vattention::explain`. Rows are numbered as in the view.
struct explanation {
  /// A sampled row: when it was drawn, and its final probability of being drawn, in (0, 1].
  struct draw {
    row_t row = 0;
    int look = 0;
    double probability = 0.0;
  };
  /// What a look judged: rows drawn until then, and of each query head the size that its sample counts as
  /// and the bound.
  struct look {
    index_t rows = 0;
    std::vector<index_t> sizes;
    std::vector<judgement> judged;
  };

  /// Rows read for certain: static and predicted ones, ascending; rows that the bias hides are not read.
  std::vector<row_t> exact;
  std::vector<draw> drawn;
  std::vector<look> looks;
  /// One a query head, as the call returned them.
  std::vector<certificate> certificates;

  /// True if the dense kernel answered in the end.
  bool all_read() const noexcept {
    return !certificates.empty() && certificates[0].rows_exact == certificates[0].rows_total;
  }

  /// For the functor: takes in a look of a sample that has so many rows.
  template <outlook Look>
  void add_look(Look& judged_look, index_t rows) {
    look& seen = looks.emplace_back();
    seen.rows = rows;
    for (int h = 0; h < judged_look.heads(); ++h) {
      seen.sizes.push_back(judged_look.drawn(h));
      seen.judged.push_back(judged_look.judged(h));
    }
  }
  template <class Hides>
  void add_rows(const index_set& rows, Hides hides) {
    for (const row_t row : rows.rows())
      if (!hides(row)) exact.push_back(row);
  }
  void add_draw(const sample& rows) {
    std::size_t at = 0;
    for (std::size_t i = 0; i < looks.size(); ++i)
      for (; at < static_cast<std::size_t>(looks[i].rows); ++at)
        drawn.push_back(
            {rows.rows()[at], static_cast<int>(i) + 1, probability(rows.thresholds()[at])});
  }
};

/// A line a look, then a line a head.
inline std::ostream& operator<<(std::ostream& out, const explanation& all) {
  out << all.exact.size() << " rows for certain\n";
  for (std::size_t i = 0; i < all.looks.size(); ++i) {
    const explanation::look& look = all.looks[i];
    out << "look " << i + 1 << ": " << look.rows << " rows drawn; bounds";
    for (const judgement& judged : look.judged)
      out << ' ' << judged.epsilon << (judged.enough ? "" : " (too few uncertain rows)");
    out << '\n';
  }
  if (all.all_read()) out << "everything was read\n";
  for (std::size_t h = 0; h < all.certificates.size(); ++h) {
    const certificate& c = all.certificates[h];
    out << "query " << h << ": " << to_string(c.status) << ", error at most " << c.epsilon << " ("
        << (c.quantity == quantity::output && c.scale != error_scale::output
                ? to_string(c.scale)
                : to_string(c.quantity))
        << ") at delta " << c.delta << ", " << to_string(c.basis) << ", " << 100.0 * c.density()
        << " % of " << c.rows_total << " rows\n";
  }
  return out;
}

}  // namespace vattn
