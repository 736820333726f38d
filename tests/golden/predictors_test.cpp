// SPDX-License-Identifier: Apache-2.0
// Our predictors against the authors': predictor_vectors.hpp, written by running their code. Where they differ the
// test says which is right, and checks both.
#include "golden/predictor_vectors.hpp"
#include "support/catch.hpp"
#include "support/estimate.hpp"
#include "support/top_k_contract.hpp"
#include "vattention/core/collision_rule.hpp"
#include "vattention/core/vector_angle.hpp"
#include "vattention/top_k/double_sparsity.hpp"
#include "vattention/top_k/hash_attention.hpp"
#include "vattention/top_k/oracle.hpp"
#include "vattention/top_k/page_bounds.hpp"
#include "vattention/top_k/product_code.hpp"
#include "vattention/top_k/socket.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

const golden_heads& heads_of(int number) {
  static const std::vector<golden_heads> all = golden_heads_cases();
  return all.at(static_cast<std::size_t>(number));
}

synthetic_head::matrix eighths(const std::vector<int>& numbers, index_t first, index_t rows,
                               index_t cols) {
  synthetic_head::matrix m(rows, cols);
  for (index_t i = 0; i < m.size(); ++i)
    m.data()[i] = static_cast<float>(numbers[static_cast<std::size_t>(first * cols + i)]) / 8.0F;
  return m;
}

/// A call of `count` query heads from `first` on, which share a KV head.
prepared_call call_of(const golden_heads& g, int first, int count, float scale) {
  const int kv = first / g.group;
  prepared_call c({g.rows, g.dim, count, element::f32, 1});
  c.head.queries = eighths(g.queries, first, count, g.dim);
  c.head.keys = eighths(g.keys, index_t{kv} * g.rows, g.rows, g.dim);
  if (!g.values.empty()) c.head.values = eighths(g.values, index_t{kv} * g.rows, g.rows, 4);
  c.options.scale = scale;
  return c;
}

/// Calls `f(head, call)` for each query head by itself.
template <class F>
void for_each_head(const golden_heads& g, int heads, float scale, F f) {
  for (int head = 0; head < heads; ++head) {
    prepared_call c = call_of(g, head, 1, scale);
    CAPTURE(head, g.rows, g.dim);
    f(static_cast<std::size_t>(head), c);
  }
}
template <class F>
void for_each_head(const golden_heads& g, float scale, F f) {
  for_each_head(g, g.kv_heads * g.group, scale, f);
}

/// Query head `h` of a KV head.
int head_of(const golden_heads& g, int kv, int h) { return kv * g.group + h; }

/// Rows of sinks and window.
std::vector<row_t> fixed_rows(const golden_heads& g) {
  std::vector<row_t> rows = row_range(0, g.sinks);
  const std::vector<row_t> last = row_range(g.rows - g.window, g.rows);
  rows.insert(rows.end(), last.begin(), last.end());
  return rows;
}
index_t free_rows(const golden_heads& g) { return g.rows - g.sinks - g.window; }

std::vector<row_t> rows_of(const std::string& mask) {
  std::vector<row_t> rows;
  for (std::size_t i = 0; i < mask.size(); ++i)
    if (mask[i] == '1') rows.push_back(static_cast<row_t>(i));
  return rows;
}
std::vector<row_t> new_rows(const std::string& mask, const std::vector<row_t>& before) {
  return rows_without(rows_of(mask), before);
}

/// Our scores, `[heads x rows]`.
template <class P>
std::vector<std::vector<float>> scores_of(const P& policy, const typename P::index_type& index,
                                          prepared_call& c) {
  const kv_view kv = c.view();
  const query_group queries = c.group();
  c.begin(true);
  policy.predict(attention_call<kv_view>(queries, kv, {}), index, c.ws.seen, c.ws);
  std::vector<std::vector<float>> all;
  for (int h = 0; h < c.shape.heads; ++h) {
    const auto scores = c.ws.seen.scores(h);
    all.emplace_back(scores.begin(), scores.begin() + c.shape.rows);
  }
  return all;
}
std::vector<float> as_float(const std::vector<double>& numbers) {
  std::vector<float> out;
  out.reserve(numbers.size());
  for (const double x : numbers) out.push_back(static_cast<float>(x));
  return out;
}
/// The part of one head of numbers `[heads x size]`.
template <class T>
std::vector<T> part_of(const std::vector<T>& all, std::size_t head, std::size_t size) {
  const auto first = all.begin() + static_cast<std::ptrdiff_t>(head * size);
  return {first, first + static_cast<std::ptrdiff_t>(size)};
}

