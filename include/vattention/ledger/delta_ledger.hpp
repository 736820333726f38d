// SPDX-License-Identifier: Apache-2.0
/// @file
/// An account of delta: even shares of a total, spent by certificates, refused when used up.
#pragma once

#include <atomic>
#include <ostream>
#include <span>
#include <sstream>
#include <stdexcept>

#include "vattention/core/certificate.hpp"
#include "vattention/core/guarantee.hpp"

namespace vattn {

/// The queries a total delta is to last for: layers, query heads a layer, decoded tokens.
struct delta_plan {
  index_t layers = 1, query_heads = 1, steps = 1;

  /// Certificates planned: one a layer, query head and step.
  /// @throws std::invalid_argument unless each number is at least 1 and the product below 2^53.
  index_t certificates() const {
    require(layers >= 1 && query_heads >= 1 && steps >= 1, "delta_plan",
            "layers, query heads and steps >= 1", layers, query_heads, steps);
    const double product =
        static_cast<double>(layers) * static_cast<double>(query_heads) * static_cast<double>(steps);
    require(product < 0x1p53, "delta_plan", "fewer than 2^53 certificates", product);
    return layers * query_heads * steps;
  }
};

/// What a ledger holds, as plain numbers.
struct ledger_report {
  /// Delta asked for all certificates together, and each one's share.
  double total = 0.0, share = 0.0;
  /// Shares there are, certificates issued, of these `exact` (which spend nothing), shares spent;
  /// and certificates that do not vouch for the asked epsilon: they state a larger bound, or none.
  index_t planned = 0, issued = 0, exact = 0, spent = 0, not_held = 0;
  /// The weakest grounds of any certificate issued.
  basis weakest = basis::exact;

  /// Sum of the deltas of all certificates that are not exact.
  double spent_delta() const noexcept { return static_cast<double>(spent) * share; }
  /// True if every certificate is proved or exact. Then by the union bound all stated bounds hold
  /// together, but with probability `spent_delta()`.
  bool proved() const noexcept { return weakest <= basis::proved; }
  /// The expected number of certificates whose bound is wrong, if each keeps its own delta: the
  /// same sum, by linearity, however they depend on each other. Where not `proved()` this is all
  /// there is to say, and no better founded than the certificates (`weakest`).
  double expected_violations() const noexcept { return spent_delta(); }
};

/// Thrown when delta is used up; nothing has been changed.
struct ledger_exhausted : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Counts of one delta, atomic: any number of threads reserve and settle without a lock.
class delta_ledger {
public:
  /// Shares held for certificates on their way. They return to the ledger unless `settle`
  /// or `keep` is called.
  class reservation {
  public:
    reservation(delta_ledger& from, index_t shares) noexcept : from_(from), held_(shares) {}
    reservation(const reservation&) = delete;
    reservation& operator=(const reservation&) = delete;
    ~reservation() { from_.spent_.fetch_sub(held_, std::memory_order_relaxed); }

    /// Books the certificates; the shares of exact ones return.
    void settle(std::span<const certificate> issued) noexcept {
      for (const certificate& c : issued) held_ -= from_.book(c) ? 1 : 0;
    }
    /// Leaves the shares taken: `delta_ledger::settle` returns those that are not spent.
    void keep() noexcept { held_ = 0; }

  private:
    delta_ledger& from_;
    index_t held_;
  };

  delta_ledger(delta total, const delta_plan& plan)
      : planned_(plan.certificates()), total_(total.value()) {}

  /// Delta of one certificate.
  double share() const noexcept { return total_ / static_cast<double>(planned_); }

  /// Takes that many shares. @throws ledger_exhausted if fewer are left; then none has been taken.
  reservation reserve(index_t shares) {
    index_t spent = spent_.load(std::memory_order_relaxed);
    do {
      if (shares > planned_ - spent) refuse(shares, spent);
    } while (!spent_.compare_exchange_weak(spent, spent + shares, std::memory_order_relaxed));
    return {*this, shares};
  }
  /// Books certificates whose shares were kept; those of exact ones return.
  void settle(std::span<const certificate> issued) noexcept {
    index_t unspent = 0;
    for (const certificate& c : issued) unspent += book(c) ? 0 : 1;
    spent_.fetch_sub(unspent, std::memory_order_relaxed);
  }

  /// Calls under way count as spent; taken between calls, the numbers agree with each other.
  ledger_report report() const noexcept {
    ledger_report r;
    r.total = total_;
    r.share = share();
    r.planned = planned_;
    r.issued = issued_.load(std::memory_order_relaxed);
    r.exact = exact_.load(std::memory_order_relaxed);
    r.spent = spent_.load(std::memory_order_relaxed);
    r.not_held = not_held_.load(std::memory_order_relaxed);
    r.weakest = weakest_.load(std::memory_order_relaxed);
    return r;
  }

private:
  /// True if the certificate spends its share.
  bool book(const certificate& c) noexcept {
    const bool exact = c.status == status::exact;
    issued_.fetch_add(1, std::memory_order_relaxed);
    if (exact) exact_.fetch_add(1, std::memory_order_relaxed);
    if (!c.holds()) not_held_.fetch_add(1, std::memory_order_relaxed);
    basis weakest = weakest_.load(std::memory_order_relaxed);
    while (c.basis > weakest &&
           !weakest_.compare_exchange_weak(weakest, c.basis, std::memory_order_relaxed)) {
    }
    return !exact;
  }

  [[noreturn]] void refuse(index_t shares, index_t spent) const {
    std::ostringstream message;
    message << "vattention: ledgered: want " << shares << " more shares of delta, got " << spent
            << " of " << planned_ << " planned ones spent (delta " << share() << " each, " << total_
            << " in all; " << issued_.load(std::memory_order_relaxed) << " certificates issued, "
            << exact_.load(std::memory_order_relaxed) << " of them exact)";
    throw ledger_exhausted(message.str());
  }

  index_t planned_;
  double total_;
  std::atomic<index_t> spent_{0}, issued_{0}, exact_{0}, not_held_{0};
  std::atomic<basis> weakest_{basis::exact};
};

/// Two lines that say what may be claimed of all certificates together.
inline std::ostream& operator<<(std::ostream& out, const ledger_report& r) {
  out << "ledger: delta " << r.total << " in " << r.planned << " shares of " << r.share << "; "
      << r.issued << " certificates issued, " << r.exact << " exact, " << r.spent
      << " shares spent; " << r.not_held << " do not vouch for the asked epsilon\n";
  if (r.proved())
    return out << "  all stated bounds hold together, but with probability " << r.spent_delta()
               << " (proved, union bound)\n";
  return out << "  expected number of bounds that do not hold: " << r.expected_violations()
             << " if each keeps its share; no proof, weakest grounds: " << to_string(r.weakest)
             << '\n';
}

}  // namespace vattn
