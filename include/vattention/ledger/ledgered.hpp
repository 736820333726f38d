// SPDX-License-Identifier: Apache-2.0
/// @file
/// `ledgered<Functor>`: one delta for all queries of a decode, split evenly, kept account of.
#pragma once

#include <memory>
#include <type_traits>

#include "vattention/attention/attention_functor.hpp"
#include "vattention/attention/partial.hpp"
#include "vattention/ledger/delta_ledger.hpp"

namespace vattn {

/// A functor whose certificates share one delta: each gets total / (layers x query heads x steps),
/// spends it unless it is `exact`, and a call for which too little is left is refused.
///
/// What holds for all certificates together is in `report()`: a proved total where every
/// certificate is proved or exact, else the expected number of violations. Ends: heads and steps
/// are counted, not told apart, so the plan is kept if no query is asked twice; where epsilon is
/// missed (`capped` and the like) what is claimed is the bound that the certificate states.
///
/// Thread-safe with a workspace a thread, no lock; a few atomic additions a call. Shares of calls
/// under way count as spent until they end, so with threads a call near the end may be refused
/// although another turns out exact and returns its share.
template <attention_functor Functor>
class ledgered {
public:
  using index_type = typename Functor::index_type;
  using workspace_type = typename Functor::workspace_type;

  /// `make(asked, delta)` returns the functor for one certificate's share of `total`; what is asked may be an
  /// epsilon in any unit, or a limit.
  /// @throws std::invalid_argument for a plan that is none, or a functor of another delta.
  template <class Asked, class Make>
    requires std::same_as<std::invoke_result_t<Make&, Asked, delta>, Functor>
  ledgered(Asked asked, delta total, const delta_plan& plan, Make make)
      : ledger_(std::make_unique<delta_ledger>(total, plan)),
        functor_(make(asked, delta(ledger_->share()))) {
    require(functor_.budget().delta() == ledger_->share(), "ledgered",
            "a functor built with its share of delta (functor's, share)", functor_.budget().delta(),
            ledger_->share());
  }

  template <cache_view View>
  index_type make_index(const View& kv) const {
    return functor_.make_index(kv);
  }

  /// As the functor's call, which it may throw from; then nothing has been spent.
  /// @throws ledger_exhausted (a std::runtime_error) if fewer shares are left than there are
  /// queries; it says what was spent and planned, and nothing has been changed.
  template <cache_view View>
  result operator()(const query_group& queries, const View& kv, const index_type& index,
                    draw_key key, workspace_type& ws) const {
    auto shares = ledger_->reserve(std::max(queries.heads, 0));
    result got = functor_(queries, kv, index, key, ws);
    shares.settle(got.certificates);
    return got;
  }

  /// The call's parts, for a batch, see `attention_functor`: shares are taken for all of its queries, and
  /// those of exact certificates return call by call.
  /// @throws std::invalid_argument as the call; ledger_exhausted from `admit`.
  template <cache_view View>
  void check(const char* where, const query_group& queries, const View& kv, const index_type& index,
             const draw_key& key) const {
    functor_.check(where, queries, kv, index, key);
  }
  void reserve(const call_shape& shape, workspace_type& ws) const { functor_.reserve(shape, ws); }
  void admit(index_t queries) const {
    auto shares = ledger_->reserve(queries);
    functor_.admit(queries);
    shares.keep();
  }
  template <cache_view View>
  result attend(const query_group& queries, const View& kv, const index_type& index, draw_key key,
                workspace_type& ws) const noexcept {
    result got = functor_.attend(queries, kv, index, key, ws);
    ledger_->settle(got.certificates);
    return got;
  }

  /// The certificate of merged partial results is what is spent on; take the parts from
  /// `functor()`.
  result finish(std::span<partial> heads, workspace_type& ws) const {
    auto shares = ledger_->reserve(static_cast<index_t>(heads.size()));
    result got = functor_.finish(heads, ws);
    shares.settle(got.certificates);
    return got;
  }

  ledger_report report() const noexcept { return ledger_->report(); }

  decltype(auto) budget() const noexcept { return functor_.budget(); }
  decltype(auto) top_k() const noexcept { return functor_.top_k(); }
  decltype(auto) static_indices() const noexcept { return functor_.static_indices(); }
  /// The functor itself: what is called here spends nothing.
  const Functor& functor() const noexcept { return functor_; }

private:
  std::unique_ptr<delta_ledger> ledger_;
  Functor functor_;
};

template <class Asked, class Make>
ledgered(Asked, delta, delta_plan, Make) -> ledgered<std::invoke_result_t<Make&, Asked, delta>>;

}  // namespace vattn