/// The k rows of largest score among those that are not in `before`, ties by row number; ascending.
template <class Score>
std::vector<row_t> best(const std::vector<Score>& scores, index_t k,
                        const std::vector<row_t>& before = {}) {
  const std::vector<row_t> all = row_range(0, static_cast<index_t>(scores.size()));
  std::vector<row_t> rows = rows_without(all, before);
  std::stable_sort(rows.begin(), rows.end(),
                   [&](row_t a, row_t b) { return scores[a] > scores[b]; });
  rows.resize(std::min(rows.size(), static_cast<std::size_t>(k)));
  std::sort(rows.begin(), rows.end());
  return rows;
}
template <class Score>
std::vector<Score> sorted_scores(const std::vector<Score>& scores, const std::vector<row_t>& rows) {
  std::vector<Score> taken;
  taken.reserve(rows.size());
  for (const row_t row : rows) taken.push_back(scores[row]);
  std::sort(taken.begin(), taken.end());
  return taken;
}

/// Products q.k of a call's only head, without scale, exact.
std::vector<double> products(const prepared_call& c) {
  const Eigen::VectorXd dots =
      c.head.keys.cast<double>() * c.head.queries.row(0).cast<double>().transpose();
  return {dots.data(), dots.data() + dots.size()};
}

}  // namespace

TEST_CASE("golden predictors: oracle scores and selects as OracleTopK", "[golden]") {
  for (const golden_oracle& o : golden_oracle_cases()) {
    const golden_heads& g = heads_of(o.heads);
    const std::vector<row_t> before = fixed_rows(g);
    std::vector<float> bias(static_cast<std::size_t>(g.rows), 0.0F);
    const index_t first_hidden = g.rows - g.window - o.hidden;
    for (index_t row = first_hidden; row < g.rows - g.window; ++row)
      bias[static_cast<std::size_t>(row)] = -infinity;
    CAPTURE(o.heads, o.k, o.hidden);
    const top_k::oracle policy{rows(o.k)};
    for_each_head(g, 1.0F, [&](std::size_t head, prepared_call& c) {
      if (!o.scores_64.empty()) {
        const std::vector<float> ours = scores_of(policy, {}, c)[0];
        for (std::size_t row = 0; row < ours.size(); ++row)
          REQUIRE(64.0F * ours[row] == static_cast<float>(o.scores_64[head * ours.size() + row]));
      }
      if (o.hidden > 0) c.options.bias = bias.data();
      const std::vector<row_t> ours = newly_selected(policy, {}, c, before);
      const std::vector<row_t> theirs = new_rows(o.masks[head], before);
      const index_t seen = free_rows(g) - o.hidden;
      if (o.k <= seen || o.hidden == 0) {
        // Beyond the free rows theirs takes used ones again, which the mask does not show.
        CHECK(ours == theirs);
        CHECK(static_cast<index_t>(ours.size()) == std::min<index_t>(o.k, seen));
      } else {
        // Theirs fills up with used rows and with rows that attention then hides: they weigh nothing, but count as
        // read. Ours never takes a hidden row.
        CHECK(ours == rows_without(row_range(0, first_hidden), before));
        CHECK(rows_without(ours, theirs).empty());
        CHECK(static_cast<int>(theirs.size() - ours.size()) >= o.hidden - 2);
      }
    });
  }
}

TEST_CASE("golden predictors: query heads that share keys select the union", "[golden]") {
  for (const golden_oracle& o : golden_oracle_cases()) {
    if (o.hidden > 0) continue;
    const golden_heads& g = heads_of(o.heads);
    const std::vector<row_t> before = fixed_rows(g);
    for (int kv = 0; kv < g.kv_heads; ++kv) {
      prepared_call c = call_of(g, kv * g.group, g.group, 1.0F);
      std::string all(static_cast<std::size_t>(g.rows), '.');
      for (int h = 0; h < g.group; ++h)
        for (const row_t row : rows_of(o.masks.at(static_cast<std::size_t>(head_of(g, kv, h)))))
          all[row] = '1';
      CAPTURE(o.heads, o.k, kv);
      CHECK(newly_selected(top_k::oracle{rows(o.k)}, {}, c, before) == new_rows(all, before));
    }
  }
}

