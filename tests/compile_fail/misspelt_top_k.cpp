// expect: vattention: top_k: want index_type, scores_rows, make_index, and const noexcept predict
// SPDX-License-Identifier: Apache-2.0
#include "vattention/vattention.hpp"

using namespace vattn;
struct my_top_k {
  using role = vattn::role::top_k;
  using index_type = top_k::no_index;
  static constexpr bool scores_rows = true;
  index_type make_index(index_t) const { return {}; }
  template <cache_view View>
  void predicts(const attention_call<View>&, const index_type&, predictions&,
                workspace&) const noexcept {}
  template <cache_view View>
  void select(const attention_call<View>&, const predictions&, workspace&) const noexcept {}
  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>&) const noexcept {
    return 0;
  }
  basis coverage() const noexcept { return basis::unmeasured; }
};
const vattention functor(my_top_k(), base_sampling::uniform(rows(64)), dynamic_sampling::uniform(),
                         budget::fixed(rows(64)));
