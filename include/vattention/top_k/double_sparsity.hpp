// SPDX-License-Identifier: Apache-2.0
/// @file
/// Predicted logits from a few channels of the keys, kept as 4-bit labels.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "vattention/core/concepts.hpp"
#include "vattention/kernels/convert.hpp"
#include "vattention/top_k/channel_choice.hpp"
#include "vattention/top_k/index_growth.hpp"
#include "vattention/top_k/indexed_type.hpp"
#include "vattention/top_k/pick_size.hpp"

namespace vattn::top_k {

/// Of each key some channels as 4-bit labels: c = round((x - min) / step) for its coordinates x there, with min the
/// largest fp16 that is not above the least of them and step the least fp16 that lets the largest be 15 or less. A
/// coordinate is off by half a step at most, and by a float rounding.
///
/// The channels are given, or else those of largest mean |k_j| among the first 256 keys (ties by channel number;
/// keys that are not finite do not count). Until a cache has that many, they are chosen and all keys coded anew at
/// each append; from then on they never change. They belong to the index, so each layer and KV head has its own.
///
/// Memory a key: 4 bytes, and half a byte a channel, their number padded to a multiple of 8; e.g. 12 bytes for 16.
class double_sparsity_index {
public:
  /// First keys that the channels are chosen by where none are given.
  static constexpr index_t choosing_rows = 256;

  /// Of the given channels, whose order does not matter.
  /// @throws std::invalid_argument that names the channel that is no number in [0, key_dim) or is there twice; if
  /// there is none; or for a dimension outside [1, 4096].
  double_sparsity_index(const std::vector<std::int32_t>& channels, index_t key_dim)
      : double_sparsity_index(checked(channels, key_dim), key_dim, true) {}

  /// Of `count` channels, at least 1, that it chooses itself; of all if `count` is more than `key_dim`.
  /// @throws std::invalid_argument for another number of channels, or a dimension outside [1, 4096].
  static double_sparsity_index choosing(index_t count, index_t key_dim) {
    require(count >= 1, "double_sparsity_index", "at least 1 channel", count);
    require_dim(key_dim);
    std::vector<row_t> first;
    for (index_t j = 0; j < std::min(count, key_dim); ++j) first.push_back(static_cast<row_t>(j));
    return {std::move(first), key_dim, false};
  }

  /// Takes in the rows [rows(), kv.rows()). O(d) a key; allocates.
  /// @throws std::invalid_argument if the view has fewer rows than the index, or keys of another dimension or type.
  template <cache_view View>
  void append(const View& kv) {
    require_growth("double_sparsity_index::append", kv, dim_, rows_);
    type_.require_of("double_sparsity_index::append", kv, rows_);
    const bool anew = !given_ && rows_ < choosing_rows;
    std::vector<float> key(static_cast<std::size_t>(dim_)), kept(channels_.size());
    std::vector<row_t> channels = anew ? loudest(kv, key) : channels_;
    reserve(kv.rows());
    // From here on nothing throws.
    channels_ = std::move(channels);
    if (anew) std::fill(codes_.begin(), codes_.end(), std::uint8_t{0});
    for (index_t row = anew ? 0 : rows_; row < kv.rows(); ++row) {
      kernels::load_row(kv.key_type(), kv.key_row(static_cast<row_t>(row)), dim_, key.data());
      label(row, key, kept);
    }
    rows_ = kv.rows();
    type_.took(kv);
  }

  /// Forgets the rows from `rows` on and up to 15 before them, or all where that leaves fewer than choose the channels.
  void forget(index_t rows) noexcept {
    if (rows >= rows_) return;
    const index_t kept = rows / kernels::code_block * kernels::code_block;
    rows_ = !given_ && kept < choosing_rows ? 0 : kept;
    codes_.resize(static_cast<std::size_t>(bytes_of_codes(rows_)));
  }

  static constexpr const char* kind = "double_sparsity";
  template <class File>
  void exchange(File& file) {
    file.same("dimension", dim_);
    file.same("channels", static_cast<index_t>(channels_.size()));
    file.same("channels that are given", given_ ? 1 : 0);
    if (given_)
      for (const row_t channel : channels_) file.same("channel", channel);
    else
      file.ascending(channels_, dim_);
    file.number(rows_);
    type_.exchange(file);
    file.numbers(codes_, bytes_of_codes(rows_));
    file.numbers(steps_, rows_);
    file.numbers(lows_, rows_);
  }