TEST_CASE("golden predictors: of equal scores ours takes the lower rows, theirs any", "[golden]") {
  // torch.topk leaves open which of equal scores it returns, so the rows depend on its version and on the device. Ours
  // are told by their numbers.
  const golden_heads& g = heads_of(4);
  prepared_call c = call_of(g, 0, 1, 1.0F);
  const std::vector<double> scores = products(c);
  int differ = 0;
  for (const golden_tie& t : golden_tie_cases()) {
    CAPTURE(t.k);
    const std::vector<row_t> ours = newly_selected(top_k::oracle{rows(t.k)}, {}, c);
    const std::vector<row_t> theirs = rows_of(t.masks[0]);
    CHECK(ours == best(scores, t.k));
    CHECK(sorted_scores(scores, ours) == sorted_scores(scores, theirs));
    differ += ours == theirs ? 0 : 1;
  }
  CHECK(differ > 0);
}

TEST_CASE("golden predictors: a share of the mass selects as OracleTopPMasker", "[golden]") {
  int ties = 0, same = 0;
  for (const golden_top_p& p : golden_top_p_cases()) {
    const golden_heads& g = heads_of(p.heads);
    const std::vector<row_t> before = fixed_rows(g);
    CAPTURE(p.heads, p.share);
    for_each_head(g, 0.25F, [&](std::size_t head, prepared_call& c) {
      const std::vector<row_t> ours = newly_selected(top_k::oracle{mass(p.share)}, {}, c, before);
      const std::vector<row_t> theirs = new_rows(p.masks[head], before);
      const std::vector<double> dots = products(c);
      if (p.share == 0.0) {
        // No mass takes no row. Theirs takes the largest, and all that equal it.
        CHECK(ours.empty());
        CHECK(sorted_scores(dots, theirs).front() ==
              sorted_scores(dots, best(dots, 1, before)).front());
        return;
      }
      // Ours takes the fewest rows that have the share.
      double all = 0.0, sum = 0.0, least = std::numeric_limits<double>::max();
      for (const row_t row : rows_without(row_range(0, g.rows), before))
        all += std::exp(0.25 * dots[row]);
      for (const row_t row : ours) {
        sum += std::exp(0.25 * dots[row]);
        least = std::min(least, std::exp(0.25 * dots[row]));
      }
      CHECK(sum >= p.share * all * (1.0 - 1e-6));
      CHECK(sum - least < p.share * all);
      // Theirs takes all rows that equal the last one, and one more value where the sum is met exactly.
      CHECK(rows_without(ours, theirs).empty());
      bool tied = std::fabs(sum - p.share * all) <= 1e-6 * all;
      for (const row_t row : rows_without(theirs, ours))
        tied = tied || std::exp(0.25 * dots[row]) == least;
      CHECK((ours == theirs || tied));
      (ours == theirs ? same : ties) += 1;
    });
  }
  CHECK(ties > 0);
  CHECK(same > 8 * ties);
}

TEST_CASE("golden predictors: page_bounds scores pages as Quest", "[golden]") {
  int compared = 0, below = 0;
  for (const golden_quest& q : golden_quest_cases()) {
    const golden_heads& g = heads_of(q.heads);
    const index_t pages = (g.rows + q.page - 1) / q.page;
    const index_t taken = std::min<index_t>(pages, std::max(3, q.k / q.page));
    const std::vector<row_t> before = q.fixed != 0 ? fixed_rows(g) : std::vector<row_t>{};
    CAPTURE(q.heads, q.page, q.k, q.bits, q.fixed);
    for_each_head(g, 1.0F, [&](std::size_t head, prepared_call& c) {
      const top_k::page_bounds policy(q.page, rows(q.k));
      const std::vector<float> ours = scores_of(policy, index_of(policy, c), c)[0];
      const std::vector<float> theirs =
          part_of(as_float(q.scores), head, static_cast<std::size_t>(pages));
      std::vector<float> by_row;
      for (index_t row = 0; row < g.rows; ++row)
        by_row.push_back(theirs[static_cast<std::size_t>(row / q.page)]);
      if (q.bits < 16) {
        // Ends that are rounded to nearest bound nothing: products exceed them. Ours are rounded outwards.
        const std::vector<double> dots = products(c);
        for (std::size_t row = 0; row < dots.size(); ++row) {
          below += static_cast<double>(by_row[row]) < dots[row] ? 1 : 0;
          CHECK(static_cast<double>(ours[row]) >= dots[row]);
        }
        return;
      }
      CHECK(ours == by_row);
      const std::vector<row_t> rows_taken = newly_selected(policy, c, before);
      const std::vector<row_t> their_rows = new_rows(q.masks[head], before);
      CHECK(rows_taken == best(by_row, q.k, before));
      CHECK(static_cast<index_t>(rows_taken.size()) == q.k);
      if (q.fixed == 0 && taken * q.page == q.k && q.k % q.page == 0 && g.rows % q.page == 0) {
        CHECK(rows_taken == their_rows);
        ++compared;
      } else if (q.fixed != 0) {
        // Theirs spends pages on rows that sinks and window have already; ours takes k new rows.
        const std::vector<row_t> covered = best(by_row, taken * q.page);
        CHECK(their_rows == rows_without(covered, before));
        CHECK(static_cast<index_t>(their_rows.size()) <= q.k);
      } else if (taken * q.page > q.k) {
        // Never fewer than 3 pages, so 3 times as many rows as asked for here.
        CHECK(rows_without(rows_taken, their_rows).empty());
        CHECK(static_cast<index_t>(their_rows.size()) > q.k);
      } else {
        // Whole pages, rounded down; ours takes what is left from the next one.
        CHECK(rows_without(their_rows, rows_taken).empty());
        CHECK(static_cast<index_t>(their_rows.size()) <= taken * q.page);
      }
    });
  }
  CHECK(compared >= 2);
  CHECK(below > 0);
}

