// SPDX-License-Identifier: Apache-2.0
/// @file
/// Attention over exact rows (weight 1) and drawn rows (weight 1 / probability), with its variance sums.
#pragma once

#include <array>

#include "vattention/attention/softmax_state.hpp"
#include "vattention/attention/squares.hpp"
#include "vattention/kernels/prefetch.hpp"

namespace vattn {

/// The sparse pass of one call. Keys of a row are read once, when it joins. At each look the values of
/// all drawn rows are summed anew, since a growth changes their probabilities, in the order of the
/// variance groups: one reading gives the numerator and all variance sums. Leaves a partial result for
/// each head in the workspace.
template <cache_view View>
class weighted_attention {
public:
  weighted_attention(const attention_call<View>& call, workspace& ws) noexcept
      : call_(call), ws_(ws), exact_(call, ws) {
    exact_.add(ws.exact.rows());
  }

  /// Scores the fresh rows of the draw, and asks for their values in ascending order, which is the fast one:
  /// they are summed in the order of the groups, from the cache. O(fresh rows), shared by the workers of the
  /// call.
  void read_fresh() noexcept {
    const index_t first = ws_.drawn.fresh();
    const index_t last = ws_.drawn.size();
    const index_t blocks = (last - first + workspace::block - 1) / workspace::block;
    const bool held = ws_.workers.alone() && (last - first) * value_bytes(call_.kv) <= held_bytes;
    ws_.workers.for_each(blocks, ws_, [&](workspace& scratch, index_t item) {
      const index_t at = first + item * workspace::block;
      const index_t count = std::min(workspace::block, last - at);
      read_block(at, count, last, scratch);
      if (held) prefetch_fresh(at, count);
    });
  }

  /// Forms every head's partial result from the exact rows and the whole draw.
  void estimate(design scheme, index_t residual) noexcept {
    equal_ = scheme == design::fixed_size;
    deal();
    prefetch_values();
    for (int h = 0; h < call_.heads(); ++h) start(h);
    ws_.workers.for_each(variance_groups, ws_, [&](workspace& scratch, index_t group) {
      add_group(static_cast<int>(group), scratch);
    });
    for (int h = 0; h < call_.heads(); ++h) finish(h, scheme, residual);
  }

private:
  /// Bytes of values that a second-level cache, or one behind it, keeps until they are summed.
  static constexpr index_t held_bytes = index_t{1} << 20;

  int heads() const noexcept { return call_.heads(); }
  index_t value_dim() const noexcept { return call_.kv.value_dim(); }
  row_t row(index_t at) const noexcept { return ws_.drawn.rows()[static_cast<std::size_t>(at)]; }

  void read_block(index_t at, index_t count, index_t last, workspace& scratch) noexcept {
    const View& kv = call_.kv;
    const index_t known = std::min(count + workspace::upcoming, last - at);
    for (index_t i = 0; i < known; ++i) scratch.addresses[i] = kv.key_row(row(at + i));
    call_.kernels.dot_rows(kv.key_type(), scratch.addresses.data(), count, known - count,
                           kv.key_dim(), call_.queries.data, call_.queries.stride, heads(),
                           ws_.logits_of(0) + at, ws_.logits_of(1) - ws_.logits_of(0));
    for (int h = 0; h < heads(); ++h)
      call_.to_logits(h, ws_.logits_of(h) + at, count, [&](index_t i) { return row(at + i); });
  }

  void prefetch_fresh(index_t at, index_t count) const noexcept {
    if constexpr (contiguous_values<View>)
      for (index_t i = at; i < at + count; ++i)
        kernels::prefetch_lines(call_.kv.value_row(row(i)), value_bytes(call_.kv), false);
  }

  /// Positions of the draw in the order of their variance groups.
  void deal() noexcept {
    const index_t count = ws_.drawn.size();
    std::uint8_t* group_of = ws_.group_of.data();
    begin_.fill(0);
    for (index_t at = 0; at < count; ++at) {
      group_of[at] = static_cast<std::uint8_t>(variance_group(call_.kv.first_row() + row(at)));
      ++begin_[group_of[at] + std::size_t{1}];
    }
    for (std::size_t g = 0; g < variance_groups; ++g) begin_[g + 1] += begin_[g];
    std::array<index_t, variance_groups + 1> next = begin_;
    for (index_t at = 0; at < count; ++at)
      ws_.by_group[next[group_of[at]]++] = static_cast<std::uint32_t>(at);
  }

  void start(int h) noexcept {
    const partial_view state = ws_.head(h);
    state.clear_numbers();
    state.max_logit() =
        std::max(exact_.max(h),
                 static_cast<double>(call_.kernels.max_of(ws_.logits_of(h), ws_.drawn.size())));
  }