  index_t rows() const noexcept { return rows_; }
  template <cache_view View>
  bool fits(const View& kv) const noexcept {
    return dim_ == kv.key_dim() && type_.admits(kv, rows_);
  }
  template <cache_view View>
  bool matches(const View& kv) const noexcept {
    return rows_ == kv.rows() && fits(kv);
  }

  index_t dim() const noexcept { return dim_; }
  /// Numbers of the channels, ascending.
  std::span<const row_t> channels() const noexcept { return channels_; }
  /// Words of labels, as in `kernels::table::scan_codes`.
  index_t words() const noexcept { return words_of(static_cast<index_t>(channels_.size())); }
  static index_t words_of(index_t channels) noexcept { return (channels + 7) / 8; }
  /// Packed labels from the block of 16 keys on that begins with key `first`.
  const std::uint8_t* codes(index_t first) const noexcept {
    return codes_.data() + first / kernels::code_block * 64 * words();
  }
  /// Steps and least values of the keys from `first` on, fp16. The step is NaN for a key that is not finite or too
  /// large for labels.
  const std::uint16_t* steps(index_t first) const noexcept { return steps_.data() + first; }
  const std::uint16_t* lows(index_t first) const noexcept { return lows_.data() + first; }

private:
  static constexpr std::uint16_t not_a_number = 0x7E00;
  static constexpr int most = 15;

  double_sparsity_index(std::vector<row_t> channels, index_t key_dim, bool given)
      : channels_(std::move(channels)), dim_(key_dim), given_(given) {}

  static void require_dim(index_t key_dim) {
    require(key_dim >= 1 && key_dim <= rows_view::max_dim, "double_sparsity_index",
            "1 <= key dimension <= 4096", key_dim);
  }
  /// The channels in order.
  static std::vector<row_t> checked(const std::vector<std::int32_t>& channels, index_t key_dim) {
    require_dim(key_dim);
    require(!channels.empty(), "double_sparsity_index", "at least 1 channel", channels.size());
    std::vector<bool> there(static_cast<std::size_t>(key_dim));
    for (const std::int32_t channel : channels) {
      require(channel >= 0 && channel < key_dim, "double_sparsity_index",
              "channels from 0 to below the dimension (channel, dimension)", channel, key_dim);
      const auto at = static_cast<std::size_t>(channel);
      require(!there[at], "double_sparsity_index", "each channel once (channel)", channel);
      there[at] = true;
    }
    return ascending(channels);
  }
  static std::vector<row_t> ascending(const std::vector<std::int32_t>& channels) {
    std::vector<row_t> out(channels.begin(), channels.end());
    std::sort(out.begin(), out.end());
    return out;
  }

  /// As many channels as there are, by the first keys of the view; `key` is scratch.
  template <cache_view View>
  std::vector<row_t> loudest(const View& kv, std::vector<float>& key) const {
    channel_magnitudes of_keys(dim_);
    for (index_t row = 0; row < std::min(kv.rows(), choosing_rows); ++row) {
      kernels::load_row(kv.key_type(), kv.key_row(static_cast<row_t>(row)), dim_, key.data());
      of_keys.add(key);
    }
    return ascending(channel_magnitudes::largest(dim_, static_cast<index_t>(channels_.size()),
                                                 [&](index_t j) { return of_keys.mean(j); }));
  }

  index_t bytes_of_codes(index_t rows) const noexcept {
    return (rows + kernels::code_block - 1) / kernels::code_block * 64 * words();
  }
  void reserve(index_t rows) {
    grow(codes_, static_cast<std::size_t>(bytes_of_codes(rows)));
    grow(steps_, static_cast<std::size_t>(rows));
    grow(lows_, static_cast<std::size_t>(rows));
  }
  template <class T>
  static void grow(std::vector<T>& v, std::size_t size) {
    reserve_ahead(v, static_cast<index_t>(size));
    if (size > v.size()) v.resize(size);
  }