TEST_CASE("golden predictors: double_sparsity scores and selects as DoubleSparsity", "[golden]") {
  double our_square = 0.0, their_square = 0.0;
  const std::vector<golden_sparsity> all = golden_sparsity_cases();
  const auto like = [&](const golden_sparsity& s, int bits, int layer) -> const golden_sparsity& {
    return *std::find_if(all.begin(), all.end(), [&](const golden_sparsity& x) {
      return x.heads == s.heads && x.bits == bits && x.layer == layer;
    });
  };
  for (const golden_sparsity& s : all) {
    const golden_heads& g = heads_of(s.heads);
    const std::vector<row_t> before = fixed_rows(g);
    const auto n = static_cast<std::size_t>(g.rows);
    CAPTURE(s.heads, s.bits, s.layer);
    // Theirs divides by sqrt(4), the number of channels.
    for_each_head(g, 0.5F, [&](std::size_t head, prepared_call& c) {
      const top_k::double_sparsity policy(4, rows(s.k));
      const auto select = [&](const std::vector<int>& channels) {
        auto index = policy.make_index({channels.begin(), channels.end()}, g.dim);
        index.append(c.view());
        return newly_selected(policy, index, c, before);
      };
      const std::vector<int> channels = part_of(s.channels, head, 4);
      auto index = policy.make_index({channels.begin(), channels.end()}, g.dim);
      index.append(c.view());
      const std::vector<float> ours = scores_of(policy, index, c)[0];
      if (s.heads == 3) {
        // Labels of 4 bits hold these keys and queries exactly.
        for (std::size_t row = 0; !s.scores_128.empty() && row < n; ++row)
          CHECK(128.0F * ours[row] == static_cast<float>(s.scores_128[head * n + row]));
        CHECK(select(channels) == new_rows(s.masks[head], before));
        // Theirs keeps the channels of the layer it came to first and uses them in all others; channels belong to a
        // layer, and here to the index of one KV head.
        const std::vector<int> first = part_of(like(s, s.bits, 0).channels, head, 4);
        CHECK(select(first) == new_rows(s.masks_after_layer_0[head], before));
        CHECK((s.masks_after_layer_0[head] == s.masks[head]) == (s.layer == 0));
        return;
      }
      // Any other keys: within half a step of the labels and of the query's codes. Theirs rounds queries to 4 bits too,
      // ours to 8.
      const std::vector<float> exact = part_of(as_float(like(s, 16, 0).scores), head, n);
      float largest = 0.0F, sum = 0.0F;
      for (const int j : channels) {
        largest = std::max(largest, std::fabs(c.head.queries(0, j)));
        sum += std::fabs(c.head.queries(0, j));
      }
      for (index_t row = 0; row < g.rows; ++row) {
        const float step = kernels::f16_to_float(*index.steps(row));
        float keys = 0.0F;
        for (const int j : channels) keys += std::fabs(c.head.keys(row, j)) + step;
        const auto at = static_cast<std::size_t>(row);
        const float bound = 0.5F * (sum * step / 2.0F + keys * largest / 254.0F);
        CHECK(std::fabs(ours[at] - exact[at]) <= bound * 1.001F + 1e-5F);
        if (s.bits == 16) continue;
        const auto theirs = static_cast<float>(s.scores[head * n + at]);
        our_square += std::pow(static_cast<double>(ours[at] - exact[at]), 2.0);
        their_square += std::pow(static_cast<double>(theirs - exact[at]), 2.0);
      }
    });
  }
  CAPTURE(our_square, their_square);
  CHECK(our_square > 0.0);
  CHECK(our_square < their_square);
}

