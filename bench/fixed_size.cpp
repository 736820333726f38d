// SPDX-License-Identifier: Apache-2.0
// Are the estimates unbiased at a fixed size, and does everything end in the dense result as epsilon
// goes to 0? Small tables with a verdict a line; exit code 1 if one is "no".
#include <CLI/CLI.hpp>

#include <cstring>

#include "support/authors.hpp"
#include "support/guard.hpp"
#include "support/rows.hpp"
#include "vattention/budget/fixed.hpp"
#include "vattention/presets.hpp"
#include "vattention/stats/moments.hpp"
#include "vattention/top_k/oracle.hpp"

using namespace vattn_bench;
using vattn::index_t;

namespace {

struct settings {
  std::vector<std::filesystem::path> captures = vattn_examples::default_captures();
  int seeds = 1000, repeats = 20;
  double share = 0.05;
};

/// The sums whose variance a call estimates, over the rows it leaves to sampling. Weights are relative
/// to the largest exact logit.
struct residual {
  index_t rows = 0;
  double squares = 0.0, sum = 0.0;  // of w
  double value_squares = 0.0;       // of w |v|
  double output_squares = 0.0;      // of w |v - o|
  Eigen::VectorXd value_sum;        // of w v
};

residual residual_of(const vattn::query_group& query, const vattn::kv_view& kv,
                     const vattn::exact_attention& exact, const vattn::index_set& fixed) {
  const Eigen::VectorXd logits = vattn::logits(query, kv, 0);
  const Eigen::VectorXd o = exact.output.row(0);
  residual r;
  r.value_sum = Eigen::VectorXd::Zero(kv.value_dim());
  for (index_t i = 0; i < logits.size(); ++i) {
    const auto row = static_cast<vattn::row_t>(i);
    if (fixed.contains(row)) continue;
    const double w = std::exp(logits[i] - exact.max_logit[0]);
    const Eigen::VectorXd v =
        vattn::detail::widen(kv.value_row(row), kv.value_type(), kv.value_dim());
    ++r.rows;
    r.sum += w;
    r.squares += w * w;
    r.value_sum += w * v;
    r.value_squares += w * w * v.squaredNorm();
    r.output_squares += w * w * (v - o).squaredNorm();
  }
  return r;
}

/// Mean over seeds of what calls gave, and of squares, all relative to the exact denominator.
struct seen {
  vattn::moments denominator, denominator_variance, numerator_variance, output_variance;
  double output_square = 0.0;  // mean |D^ (o^ - o)|^2
};

template <class Functor>
seen call_often(const Functor& functor, const bench_row& row, const vattn::exact_attention& exact,
                int seeds, vattn::workspace& ws) {
  const vattn::kv_view& kv = row.head->kv();
  const auto index = functor.make_index(kv);
  seen s;
  for (int i = 0; i < seeds; ++i) {
    const auto key = row.head->draw(row.position, static_cast<std::uint64_t>(i));
    const vattn::result r = functor(row.query(), kv, index, key, ws);
    const vattn::partial_view state = ws.head(0);
    const double to_exact = std::exp(state.max_logit() - exact.max_logit[0]);
    const double d = state.denominator() * to_exact;
    s.denominator.add(d);
    s.denominator_variance.add(state.denominator_variance() * to_exact * to_exact);
    s.numerator_variance.add(state.numerator_variance() * to_exact * to_exact);
    s.output_variance.add(vattn::variance_at_output(state).total * to_exact * to_exact);
    s.output_square +=
        d * d * (r.output.row(0).template cast<double>() - exact.output.row(0)).squaredNorm() /
        seeds;
  }
  return s;
}

double standard_error(const vattn::moments& m) {
  return std::sqrt(m.variance() / static_cast<double>(m.count()));
}

/// One line; false if a promise is broken: 4 standard errors for D^ and V(D^), 5 % for V(o^).
bool print_row(const std::string& name, const seen& s, const residual& r, index_t b, double exact,
               bool judge_output) {
  const auto n = static_cast<double>(r.rows);
  const double spread = n * n * (1.0 / static_cast<double>(b) - 1.0 / n);
  const double v_d = spread * (r.squares - r.sum * r.sum / n) / (n - 1.0);
  const double v_n = spread * (r.value_squares - r.value_sum.squaredNorm() / n) / (n - 1.0);
  const double v_o = (n / static_cast<double>(b) - 1.0) * r.output_squares;
  const double off = (s.denominator.mean() - exact) / standard_error(s.denominator);
  const double off_v =
      (s.denominator_variance.mean() - v_d) / standard_error(s.denominator_variance);
  const double ratio_n = s.numerator_variance.mean() / v_n;
  const double ratio_o = s.output_variance.mean() / v_o;
  const bool good = std::fabs(off) <= 4.0 && std::fabs(off_v) <= 4.0 &&
                    (!judge_output || std::fabs(ratio_o - 1.0) <= 0.05);
  std::printf("%-38s %5lld | %8.2e %6.2f | %6.3f %6.2f | %6.3f | %6.3f %11.3f | %s\n", name.c_str(),
              static_cast<long long>(b), s.denominator.mean() / exact - 1.0, off,
              s.denominator_variance.mean() / v_d, off_v, ratio_n, ratio_o,
              s.output_square / s.output_variance.mean(), good ? "yes" : "no");
  return good;
}

/// V(o^) is a plug-in at o^, not at o: without a predictor a heavy row that is drawn pulls o^ to its own
/// value and hides its own variance, so the 5 % are asked for with one only.
template <class TopK>
bool unbiased(const settings& s, const std::string& title, const TopK& top_k,
              const std::vector<bench_row>& rows) {
  std::printf(
      "\n%s, %d seeds, b = %g of the residual\n"
      "row                                        b |  mean D^: off  in se | V(D^): ratio in se |"
      " V(N^) | V(o^): ratio seen/est. | holds\n",
      title.c_str(), s.seeds, s.share);
  const auto size = vattn::fraction(s.share);
  const vattn::vattention functor(vattn::static_indices::sink_window(32, 64), top_k,
                                  vattn::base_sampling::uniform(size), vattn::budget::fixed(size),
                                  vattn::dynamic_sampling::uniform());
  vattn::workspace ws;
  bool good = true;
  for (const bench_row& row : rows) {
    const vattn::exact_attention exact = vattn::reference(row.query(), row.head->kv());
    const seen all = call_often(functor, row, exact, s.seeds, ws);
    const residual r = residual_of(row.query(), row.head->kv(), exact, ws.exact);
    good &= print_row(row.name(), all, r, ws.drawn.size(), exact.denominator[0],
                      !std::same_as<TopK, vattn::top_k::none>);
  }
  return good;
}

/// What calls at one epsilon gave, over rows and seeds.
struct limit {
  vattn::moments error, density;
  double worst = 0.0;
  int exact = 0, different = 0, calls = 0;
};

template <class Functor>
limit approach(const Functor& functor, const settings& s, const std::vector<bench_row>& rows) {
  limit l;
  vattn::workspace ws;
  vattn::workspace dense_ws;
  for (const bench_row& row : rows) {
    const vattn::kv_view& kv = row.head->kv();
    const vattn::exact_attention exact = vattn::reference(row.query(), kv);
    const vattn::result dense = vattn::dense(row.query(), kv, dense_ws);
    const auto index = functor.make_index(kv);
    for (int i = 0; i < s.repeats; ++i) {
      const auto key = row.head->draw(row.position, static_cast<std::uint64_t>(i));
      const vattn::result r = functor(row.query(), kv, index, key, ws);
      const double error = vattn::relative_error(r.output, exact.output);
      l.error.add(error);
      l.worst = std::max(l.worst, error);
      l.density.add(r.certificates[0].density());
      ++l.calls;
      if (r.certificates[0].status != vattn::status::exact) continue;
      ++l.exact;
      const bool same =
          std::memcmp(r.output.data(), dense.output.data(),
                      sizeof(float) * static_cast<std::size_t>(kv.value_dim())) == 0 &&
          r.log_sum_exp[0] == dense.log_sum_exp[0] && r.certificates[0].epsilon == 0.0;
      l.different += same ? 0 : 1;
    }
  }
  return l;
}

limit approach_authors(double epsilon, double delta, const settings& s,
                       const std::vector<bench_row>& rows) {
  limit l;
  for (const bench_row& row : rows) {
    const vattn::exact_attention exact = vattn::reference(row.query(), row.head->kv());
    authors_row procedure(row.query(), row.head->kv());
    for (int i = 0; i < s.repeats; ++i)
      procedure.trial(
          row.head->draw(row.position, static_cast<std::uint64_t>(i)), {{epsilon, delta}},
          [&](std::size_t, const authors_row::outcome& o) {
            const double error = vattn::relative_error(o.output, exact.output);
            l.error.add(error);
            l.worst = std::max(l.worst, error);
            l.density.add(static_cast<double>(o.rows) / static_cast<double>(procedure.rows()));
            ++l.calls;
          });
  }
  return l;
}

void print_limit(const char* name, double epsilon, const limit& l) {
  std::printf("%-16s %8g | %9.2e %9.2e | %7.2f | %6.1f   %s\n", name, epsilon, l.error.mean(),
              l.worst, 100 * l.density.mean(), 100.0 * l.exact / l.calls,
              l.exact == 0       ? ""
              : l.different == 0 ? "yes"
                                 : "no");
}

bool dense_limit(const settings& s, const std::vector<bench_row>& rows) {
  std::printf(
      "\nepsilon -> 0, delta .1, %zu rows x %d seeds\n"
      "composition       epsilon | mean error     worst | density | exact, %%  dense bit for bit\n",
      rows.size(), s.repeats);
  bool good = true;
  const vattn::delta miss(0.1);
  for (const double e : {0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4, 1e-6}) {
    const limit output = approach(vattn::presets::uniform_output(vattn::epsilon(e), miss), s, rows);
    const limit paper = approach(
        vattn::presets::paper(vattn::epsilon(e), miss, vattn::top_k::oracle(vattn::fraction(0.02))),
        s, rows);
    print_limit("uniform-output", e, output);
    print_limit("paper-oracle", e, paper);
    print_limit("authors", e, approach_authors(e, 0.1, s, rows));
    good = good && output.different == 0 && paper.different == 0;
    if (e <= 1e-6) good = good && output.exact == output.calls;
  }
  return good;
}

bool run(const settings& s) {
  const row_set all(s.captures, 1 << 20);  // the last position of each head
  print_build();
  bool good = unbiased(s, "no predictor", vattn::top_k::none(), all.rows());
  good &=
      unbiased(s, "key_code(4), 2 %", vattn::top_k::key_code(4, vattn::fraction(0.02)), all.rows());
  good &= dense_limit(s, all.rows());
  std::printf("\n%s\n", good ? "all hold" : "SOMETHING DOES NOT HOLD");
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("Unbiasedness at a fixed size, and the dense limit.", "fixed_size");
  app.add_option("--captures", s.captures, "safetensors files (default: examples/data)");
  app.add_option("--seeds", s.seeds, "seeds a row at fixed size")->check(CLI::Range(2, 1'000'000));
  app.add_option("--repeats", s.repeats, "seeds a row and epsilon")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--share", s.share, "share of the residual drawn")->check(CLI::Range(0.005, 0.4));
  CLI11_PARSE(app, argc, argv);
  bool good = true;
  const int code = guarded("fixed_size", [&] { good = run(s); });
  return code != 0 ? code : good ? 0 : 1;
}