  /// Labels of a key, into codes that are 0; `kept` is scratch.
  void label(index_t row, const std::vector<float>& key, std::vector<float>& kept) noexcept {
    std::uint16_t& step_bits = steps_[static_cast<std::size_t>(row)];
    std::uint16_t& low_bits = lows_[static_cast<std::size_t>(row)];
    step_bits = not_a_number;
    low_bits = 0;
    if (!std::all_of(key.begin(), key.end(), [](float x) { return std::isfinite(x); })) return;
    for (std::size_t i = 0; i < kept.size(); ++i) kept[i] = key[channels_[i]];
    const auto [least, largest] = std::minmax_element(kept.begin(), kept.end());
    const auto low = static_cast<std::uint16_t>(kernels::f16_up(-*least) ^ 0x8000U);
    const float from = kernels::f16_to_float(low);
    const std::uint16_t up = kernels::f16_up((*largest - from) / static_cast<float>(most));
    const float step = kernels::f16_to_float(up);
    if (!std::isfinite(from) || !std::isfinite(step)) return;
    step_bits = up;
    low_bits = low;
    if (step > 0.0F) pack(row, kept, from, step);
  }
  void pack(index_t row, const std::vector<float>& kept, float from, float step) noexcept {
    constexpr std::size_t word = 8, half = 4;  // channels
    std::uint8_t* key =
        codes_.data() + row / kernels::code_block * 64 * words() + row % kernels::code_block * 4;
    for (std::size_t i = 0; i < kept.size(); ++i) {
      const float steps =
          std::clamp(std::nearbyint((kept[i] - from) / step), 0.0F, static_cast<float>(most));
      const int shift = i % word < half ? 0 : 4;
      std::uint8_t& pair = key[i / word * 64 + i % half];
      pair = static_cast<std::uint8_t>(pair | static_cast<int>(steps) << shift);
    }
  }

  std::vector<row_t> channels_;
  std::vector<std::uint8_t> codes_;
  std::vector<std::uint16_t> steps_, lows_;
  index_t dim_, rows_ = 0;
  indexed_type type_;
  bool given_;
};

/// Scores every key by q.k over a few channels, with the key's 4-bit labels there and the query as int8: the product
/// min sum_j q_j + step sum_j q_j c_j, the sums in integers (so the same scores on every kernel row), then scale,
/// soft-cap and bias like a true logit. Takes the k best of each head, and rows whose keys are not finite or too
/// large for fp16.
/// Source: Double Sparsity, arXiv 2408.07092. Queries are int8 here and 4 bits there; query heads of a group share
/// the channels, as they share the labels.
///
/// The scores are logits over the kept channels: log-weights as far as the other channels add the same to all keys
/// (`mass` counts on that). Good where a few channels carry the products, as in keys with outlier channels; on keys
/// without such channels r of d of them explain r / d of a logit's variance: half of 64 then find a fifth of the
/// heaviest 1 % of the rows. Channels that the index chooses itself are loud in the keys, which need not be where
/// queries are loud: `choose_channels` sees both.
///
/// Reads 4 bytes a key and half a byte a channel, their number padded to a multiple of 8. A key costs a head .5 ns at
/// 16 channels and .8 ns at 64 (4 heads, the widest kernels).
///
/// On captured heads 16 of 64 channels, chosen by queries, leave 1.3 to 34 % of the mass to the sample, nearly as little
/// as 2-bit codes of all; beside it a uniform sample's errors were 6.7 % at most at epsilon 5 % (144 outputs).
///
/// Where its certificates end: as a proposal (`proposing`; epsilon = delta = .1) 16 channels chosen by queries read 7.8 %
/// of the rows and 12.5 % of the bytes, and 85 of 3,072 captured (head, query) rows were beyond epsilon more often than
/// delta, with errors of up to 318 %; 32 channels 6.1 and 14.0 %, 14 rows, up to 101 %.
class double_sparsity {
public:
  using role = vattn::role::top_k;
  using index_type = double_sparsity_index;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = true;

  /// Channels that are kept, at least 1; all d where that is fewer. k as rows, as a share of the visible rows, or as a
  /// share of the predicted mass.
  /// @throws std::invalid_argument for another number of channels.
  double_sparsity(index_t channels, pick_size k) : channels_(channels), k_(k) {
    require(channels >= 1, "double_sparsity", "at least 1 channel", channels);
  }

  /// An index that chooses its channels by its first keys.
  double_sparsity_index make_index(index_t key_dim) const {
    return double_sparsity_index::choosing(channels_, key_dim);
  }
  /// An index of given channels, e.g. of `choose_channels`.
  /// @throws std::invalid_argument as the index, or if there are not as many channels as the policy keeps.
  double_sparsity_index make_index(const std::vector<std::int32_t>& channels,
                                   index_t key_dim) const {
    require(static_cast<index_t>(channels.size()) == kept(key_dim), "double_sparsity::make_index",
            "as many channels as the policy keeps (channels, kept)", channels.size(),
            kept(key_dim));
    return {channels, key_dim};
  }