TEST_CASE("golden predictors: product_code codes, scores and selects as PQCache", "[golden]") {
  int compared = 0;
  for (const golden_pq& p : golden_pq_cases()) {
    const golden_heads& g = heads_of(p.heads);
    const std::vector<row_t> before = fixed_rows(g);
    const auto n = static_cast<std::size_t>(g.rows), sinks = static_cast<std::size_t>(g.sinks);
    const top_k::part_centroids given(as_float(p.centroids).data(), p.parts, 4, g.dim);
    const top_k::product_code policy(p.parts, 4, rows(p.k));
    std::size_t stale = 0, other = 0;
    CAPTURE(p.heads, p.rounds, p.by_product);
    for_each_head(g, g.group, 1.0F, [&](std::size_t head, prepared_call& c) {
      auto index = policy.make_index(given);
      index.append(c.view().shard(0, p.first));
      index.append(c.view());
      const auto parts = static_cast<std::size_t>(p.parts);
      std::size_t unlike = 0;
      for (std::size_t i = 0; i < p.codes.size(); ++i) {
        const int ours =
            index.code(static_cast<index_t>(sinks + i / parts), static_cast<index_t>(i % parts));
        unlike += ours == p.codes[i] ? 0U : 1U;
        if (i < p.codes_again.size() && p.by_product == 0) REQUIRE(ours == p.codes_again[i]);
      }
      for (std::size_t i = 0; head == 0 && i < p.codes_again.size(); ++i)
        stale += p.codes[i] == p.codes_again[i] ? 0U : 1U;
      other = unlike;
      if (stale > 0) return;
      const std::vector<float> ours = scores_of(policy, index, c)[0];
      const std::vector<float> theirs = part_of(as_float(p.scores), head, n - sinks);
      for (std::size_t row = sinks; row < n; ++row)
        CHECK(ours[row] == Approx(theirs[row - sinks]).epsilon(1e-5).margin(1e-5));
      CHECK(newly_selected(policy, index, c, before) == new_rows(p.masks[head], before));
      ++compared;
    });
    CAPTURE(stale, other, p.codes_again.size());
    if (p.by_product != 0) {
      // By products theirs lifts the keys that it fits by a coordinate sqrt(phi - |x|^2), and codes later ones with a 0
      // there: the same key gets one code if it comes early and another if it comes late. Ours has one rule for all.
      CHECK(stale > p.codes_again.size() / 10);
      CHECK(other > 0);
    } else if (p.rounds == 1) {
      // The codes of the fitted keys are those from before the centroids' last move: not all are the nearest any more.
      CHECK(stale > 0);
      CHECK(other == stale);
    } else {
      CHECK(stale == 0);
      CHECK(other == 0);
    }
  }
  CHECK(compared >= 5);
}

TEST_CASE("golden predictors: centroids of product_code are as good as PQCache's", "[golden]") {
  // Both descend to a local minimum of the squared error: theirs from points drawn at random, ours from k-means++.
  for (const golden_pq& p : golden_pq_cases()) {
    if (p.by_product != 0 || p.rounds == 1) continue;
    const golden_heads& g = heads_of(p.heads);
    const prepared_call c = call_of(g, 0, 1, 1.0F);
    const synthetic_head::matrix fitted = c.head.keys.middleRows(g.sinks, p.first - g.sinks);
    top_k::part_centroids ours(p.parts, 4, g.dim);
    ours.fit({fitted.data(), fitted.data() + fitted.size()});
    const auto error = [&](const top_k::part_centroids& by) {
      double sum = 0.0;
      for (index_t row = 0; row < fitted.rows(); ++row)
        for (index_t part = 0; part < by.parts(); ++part) {
          const float* x = fitted.row(row).data() + by.first(part);
          const int code = by.nearest(part, x);
          for (index_t j = 0; j < by.width(part); ++j)
            sum += std::pow(static_cast<double>(x[j] - by.of(part)[j * by.count() + code]), 2.0);
        }
      return sum;
    };
    const double our_error = error(ours);
    const double their_error = error({as_float(p.centroids).data(), p.parts, 4, g.dim});
    CAPTURE(p.heads, our_error, their_error);
    CHECK(our_error < 1.05 * their_error);
  }
}

