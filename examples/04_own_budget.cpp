// SPDX-License-Identifier: Apache-2.0
// A budget of one's own: doubles the sample until the log-sum-exp is known to a given standard error.
#include <cmath>
#include <cstdio>

#include "support/check.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/vattention.hpp"

using vattn_examples::check;

/// core/concepts.hpp says what each member promises.
class log_sum_exp_within {
public:
  using role = vattn::role::budget;

  explicit log_sum_exp_within(double tolerance) : tolerance_(tolerance) {}

  // To first order the error of log D^ is the relative error of D^.
  double asked() const noexcept { return tolerance_; }
  double delta() const noexcept { return 0.05; }
  vattn::quantity guarantees() const noexcept { return vattn::quantity::denominator; }
  vattn::basis coverage() const noexcept { return vattn::basis::unmeasured; }

  vattn::judgement judge(const vattn::partial_view& state,
                         vattn::workspace& /*ws*/) const noexcept {
    return vattn::bound_denominator(state, vattn::normal_upper_quantile(delta() / 2.0));
  }

  template <vattn::outlook Look>
  vattn::decision next(Look& look) const noexcept {
    bool more = false;
    for (int h = 0; h < look.heads(); ++h) {
      const bool content = end(look.judged(h)) == vattn::status::met;
      more = more || !content;
      look.sizes()[static_cast<std::size_t>(h)] = look.drawn(h) * (content ? 1 : 2);
    }
    return more ? vattn::decision::grow : vattn::decision::stop;
  }

  vattn::status end(const vattn::judgement& judged) const noexcept {
    return judged.enough && judged.epsilon <= tolerance_ ? vattn::status::met
                                                         : vattn::status::not_met;
  }

private:
  double tolerance_;
};
static_assert(vattn::budget_policy<log_sum_exp_within>);

int main() {
  const auto head = vattn::make_head(vattn::head_kind::log_normal, 16384, 64, 64, 2, 4);
  const auto kv = head.view();
  vattn::workspace ws;
  const auto exact = vattn::reference(head.group(), kv);

  double last = 0.0;
  for (const double tolerance : {0.1, 0.05, 0.02}) {
    const vattn::vattention attend(vattn::static_indices::sink_window(32, 64),
                                   vattn::top_k::key_code(4, vattn::fraction(0.02)),
                                   vattn::base_sampling::uniform(vattn::fraction(0.01), 32),
                                   log_sum_exp_within(tolerance),
                                   vattn::dynamic_sampling::uniform());
    const auto r = attend(head.group(), kv, attend.make_index(kv), {.seed = 1}, ws);
    for (int h = 0; h < 2; ++h) {
      const double error =
          std::abs(r.log_sum_exp[static_cast<std::size_t>(h)] - exact.log_sum_exp[h]);
      std::printf("asked %.2f, head %d: log-sum-exp off by %.4f, %.1f %% of the rows\n", tolerance,
                  h, error, 100.0 * r.certificates[0].density());
      check(error <= 1.5 * tolerance, "the log-sum-exp is as near as asked");
    }
    check(r.certificates[0].holds() && r.certificates[1].holds(), "both heads are content");
    check(r.certificates[0].density() >= last, "less tolerance takes more rows");
    last = r.certificates[0].density();
  }
}