  template <cache_view View>
  void predict(const attention_call<View>& call, const double_sparsity_index& index,
               predictions& seen, workspace& ws) const noexcept {
    for (int h = 0; h < call.heads(); ++h) code_query(call, index, h, ws);
    ws.workers.over_rows(call.visible, ws, [&](workspace& scratch, half_open rows) {
      for (index_t at = rows.first; at < rows.last; at += workspace::block)
        score_block(call, index, at, std::min(workspace::block, rows.last - at), seen, ws, scratch);
    });
  }

  template <cache_view View>
  void select(const attention_call<View>& call, const predictions& /*seen*/,
              workspace& ws) const noexcept {
    select_sized(call, k_, ws);
  }
  /// Rows that `select` takes for each head, at most.
  template <cache_view View>
  index_t picks(const attention_call<View>& call) const noexcept {
    return k_.most(call.visible);
  }

  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& call) const noexcept {
    const index_t blocks = (call.visible + kernels::code_block - 1) / kernels::code_block;
    return blocks * 64 * double_sparsity_index::words_of(kept(call.kv.key_dim())) +
           4 * call.visible;
  }
  basis coverage() const noexcept { return basis::measured_on_average; }

private:
  index_t kept(index_t key_dim) const noexcept { return std::min(channels_, key_dim); }
  /// Coordinates that a query's int8 codes in ws.query_codes are padded to.
  static index_t padded(const double_sparsity_index& index) noexcept {
    return (8 * index.words() + 31) / 32 * 32;
  }

  /// Rounds the kept channels of a query to int8; leaves their step and their sum in ws.query_terms. The step is NaN
  /// for a query that is not finite.
  template <cache_view View>
  static void code_query(const attention_call<View>& call, const double_sparsity_index& index,
                         int h, workspace& ws) noexcept {
    const std::span<const row_t> channels = index.channels();
    const float* query = call.queries.data + h * call.queries.stride;
    std::int8_t* codes = ws.query_codes.data() + h * padded(index);
    float largest = 0.0F;
    for (const row_t j : channels) largest = std::max(largest, std::fabs(query[j]));
    const bool finite =
        std::all_of(query, query + index.dim(), [](float x) { return std::isfinite(x); });
    const float step = finite ? largest / 127.0F : std::numeric_limits<float>::quiet_NaN();
    // A query too small to divide by is coded as 0: it tells no key from another.
    const float inverse = step > 0x1p-126F ? 1.0F / step : 0.0F;
    std::int32_t sum = 0;
    std::fill_n(codes, padded(index), std::int8_t{0});
    for (std::size_t i = 0; inverse > 0.0F && i < channels.size(); ++i) {
      const float rounded =
          std::nearbyint(std::clamp(query[channels[i]] * inverse, -127.0F, 127.0F));
      codes[i] = static_cast<std::int8_t>(rounded);
      sum += codes[i];
    }
    ws.query_terms[4 * h] = step;
    ws.query_terms[4 * h + 1] = static_cast<float>(sum);
  }

  template <cache_view View>
  static void score_block(const attention_call<View>& call, const double_sparsity_index& index,
                          index_t at, index_t count, predictions& seen, const workspace& ws,
                          workspace& scratch) noexcept {
    static constexpr std::array<std::uint8_t, 16> levels{0, 1, 2,  3,  4,  5,  6,  7,
                                                         8, 9, 10, 11, 12, 13, 14, 15};
    const std::int32_t* sums = scratch.code_dots.data();
    call.kernels.scan_codes(4, index.codes(at),
                            (count + kernels::code_block - 1) / kernels::code_block, index.words(),
                            levels.data(), ws.query_codes.data(), padded(index), call.heads(),
                            scratch.code_dots.data(), workspace::block);
    float* low = scratch.weights.data();
    for (int h = 0; h < call.heads(); ++h, sums += workspace::block) {
      const float step = ws.query_terms[4 * h];
      const auto sum = static_cast<std::int32_t>(ws.query_terms[4 * h + 1]);
      float* score = seen.scores(h).data() + at;
      call.kernels.scale_sums(sums, index.steps(at), count, 1, 0, step, 0.0F, score);
      call.kernels.scale_sums(sums, index.lows(at), count, 0, sum, step, 0.0F, low);
      for (index_t i = 0; i < count; ++i) score[i] += low[i];
      call.to_logits(h, score, count, [=](index_t i) { return at + i; });
    }
  }

  index_t channels_;
  pick_size k_;
};
static_assert(top_k_policy<double_sparsity>);
static_assert(living_index<double_sparsity_index>);

}  // namespace vattn::top_k