TEST_CASE("golden predictors: socket scores and selects as SocketMasker", "[golden]") {
  for (const golden_socket& s : golden_socket_cases()) {
    const golden_heads& g = heads_of(s.heads);
    const std::vector<row_t> before = fixed_rows(g);
    const auto n = static_cast<std::size_t>(g.rows);
    std::vector<float> planes;
    planes.reserve(s.planes_64.size());
    for (const int x : s.planes_64) planes.push_back(static_cast<float>(x) / 64.0F);
    const top_k::socket policy(s.tables, s.planes, rows(s.k), s.tau);
    CAPTURE(s.heads, s.tables, s.planes, s.tau);
    for_each_head(g, 1.0F, [&](std::size_t head, prepared_call& c) {
      auto index = policy.make_index(planes, g.dim);
      index.append(c.view());
      const auto check_scores = [&](const std::vector<float>& ours,
                                    const std::vector<double>& all) {
        const std::vector<float> theirs = part_of(as_float(all), head, n);
        for (std::size_t row = 0; row < n; ++row)
          CHECK(ours[row] == Approx(theirs[row]).epsilon(0x1p-10));  // norms are fp16
      };
      // Theirs hashes keys as they are. A shift of all keys changes no ranking by q.k, but it does theirs; ours centres
      // keys first, so on any keys it is what theirs is on centred ones.
      check_scores(scores_of(policy, index, c)[0], s.scores_centred);
      CHECK(newly_selected(policy, index, c) == rows_of(s.masks_centred[head]));
      CHECK(s.masks_as_is[head] != s.masks_centred[head]);
      // With the opposite of each key behind them the keys' mean is 0, and there is nothing to centre.
      prepared_call twice({2 * g.rows, g.dim, 1, element::f32, 1});
      twice.options = c.options;
      twice.head.queries = c.head.queries;
      twice.head.keys << c.head.keys, -c.head.keys;
      twice.head.values << c.head.values, 0.0F * c.head.values;
      auto index_of_both = policy.make_index(planes, g.dim);
      index_of_both.append(twice.view());
      check_scores(scores_of(policy, index_of_both, twice)[0], s.scores_as_is);
      CHECK(newly_selected(policy, index_of_both, twice) == rows_of(s.masks_as_is[head]));

      // Theirs takes the k best of all rows, sinks and window too; ours k new ones.
      const std::vector<row_t> beside = new_rows(s.masks_beside_fixed[head], before);
      CHECK(beside == new_rows(s.masks_centred[head], before));
      const std::vector<row_t> taken = newly_selected(policy, index, c, before);
      CHECK(taken == best(part_of(s.scores_centred, head, n), s.k, before));
      CHECK(static_cast<int>(taken.size()) == s.k);
      CHECK(rows_without(beside, taken).empty());
    });
  }
}

namespace {

/// Networks of query head `head`; theirs have a matrix `[in x out]`.
top_k::hash_mlp network_of(const std::vector<int>& matrix_0, const std::vector<int>& bias_0,
                           const std::vector<int>& matrix_1, const std::vector<int>& bias_1,
                           std::size_t head, index_t in, index_t hidden, index_t bits) {
  const auto layer = [&](const std::vector<int>& matrix, const std::vector<int>& bias, index_t from,
                         index_t to) {
    const auto at = static_cast<index_t>(head);
    const synthetic_head::matrix turned = eighths(matrix, at * from, from, to).transpose();
    const synthetic_head::matrix row = eighths(bias, at, 1, to);
    return top_k::hash_layer{from,
                             to,
                             {turned.data(), turned.data() + turned.size()},
                             {row.data(), row.data() + row.size()}};
  };
  return {{layer(matrix_0, bias_0, in, hidden), layer(matrix_1, bias_1, hidden, bits)},
          top_k::activation::silu};
}

}  // namespace