  /// Weight rows a head has: a and s, and t where s is not in proportion to it.
  int parts() const noexcept { return equal_ ? 2 : 3; }
  float* weights_of(int part, int h, workspace& scratch) const noexcept {
    return scratch.weights.data() + (part * heads() + h) * workspace::block;
  }
  /// Sums of t of a group for each head.
  double* totals_of(int group) const noexcept {
    return ws_.group_totals.data() + std::ptrdiff_t{group} * heads();
  }

  /// Leaves the group's sums in the partial results, but for those of t, which all groups share.
  void add_group(int group, workspace& scratch) const noexcept {
    const index_t first = begin_[static_cast<std::size_t>(group)];
    const index_t last = begin_[static_cast<std::size_t>(group) + 1];
    std::fill_n(ws_.group_sums_of(group, 0, 0), parts() * heads() * value_dim(), 0.0F);
    std::fill_n(totals_of(group), heads(), 0.0);
    for (index_t at = first; at < last; at += workspace::block)
      add_block(group, at, std::min(workspace::block, last - at), scratch);
  }

  /// A block of one group: its values, while those of the next rows are on their way.
  void add_block(int group, index_t at, index_t count, workspace& scratch) const noexcept {
    const std::uint32_t* positions = ws_.by_group.data() + at;
    const View& kv = call_.kv;
    const index_t upcoming = std::min(workspace::upcoming, ws_.drawn.size() - at - count);
    const index_t known =
        address_values(kv, count, upcoming, [&](index_t i) { return row(positions[i]); }, scratch);
    if (!equal_) chances_of(positions, count, scratch);
    for (int h = 0; h < heads(); ++h) {
      weigh(h, positions, count, scratch);
      prefetch_share(h, known, scratch);
    }
    float* norms = scratch.chances.norms();
    call_.kernels.sum_rows(kv.value_type(), scratch.addresses.data(), count, known - count,
                           value_dim(), scratch.weights.data(), workspace::block, parts() * heads(),
                           ws_.group_sums_of(group, 0, 0), value_dim(), norms);
    if (!equal_)
      for (index_t i = 0; i < count; ++i) ws_.sample_norms[positions[i]] = norms[i];
    add_scalars(group, count, scratch);
  }

  /// Keeps the memory busy while weights are formed: a share of the rows that are neither on their way
  /// nor read at once.
  void prefetch_share(int h, index_t known, const workspace& scratch) const noexcept {
    if constexpr (!contiguous_values<View>) return;
    constexpr index_t half = workspace::upcoming / 2;
    const index_t last = std::min(known, half + half * (h + 1) / heads());
    const bool to_l1 = kernels::active_plan().to_l1;
    for (index_t i = half + half * h / heads(); i < last; ++i)
      kernels::prefetch_lines(scratch.addresses[i], value_bytes(call_.kv), to_l1);
  }

  /// Asks for the first values in the order of the groups: they are read next.
  void prefetch_values() const noexcept {
    if constexpr (contiguous_values<View>)
      for (index_t at = 0; at < std::min(workspace::upcoming, ws_.drawn.size()); ++at)
        kernels::prefetch_lines(call_.kv.value_row(row(ws_.by_group[at])), value_bytes(call_.kv),
                                false);
  }

  threshold_t row_threshold(index_t at) const noexcept {
    return ws_.drawn.size() == 0 ? certain : ws_.drawn.thresholds()[static_cast<std::size_t>(at)];
  }
  /// 1 - p, exactly 0 for a certain row.
  static double complement(threshold_t threshold) noexcept {
    return static_cast<double>(certain - threshold) * 0x1p-32;
  }

  /// 1 / p, 1 - p and sqrt(1 - p) of the rows of a block.
  void chances_of(const std::uint32_t* positions, index_t count,
                  workspace& scratch) const noexcept {
    block_chances& chances = scratch.chances;
    for (index_t i = 0; i < count; ++i) {
      const threshold_t threshold = row_threshold(positions[i]);
      const double q = complement(threshold);
      chances.inverse[i] = static_cast<float>(1.0 / probability(threshold));
      chances.complement[i] = static_cast<float>(q);
      chances.root[i] = static_cast<float>(std::sqrt(q));
    }
  }

