// SPDX-License-Identifier: Apache-2.0
/// @file
/// What takes part in a race: one pass over all heads of a step at a time.
#pragma once

#include <map>

#include "decode_data.hpp"
#include "peer.hpp"
#include "phases.hpp"
#include "plain_read.hpp"
#include "vattention/attention/dense.hpp"

namespace vattn_bench {

/// What all contenders of a race share.
struct arena {
  arena(const decode_shape& shape, std::uint64_t seed, bool huge_pages, int threads)
      : pool(threads),
        data(shape, seed, huge_pages, pool),
        spaces(static_cast<std::size_t>(threads)) {}

  /// Calls `body(head, workspace)` for every KV head.
  template <class Body>
  void for_each_head(Body body) {
    pool.for_each(static_cast<std::size_t>(data.shape().heads), [&](int thread, std::size_t head) {
      body(static_cast<index_t>(head), spaces[static_cast<std::size_t>(thread)]);
    });
  }

  workers pool;
  decode_data data;
  std::vector<vattn::workspace> spaces;
};

class contender {
public:
  contender(std::string name, arena& a) : name_(std::move(name)), arena_(a) {}
  contender(const contender&) = delete;
  contender& operator=(const contender&) = delete;
  virtual ~contender() = default;

  const std::string& name() const noexcept { return name_; }
  /// Takes the queries of the step. Not timed.
  virtual void prepare() {}
  /// All heads once. Timed.
  virtual void pass() = 0;
  /// Bytes that the last pass touched.
  virtual double bytes() const = 0;
  /// Outputs of the last pass, `[heads x group x dim]`; empty if it has none.
  virtual std::vector<float> outputs() const { return {}; }
  /// One certificate a query of the last pass; empty if it gives none.
  virtual std::vector<vattn::certificate> certificates() const { return {}; }
  /// A pass that looks at the clock; zeros if it has no parts. Seconds of all threads together.
  virtual phase_times profile() { return {}; }
  /// In which of several ways it is done; empty if there is one.
  virtual std::string way() const { return {}; }

protected:
  arena& shared() const noexcept { return arena_; }

private:
  std::string name_;
  arena& arena_;
};

/// The limit: keys and values are read, each once. All plans are tried, the fastest is raced.
class stream_contender : public contender {
public:
  using contender::contender;
  void use(const read_plan& plan) noexcept { plan_ = &plan; }
  /// Halves of heads are shared out among the threads.
  void pass() override {
    const decode_data& data = shared().data;
    const auto heads = static_cast<std::size_t>(data.shape().heads);
    const std::size_t part = data.half_bytes() / heads;
    shared().pool.for_each(2 * heads, [&](int, std::size_t i) {
      const void* half = i % 2 == 0 ? data.keys() : data.values();
      sum_ += plan_->read(static_cast<const std::byte*>(half) + i / 2 * part, part);
    });
  }
  double bytes() const override { return static_cast<double>(shared().data.shape().bytes()); }
  std::string way() const override { return plan_->name; }

private:
  const read_plan* plan_ = read_plans().data();
  std::atomic<std::uint64_t> sum_{0};  // so that reading cannot be left out
};

/// A contender of this library: outputs and certificates of every query.
class own_contender : public contender {
public:
  own_contender(std::string name, arena& a)
      : contender(std::move(name), a),
        outputs_(a.data.all_queries().size()),
        certificates_(static_cast<std::size_t>(a.data.shape().queries())) {}
  double bytes() const override {
    double sum = 0.0;
    for (std::size_t i = 0; i < certificates_.size(); i += group())
      sum += static_cast<double>(certificates_[i].bytes_touched);
    return sum;
  }
  std::vector<float> outputs() const override { return outputs_; }
  std::vector<vattn::certificate> certificates() const override { return certificates_; }

protected:
  /// Hands a head's result on, as a decoder does.
  void keep(index_t head, const vattn::result& r, vattn::workspace& ws) {
    const std::size_t first = static_cast<std::size_t>(head) * group();
    const auto dim = static_cast<std::size_t>(shared().data.shape().dim);
    std::copy_n(ws.output.data(), group() * dim, outputs_.data() + first * dim);
    for (std::size_t i = 0; i < group(); ++i) certificates_[first + i] = r.certificates[i];
  }

private:
  std::size_t group() const noexcept {
    return static_cast<std::size_t>(shared().data.shape().group);
  }
  std::vector<float> outputs_;
  std::vector<vattn::certificate> certificates_;
};

class dense_contender : public own_contender {
public:
  using own_contender::own_contender;
  void pass() override {
    const decode_data& data = shared().data;
    shared().for_each_head([&](index_t head, vattn::workspace& ws) {
      keep(head, vattn::dense(data.queries(head), data.cache(head), ws), ws);
    });
  }
};

/// Indices of all heads.
template <class Index>
using head_indices = std::shared_ptr<const std::vector<Index>>;

template <class TopK>
head_indices<typename TopK::index_type> make_indices(const TopK& top_k, arena& a) {
  std::vector<typename TopK::index_type> all;
  for (int h = 0; h < a.data.shape().heads; ++h)
    all.push_back(top_k.make_index(a.data.shape().dim));
  a.for_each_head([&](index_t head, vattn::workspace&) {
    all[static_cast<std::size_t>(head)].append(a.data.cache(head));
  });
  return std::make_shared<const std::vector<typename TopK::index_type>>(std::move(all));
}

/// A functor, and its twin that looks at the clock.
template <class Pair>
class functor_contender : public own_contender {
public:
  using index_type = typename decltype(Pair::plain)::index_type;
  functor_contender(std::string name, arena& a, Pair functors, head_indices<index_type> indices)
      : own_contender(std::move(name), a),
        functors_(std::move(functors)),
        indices_(std::move(indices)) {}

