#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/vectors.hpp: the paper's and the authors' formulas in double precision.

    python3 tests/golden/make_vectors.py > tests/golden/vectors.hpp

Nothing here is shared with the library: other language, other random numbers (a linear congruential
generator of its own, so that the file does not depend on a version of numpy), textbook formulas.

The paper (arXiv 2510.05688). The population is the residual: rows outside sinks, window and top-k, n_s
of them. A base sample of b0 residual rows without replacement gives sigma (divisor b0 - 1), the trace
of the covariance of w v, and D^ = D_exact + n_s / b0 sum w, N^ alike. Lemma 4.1, two-sided:
    b_D = (z(delta / 2) n_s sigma / (epsilon D^))^2
Theorem 4.3: the least b for which some split of delta (here the library's 63 equal steps) has
2 (e1 + e2) <= epsilon and e2 < 1 / 2, where e1 = z(delta1 / 2) n_s sqrt(Tr) / (sqrt(b) ||N^||) and
e2 = z(delta2 / 2) n_s sigma / (sqrt(b) D^).

The authors' code (sparse-attention-hub at 1a048c9, research_attention/maskers/sampling/
implementations/adaptive_sampling.py and utils/mask_attention_utils.py) differs:
  - the range [sinks, n - window) contains the top-k: R > n_s;
  - the base sample is drawn with replacement; in the mask duplicates collapse, with p0 = b0 / R, and a
    row that is also in the top-k counts twice in D^;
  - z(delta) is one-sided; b = floor of (z sigma R / max(epsilon D^, 1e-8))^2 clamped to [1, R], then to
    [b0, R]; sigma is at least 1e-8;
  - b fresh rows with replacement, duplicates collapsed, weight R / b; the base sample is thrown away;
    masks add up, clamped to 1; the estimate weighs a row by 1 / (m + 1e-6).
"""

import statistics

import numpy as np

D_V = 4
NORMAL = statistics.NormalDist()


class Stream:
    """Numerical Recipes' 64-bit congruential generator, upper bits."""

    def __init__(self, seed):
        self.state = seed * 2862933555777941757 + 3037000493

    def below(self, bound):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) * bound >> 31

    def distinct(self, rows, count):
        rows = list(rows)
        for i in range(count):
            j = i + self.below(len(rows) - i)
            rows[i], rows[j] = rows[j], rows[i]
        return sorted(rows[:count])


def paper(case, w, v, exact, rest):
    base = case["stream"].distinct(rest, case["base"])
    n_s, b0 = len(rest), len(base)
    y = w[base, None] * v[base]
    d = w[exact].sum() + n_s / b0 * w[base].sum()
    n = (w[exact, None] * v[exact]).sum(axis=0) + n_s / b0 * y.sum(axis=0)
    sigma = w[base].std(ddof=1)
    trace = y.var(axis=0, ddof=1).sum()
    z = NORMAL.inv_cdf(1 - case["delta"] / 2)
    b_d = (z * n_s * sigma / (case["epsilon"] * d)) ** 2
    b_joint = np.inf
    for i in range(1, 64):
        z1 = NORMAL.inv_cdf(1 - case["delta"] * (i / 64) / 2)
        z2 = NORMAL.inv_cdf(1 - case["delta"] * (1 - i / 64) / 2)
        r1 = z1 * n_s * np.sqrt(trace) / np.linalg.norm(n)
        r2 = z2 * n_s * sigma / d
        b_joint = min(b_joint, max((2 * (r1 + r2) / case["epsilon"]) ** 2, (2 * r2) ** 2))
    return dict(base_rows=base, denominator=d, numerator=n, sigma=sigma, trace=trace,
                budget_denominator=b_d, budget_joint=b_joint)


def authors(case, w, v, exact):
    first, last = case["sinks"], case["n"] - case["window"]
    r = last - first
    draws = [first + case["stream"].below(r) for _ in range(case["base"])]
    sigma = max(w[draws].std(ddof=1), 1e-8)
    p0 = len(draws) / r
    d_hat = w[exact].sum() + sum(w[i] / p0 for i in set(draws))
    z = NORMAL.inv_cdf(1 - case["delta"])
    b = (z * sigma * r / max(case["epsilon"] * d_hat, 1e-8)) ** 2
    b = int(min(max(b, 1), r))
    b = min(max(b, len(draws)), r)
    dynamic = [first + case["stream"].below(r) for _ in range(b)]
    mask = np.zeros(case["n"])
    mask[exact] = 1.0
    for i in set(dynamic):
        mask[i] = min(1.0, mask[i] + b / r)
    on = mask != 0
    weight = w[on] / (mask[on] + 1e-6)
    return dict(authors_draws=draws, authors_sigma=sigma, authors_d_hat=d_hat, authors_budget=b,
                authors_dynamic=dynamic, authors_denominator=weight.sum(),
                authors_numerator=(weight[:, None] * v[on]).sum(axis=0))


