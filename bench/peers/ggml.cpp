// SPDX-License-Identifier: Apache-2.0
#include <ggml-cpu.h>
#include <ggml.h>

#include <stdexcept>

#include "support/peer.hpp"

namespace vattn_bench {

namespace {

/// A copy of rows in another type, made by `threads` threads; f16 rows are used as they are.
class converted {
public:
  converted(const decode_data& data, const void* from, ggml_type type, workers& pool) {
    const decode_shape& shape = data.shape();
    if (type == GGML_TYPE_F16 && shape.type == element::f16) {
      data_ = from;
      return;
    }
    const std::size_t row = ggml_row_size(type, shape.dim);
    const auto count = static_cast<std::size_t>(shape.heads * shape.rows);
    store_ = page_store(row * count, data.huge_pages());
    data_ = store_.data();
    constexpr std::size_t block = 1024;
    const auto size = static_cast<std::size_t>(vattn::size_of(shape.type) * shape.dim);
    pool.for_each((count + block - 1) / block, [&](int, std::size_t b) {
      std::vector<float> wide(static_cast<std::size_t>(shape.dim));
      for (std::size_t i = b * block; i < std::min(count, (b + 1) * block); ++i) {
        widen(static_cast<const std::byte*>(from) + i * size, shape.type, wide);
        ggml_quantize_chunk(type, wide.data(), store_.data() + i * row, 0, 1, shape.dim, nullptr);
      }
    });
  }
  void* data() const noexcept { return const_cast<void*>(data_); }

private:
  static void widen(const std::byte* from, element type, std::vector<float>& out) {
    const auto as = [&](const auto* x) {
      for (float& y : out) y = static_cast<float>(*x++);
    };
    if (type == element::f32) return as(reinterpret_cast<const float*>(from));
    if (type == element::bf16) return as(reinterpret_cast<const Eigen::bfloat16*>(from));
    as(reinterpret_cast<const Eigen::half*>(from));
  }

  page_store store_;
  const void* data_ = nullptr;
};

class ggml_peer : public peer {
public:
  ggml_peer(const decode_shape& shape, std::shared_ptr<const converted> keys,
            std::shared_ptr<const converted> values, ggml_type type, int threads, bool grouped)
      : shape_(shape), keys_(std::move(keys)), values_(std::move(values)), grouped_(grouped) {
    const std::size_t room = 16 * ggml_tensor_overhead() + ggml_graph_overhead();
    context_.reset(ggml_init({room, nullptr, true}));
    const std::int64_t rows = grouped ? shape.group : 1;
    const std::int64_t heads = shape.queries() / rows;
    ggml_tensor* q = ggml_new_tensor_3d(context_.get(), GGML_TYPE_F32, shape.dim, rows, heads);
    ggml_tensor* k = ggml_new_tensor_3d(context_.get(), type, shape.dim, shape.rows, shape.heads);
    ggml_tensor* v = ggml_new_tensor_3d(context_.get(), type, shape.dim, shape.rows, shape.heads);
    const float scale = 1.0F / std::sqrt(static_cast<float>(shape.dim));
    ggml_tensor* out = ggml_flash_attn_ext(context_.get(), q, k, v, nullptr, scale, 0.0F, 0.0F);
    queries_.resize(static_cast<std::size_t>(shape.queries() * shape.dim));
    output_.resize(queries_.size());
    q->data = queries_.data();
    k->data = keys_->data();
    v->data = values_->data();
    out->data = output_.data();
    graph_ = ggml_new_graph(context_.get());
    ggml_build_forward_expand(graph_, out);
    plan_ = ggml_graph_plan(graph_, threads, nullptr);
    work_.resize(plan_.work_size);
    plan_.work_data = work_.data();
  }

  void prepare(const float* queries) override {
    std::copy_n(queries, queries_.size(), queries_.data());
  }
  void run() override {
    if (ggml_graph_compute(graph_, &plan_) != GGML_STATUS_SUCCESS)
      throw std::runtime_error("ggml could not compute its graph");
  }
  void output(float* out) const override {
    const auto dim = static_cast<std::size_t>(shape_.dim);
    const auto heads = static_cast<std::size_t>(shape_.heads);
    const auto group = static_cast<std::size_t>(shape_.group);
    for (std::size_t h = 0; h < heads; ++h)
      for (std::size_t j = 0; j < group; ++j) {
        const std::size_t from = grouped_ ? j * heads + h : h * group + j;
        std::copy_n(output_.data() + from * dim, dim, out + (h * group + j) * dim);
      }
  }

private:
  struct release {
    void operator()(ggml_context* c) const noexcept { ggml_free(c); }
  };
  decode_shape shape_;
  std::shared_ptr<const converted> keys_, values_;
  bool grouped_;
  std::unique_ptr<ggml_context, release> context_;
  std::vector<float> queries_, output_;
  std::vector<std::uint8_t> work_;
  ggml_cgraph* graph_ = nullptr;
  ggml_cplan plan_{};
};

peer_family family(const decode_data& data, ggml_type type, int threads, workers& pool) {
  const decode_shape& shape = data.shape();
  const double row = static_cast<double>(ggml_row_size(type, shape.dim));
  // Sums of n rows in f16 walk off by its rounding error times the root of n.
  const double rounding = 0x1p-11 * std::sqrt(static_cast<double>(shape.rows));
  peer_family all{std::string("ggml ") + ggml_type_name(type),
                  2.0 * row * static_cast<double>(shape.heads * shape.rows),
                  type == GGML_TYPE_Q8_0 ? 0.05 : std::max(0.01, rounding),
                  {}};
  const auto keys = std::make_shared<converted>(data, data.keys(), type, pool);
  const auto values = std::make_shared<converted>(data, data.values(), type, pool);
  for (const bool grouped : {false, true})
    if (!grouped || shape.group > 1)
      all.ways.emplace_back(
          grouped ? "grouped rows" : "shared heads",
          std::make_unique<ggml_peer>(shape, keys, values, type, threads, grouped));
  return all;
}

}  // namespace

std::vector<peer_family> ggml_peers(const decode_data& data, int threads) {
  ggml_cpu_init();
  workers pool(threads);
  std::vector<peer_family> all;
  for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_Q8_0})
    if (data.shape().dim % ggml_blck_size(type) == 0)
      all.push_back(family(data, type, threads, pool));
  return all;
}

std::string ggml_version() { return ::ggml_version(); }

}  // namespace vattn_bench