  void pass() override {
    shared().for_each_head([&](index_t head, vattn::workspace& ws) {
      keep(head, call(functors_.plain, head, ws), ws);
    });
  }
  phase_times profile() override {
    std::vector<phase_times> of_heads(static_cast<std::size_t>(shared().data.shape().heads));
    shared().for_each_head([&](index_t head, vattn::workspace& ws) {
      phase_clock::mine().begin();
      keep(head, call(functors_.profiled, head, ws), ws);
      of_heads[static_cast<std::size_t>(head)] = phase_clock::mine().end();
    });
    phase_times sum{};
    for (const phase_times& head : of_heads)
      for (std::size_t p = 0; p < sum.size(); ++p) sum[p] += head[p];
    return sum;
  }

private:
  template <class Functor>
  vattn::result call(const Functor& functor, index_t head, vattn::workspace& ws) const {
    const decode_data& data = shared().data;
    return functor(data.queries(head), data.cache(head),
                   (*indices_)[static_cast<std::size_t>(head)], data.key(head), ws);
  }
  Pair functors_;
  head_indices<index_type> indices_;
};

/// Another library's dense attention, in the better of its ways.
class peer_contender : public contender {
public:
  peer_contender(arena& a, peer_family family)
      : contender(family.name, a), family_(std::move(family)) {}

  std::size_t ways() const noexcept { return family_.ways.size(); }
  double tolerance() const noexcept { return family_.tolerance; }
  /// Races this way, and frees the others.
  void settle(std::size_t way) {
    std::swap(family_.ways[0], family_.ways[way]);
    family_.ways.resize(1);
    way_ = 0;
  }
  void use(std::size_t way) noexcept { way_ = way; }

  void prepare() override { now().prepare(shared().data.all_queries().data()); }
  void pass() override { now().run(); }
  double bytes() const override { return family_.bytes; }
  std::vector<float> outputs() const override {
    std::vector<float> out(shared().data.all_queries().size());
    now().output(out.data());
    return out;
  }
  std::string way() const override { return family_.ways[way_].first; }

private:
  peer& now() const noexcept { return *family_.ways[way_].second; }
  peer_family family_;
  std::size_t way_ = 0;
};

/// Error of each query relative to the norm of the other output, both `[queries x dim]`.
inline std::vector<double> output_errors(const std::vector<float>& outputs,
                                         const std::vector<float>& exact, index_t dim) {
  std::vector<double> errors;
  for (std::size_t at = 0; at < exact.size(); at += static_cast<std::size_t>(dim)) {
    const Eigen::Map<const Eigen::VectorXf> o(outputs.data() + at, dim);
    const Eigen::Map<const Eigen::VectorXf> e(exact.data() + at, dim);
    errors.push_back(static_cast<double>((o - e).norm()) / static_cast<double>(e.norm()));
  }
  return errors;
}

}  // namespace vattn_bench
