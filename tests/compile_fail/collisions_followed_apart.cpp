// expect: vattention: dynamic_sampling: want one that follows what the base sampling follows
// SPDX-License-Identifier: Apache-2.0
#include "vattention/base_sampling/lsh.hpp"
#include "vattention/top_k/lsh.hpp"
#include "vattention/vattention.hpp"

using namespace vattn;
struct independent {
  using role = vattn::role::dynamic_sampling;
  static constexpr design scheme = design::independent;
  template <class Drawing>
  void grow(const Drawing&, std::span<const index_t>) const noexcept {}
  template <class Drawing>
  index_t size(const Drawing&, int) const noexcept {
    return 0;
  }
  template <class Drawing>
  double variance_at(const Drawing&, int, const contributions&, index_t,
                     correction) const noexcept {
    return 0.0;
  }
  template <class Drawing>
  double resolution(const Drawing&, int) const noexcept {
    return 0.0;
  }
};
const vattention functor(top_k::lsh(), base_sampling::lsh(), independent(),
                         budget::output(epsilon{0.1}, delta{0.1}));
