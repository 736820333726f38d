// expect: vattention: dynamic_sampling: want one that follows what the base sampling follows
// SPDX-License-Identifier: Apache-2.0
#include "vattention/vattention.hpp"

using namespace vattn;
struct independent {
  using role = vattn::role::base_sampling;
  static constexpr design scheme = design::independent;
  index_t size(index_t population) const noexcept { return population; }
  template <class Drawing>
  void draw(const Drawing&) const noexcept {}
};
const vattention functor(top_k::cascade(), independent(), dynamic_sampling::proportional(),
                         budget::output(epsilon{0.1}, delta{0.1}));