TEST_CASE("golden predictors: hash_attention scores and selects as HashAttention", "[golden]") {
  const std::vector<golden_hash> all = golden_hash_cases();
  const golden_hash& w = all.front();
  const golden_heads& g = heads_of(w.heads);
  const std::vector<row_t> before = fixed_rows(g);
  const auto n = static_cast<std::size_t>(g.rows);
  for (const golden_hash& k : all)
    for (int kv = 0; kv < g.kv_heads; ++kv) {
      std::vector<top_k::hash_weights::pair> pairs;
      for (int h = 0; h < g.group; ++h) {
        const auto head = static_cast<std::size_t>(head_of(g, kv, h));
        pairs.push_back({network_of(w.query_matrix_0, w.query_bias_0, w.query_matrix_1,
                                    w.query_bias_1, head, g.dim, w.hidden, w.bits),
                         network_of(w.key_matrix_0, w.key_bias_0, w.key_matrix_1, w.key_bias_1,
                                    head, g.dim, w.hidden, w.bits)});
      }
      const top_k::hash_weights weights(std::move(pairs));
      std::vector<row_t> of_group;
      for (int h = 0; h < g.group; ++h) {
        const auto head = static_cast<std::size_t>(head_of(g, kv, h));
        CAPTURE(k.k, head);
        prepared_call c = call_of(g, kv * g.group + h, 1, 1.0F);
        const top_k::hash_attention policy(w.bits, rows(k.k));
        auto index = policy.make_index(weights.only(h));
        index.append(c.view().shard(0, 30));
        index.append(c.view());
        const std::vector<int> theirs = part_of(w.scores, head, n);
        // All rows by their scores, k by k: what is taken then tells the order of the scores.
        for (index_t count = 1; count <= g.rows; ++count) {
          auto some = newly_selected(top_k::hash_attention(w.bits, rows(count)), index, c);
          REQUIRE(some == best(theirs, count));
        }
        // And the scores themselves, from the signatures: equal less different signs.
        std::uint64_t query = 0, key = 0;
        float scratch[top_k::hash_mlp::most_scratch];
        weights.queries(h).hash(kernels::active(), c.head.queries.data(), scratch, &query);
        for (std::size_t row = 0; row < n; ++row) {
          const float* x = c.head.keys.row(static_cast<index_t>(row)).data();
          weights.keys(h).hash(kernels::active(), x, scratch, &key);
          REQUIRE(w.bits - 2 * std::popcount(query ^ key) == theirs[row]);
        }
        // Theirs takes any of the rows that tie for the last places.
        const std::vector<row_t> ours = newly_selected(policy, index, c, before);
        CHECK(ours == best(theirs, k.k, before));
        CHECK(sorted_scores(theirs, ours) ==
              sorted_scores(theirs, new_rows(k.masks[head], before)));
        of_group.insert(of_group.end(), ours.begin(), ours.end());
      }
      std::sort(of_group.begin(), of_group.end());
      of_group.erase(std::unique(of_group.begin(), of_group.end()), of_group.end());
      prepared_call c = call_of(g, kv * g.group, g.group, 1.0F);
      const top_k::hash_attention policy(w.bits, rows(k.k), g.group);
      auto index = policy.make_index(weights);
      index.append(c.view());
      CHECK(newly_selected(policy, index, c, before) == of_group);
    }
}

TEST_CASE("golden predictors: attention over the selected rows is the authors'", "[golden]") {
  double off = 0.0;
  int counted = 0;
  for (const golden_denominator& d : golden_denominator_cases()) {
    const golden_heads& g = heads_of(d.heads);
    CAPTURE(d.heads);
    for_each_head(g, 0.25F, [&](std::size_t head, prepared_call& c) {
      workspace ws;
      run_pass(c.group(), c.view(), {rows_of(d.masks[head]), {}, {}}, design::independent, 0, ws);
      const partial_view got = ws.head(0);
      const std::vector<double> dots = products(c);
      const double top = 0.25 * *std::max_element(dots.begin(), dots.end());
      const double ours = got.denominator() * std::exp(got.max_logit() - top);
      for (std::size_t j = 0; j < 4; ++j)
        CHECK(got.numerator()[j] / got.denominator() ==
              Approx(d.outputs[4 * head + j]).epsilon(1e-5).margin(1e-6));
      CHECK(ours == Approx(d.denominators[head]).epsilon(3e-6));
      off += ours / d.denominators[head] - 1.0;
      ++counted;
    });
  }
  // Theirs divides by mask + 1e-6, so a row that is certain weighs 1 - 1e-6; it cancels from the output where all rows
  // are certain, and does not from the denominator. A row that is certain weighs 1 in ours.
  CHECK(off / counted == Approx(1e-6).margin(3e-7));
}

namespace {

using vectors = std::vector<std::vector<float>>;

/// Keys over the largest norm with one coordinate more that makes them of length 1 (simple LSH: Neyshabur and Srebro,
/// ICML 2015), and the query of length 1 with a 0 more.
struct lifted {
  vectors keys;
  std::vector<float> query;