  /// Weights of one head for a block: t = w / p, a = t^2 (1 - p) and, unless all p are equal,
  /// s = t sqrt(1 - p).
  void weigh(int h, const std::uint32_t* positions, index_t count,
             workspace& scratch) const noexcept {
    const block_chances& chances = scratch.chances;
    float* a = weights_of(0, h, scratch);
    float* s = weights_of(1, h, scratch);
    float* t = weights_of(parts() - 1, h, scratch);
    const float* logits = ws_.logits_of(h);
    for (index_t i = 0; i < count; ++i) t[i] = logits[positions[i]];
    detail::exponentiate(call_.kernels, ws_.head(h).max_logit(), t, count);
    if (equal_) {
      const auto inverse = static_cast<float>(1.0 / probability(row_threshold(0)));
      const auto q = static_cast<float>(complement(row_threshold(0)));
      for (index_t i = 0; i < count; ++i) {
        const float weight = t[i] * inverse;
        t[i] = weight;
        a[i] = weight * weight * q;
      }
      return;
    }
    for (index_t i = 0; i < count; ++i) {
      const float weight = t[i] * chances.inverse[i];
      t[i] = weight;
      a[i] = weight * weight * chances.complement[i];
      s[i] = weight * chances.root[i];
    }
  }

  /// Sums of t, a, a |v|^2 and s of a block, for all heads.
  void add_scalars(int group, index_t count, workspace& scratch) const noexcept {
    const int rows = parts() * heads();
    const void* weights[3 * workspace::most_heads];
    float scalars[6 * workspace::most_heads];
    for (int i = 0; i < rows; ++i) weights[i] = scratch.weights.data() + i * workspace::block;
    call_.kernels.dot_rows(element::f32, weights, rows, 0, count, scratch.chances.ones(),
                           workspace::block, 2, scalars, rows);
    const auto sum = [&](int part, int h) {
      return static_cast<double>(scalars[part * heads() + h]);
    };
    const double root = std::sqrt(complement(row_threshold(0)));
    for (int h = 0; h < heads(); ++h) {
      const partial_view state = ws_.head(h);
      totals_of(group)[h] += sum(parts() - 1, h);
      state.a(group) += sum(0, h);
      state.a_vv(group) += sum(parts(), h);
      state.s(group) += (equal_ ? root : 1.0) * sum(1, h);
    }
  }

  /// Variances of the sampled sums, then the exact rows on top.
  void finish(int h, design scheme, index_t residual) noexcept {
    const partial_view state = ws_.head(h);
    const auto root = static_cast<float>(std::sqrt(complement(row_threshold(0))));
    double a = 0, a_vv = 0, norm = 0;
    for (int group = 0; group < variance_groups; ++group) {
      a += state.a(group);
      a_vv += state.a_vv(group);
      state.denominator() += totals_of(group)[h];
      float* t_v = ws_.group_sums_of(group, parts() - 1, h);
      for (index_t j = 0; j < value_dim(); ++j) state.numerator()[j] += static_cast<double>(t_v[j]);
      // Where all probabilities are equal they stand for those of s from here on.
      for (index_t j = 0; equal_ && j < value_dim(); ++j) t_v[j] *= root;
    }
    for (index_t j = 0; j < value_dim(); ++j) norm += state.numerator()[j] * state.numerator()[j];
    const double d = state.denominator();
    state.uncertain() = static_cast<double>(count_uncertain(h));
    state.denominator_variance() = variance_of(a, d * d, scheme, residual);
    state.numerator_variance() = variance_of(a_vv, norm, scheme, residual);
    const double f = exact_.sum(h) == 0.0 ? 0.0 : std::exp(exact_.max(h) - state.max_logit());
    state.floor() = f * exact_.sum(h);
    state.denominator() += state.floor();
    for (index_t j = 0; j < value_dim(); ++j) state.numerator()[j] += f * exact_.numerator(h)[j];
  }

  /// Drawn rows that are not certain; a row hidden from this head is no evidence for it.
  index_t count_uncertain(int h) const noexcept {
    const index_t count = ws_.drawn.size();
    if (equal_ && call_.queries.logits.bias == nullptr)
      return row_threshold(0) == certain ? 0 : count;
    index_t uncertain = 0;
    for (index_t at = 0; at < count; ++at)
      uncertain += row_threshold(at) != certain && ws_.logits_of(h)[at] != call_.hidden ? 1 : 0;
    return uncertain;
  }

  /// For a draw of fixed size b with probability p: b / (b - 1) (A - (1 - p) total^2 / b), which is the
  /// textbook n^2 (1/b - 1/n) S^2. For independent inclusions A itself.
  double variance_of(double a, double total_square, design scheme,
                     index_t residual) const noexcept {
    if (scheme == design::independent || residual == 0) return a;
    const auto b = static_cast<double>(ws_.drawn.size());
    if (b < 2.0) return std::numeric_limits<double>::infinity();
    const double q = 1.0 - b / static_cast<double>(residual);
    return std::max(0.0, b / (b - 1.0) * (a - q * total_square / b));
  }

  const attention_call<View>& call_;
  workspace& ws_;
  softmax_state<View> exact_;
  // Of the look in progress: where the variance groups begin, and whether all probabilities are equal.
  std::array<index_t, variance_groups + 1> begin_{};
  bool equal_ = true;
};

}  // namespace vattn