def make(seed, n, sinks, window, top, base, epsilon, delta, spread, mean):
    """Logits are multiples of 1/64 and values of 1/8, so they are exact as float."""
    case = dict(n=n, sinks=sinks, window=window, base=base, epsilon=epsilon, delta=delta,
                stream=Stream(seed))
    draw = case["stream"]
    l_64 = np.array([spread * (sum(draw.below(129) - 64 for _ in range(4)) // 4) for _ in range(n)])
    v_8 = np.array([[mean + draw.below(33) - 16 for _ in range(D_V)] for _ in range(n)])
    logits, values = l_64 / 64, v_8 / 8
    middle = range(sinks, n - window)
    heavy = sorted(middle, key=lambda i: (-logits[i], i))[:top]
    exact = sorted([*range(sinks), *heavy, *range(n - window, n)])
    rest = [i for i in middle if i not in set(heavy)]
    w = np.exp(logits - logits.max())
    case.update(logits_64=l_64, values_8=v_8.ravel(), exact=exact)
    case.update(paper(case, w, values, exact, rest))
    case.update(authors(case, w, values, exact))
    del case["stream"]
    return case


CASES = [
    make(1, n=160, sinks=4, window=8, top=6, base=8, epsilon=0.1, delta=0.1, spread=1, mean=4),
    make(2, n=200, sinks=8, window=16, top=0, base=12, epsilon=0.05, delta=0.05, spread=2, mean=2),
    make(3, n=240, sinks=0, window=4, top=20, base=6, epsilon=0.1, delta=0.2, spread=3, mean=8),
    make(4, n=180, sinks=10, window=0, top=7, base=5, epsilon=0.3, delta=0.01, spread=1, mean=1),
    make(5, n=220, sinks=4, window=4, top=2, base=60, epsilon=0.02, delta=0.3, spread=2, mean=0),
    make(6, n=240, sinks=2, window=2, top=40, base=10, epsilon=0.1, delta=0.1, spread=1, mean=60),
    make(7, n=240, sinks=60, window=60, top=20, base=8, epsilon=0.2, delta=0.2, spread=2, mean=90),
]

FIELDS = [("index_t", name) for name in ("n", "sinks", "window")] + [
    ("double", "epsilon"), ("double", "delta"),
    ("std::vector<int>", "logits_64"), ("std::vector<int>", "values_8"),
    ("std::vector<row_t>", "exact"),
    ("std::vector<row_t>", "base_rows"), ("double", "denominator"),
    ("std::vector<double>", "numerator"), ("double", "sigma"), ("double", "trace"),
    ("double", "budget_denominator"), ("double", "budget_joint"),
    ("std::vector<row_t>", "authors_draws"), ("double", "authors_sigma"),
    ("double", "authors_d_hat"), ("index_t", "authors_budget"),
    ("std::vector<row_t>", "authors_dynamic"), ("double", "authors_denominator"),
    ("std::vector<double>", "authors_numerator"),
]


def literal(kind, x):
    if "vector" not in kind:
        return repr(int(x)) if kind == "index_t" else repr(float(x))
    if "double" not in kind:
        parts = [str(int(y)) for y in x]
    else:
        parts = [repr(float(y)) for y in x]
    lines, line = [], ""
    for part in parts:
        if len(line) + len(part) > 88:
            lines.append(line.rstrip())
            line = ""
        line += part + ", "
    return "{\n        " + "\n        ".join([*lines, line.rstrip(", ")]) + "}"


def main():
    print("// SPDX-License-Identifier: Apache-2.0\n/// @file\n"
          "/// Generated by make_vectors.py, which says what the numbers are. Do not edit.\n"
          "// clang-format off\n"
          "#pragma once\n\n#include <vector>\n\n#include \"vattention/core/kv_view.hpp\"\n\n"
          "namespace vattn::test {\n\nstruct golden_case {")
    for kind, name in FIELDS:
        print(f"  {kind} {name};")
    print("};\n\ninline std::vector<golden_case> golden_cases() {\n  return {")
    for case in CASES:
        print("    {")
        for kind, name in FIELDS:
            print(f"      .{name} = {literal(kind, case[name])},")
        print("    },")
    print("  };\n}\n\n}  // namespace vattn::test\n// clang-format on")


if __name__ == "__main__":
    main()