  lifted(const Eigen::MatrixXd& k, const Eigen::VectorXd& q) {
    const double longest = k.rowwise().norm().maxCoeff();
    for (index_t row = 0; row < k.rows(); ++row) {
      const Eigen::VectorXd x = k.row(row).transpose() / longest;
      std::vector<float> key;
      for (const double coordinate : x) key.push_back(static_cast<float>(coordinate));
      key.push_back(static_cast<float>(std::sqrt(std::max(0.0, 1.0 - x.squaredNorm()))));
      keys.push_back(std::move(key));
    }
    for (const double coordinate : q.normalized()) query.push_back(static_cast<float>(coordinate));
    query.push_back(0.0F);
  }
};

/// Whether query and key agree in all planes of a table, `projections` `[size x tables planes]`.
bool collide(const std::vector<float>& key, const std::vector<float>& query,
             const golden_pig& pig) {
  const int all = pig.tables * pig.planes;
  const auto side = [&](const std::vector<float>& x, int plane) {
    double product = 0.0;
    for (std::size_t j = 0; j < x.size(); ++j)
      product +=
          static_cast<double>(x[j]) *
          pig.projections_64[j * static_cast<std::size_t>(all) + static_cast<std::size_t>(plane)];
    return product > 0.0;
  };
  for (int table = 0; table < pig.tables; ++table) {
    bool equal = true;
    for (int plane = table * pig.planes; plane < (table + 1) * pig.planes; ++plane)
      equal = equal && side(key, plane) == side(query, plane);
    if (equal) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("golden predictors: chances of collisions are MagicPig's, of its vectors", "[golden]") {
  std::vector<golden_pig> all = golden_pig_cases();
  double off_by_lift = 0.0, off_by_query = 0.0;
  for (golden_pig& pig : all) {
    pig.projections_64 = all.front().projections_64;
    const golden_heads& g = heads_of(pig.heads);
    const collision_rule rule{pig.tables, pig.planes, 1, 0, 0};
    for (int head = 0; head < g.group; ++head) {
      const prepared_call c = call_of(g, head, 1, 1.0F);
      Eigen::MatrixXd keys = c.head.keys.cast<double>();
      Eigen::VectorXd query = c.head.queries.row(0).transpose().cast<double>();
      const Eigen::VectorXd uncentred = query;
      // "keys": less the mean in whole eighths; "as_is": keys and query less the mean.
      if (pig.kind == "keys")
        keys.rowwise() -=
            (keys.colwise().sum() * 8.0 / static_cast<double>(g.rows)).array().floor().matrix() /
            8.0;
      if (pig.kind == "as_is") {
        const Eigen::RowVectorXd mean = keys.colwise().mean();
        keys.rowwise() -= mean;
        query -= mean.transpose();
      }
      const lifted theirs(keys, query);
      for (index_t row = 0; row < g.rows; ++row) {
        const auto i = static_cast<std::size_t>(row);
        const std::size_t at =
            static_cast<std::size_t>(head) * static_cast<std::size_t>(g.rows) + i;
        const auto dim = static_cast<index_t>(theirs.query.size());
        const auto chance_at = [&](const float* x, const float* y, index_t d) {
          return rule.chance(1.0 - angle_between(x, y, d) / std::numbers::pi);
        };
        const double chance = chance_at(theirs.keys[i].data(), theirs.query.data(), dim);
        CAPTURE(pig.kind, head, row);
        CHECK(std::fabs(chance - pig.chances[at]) < 2e-5);
        CHECK(std::fabs(pig.stored[at] -
                        (collide(theirs.keys[i], theirs.query, pig) ? pig.chances[at] : 0.0)) <
              2e-5);
        // Ours: keys centred only, and no lift, which costs every key but the longest in angle.
        const Eigen::VectorXf x = keys.row(row).transpose().cast<float>();
        const Eigen::VectorXf q = uncentred.cast<float>();
        const double ours = chance_at(x.data(), q.data(), g.dim);
        if (pig.kind == "keys")
          off_by_lift = std::max(off_by_lift, std::fabs(ours - pig.chances[at]));
        if (pig.kind == "as_is") {
          const lifted only_keys(keys, uncentred);
          off_by_query =
              std::max(off_by_query,
                       std::fabs(chance_at(only_keys.keys[i].data(), only_keys.query.data(), dim) -
                                 pig.chances[at]));
        }
      }
    }
  }
  // A query less the keys' mean asks for other keys: q.k - mean.k ranks in another order than q.k.
  CAPTURE(off_by_lift, off_by_query);
  CHECK(off_by_lift > 0.05);
  CHECK(off_by_query > 0.05);
}
