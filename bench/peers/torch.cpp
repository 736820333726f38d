// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/core/InferenceMode.h>
#include <torch/headeronly/version.h>

#include "support/peer.hpp"

namespace vattn_bench {

namespace {

at::ScalarType type_of(element type) {
  return type == element::f32 ? at::kFloat : type == element::bf16 ? at::kBFloat16 : at::kHalf;
}

class torch_peer : public peer {
public:
  /// `grouped`: the queries of a group are rows of one head, else heads of their own.
  torch_peer(const decode_data& data, int threads, bool grouped)
      : shape_(data.shape()), threads_(threads), grouped_(grouped) {
    const c10::InferenceMode guard;
    const auto view = [&](const void* from) {
      return at::from_blob(const_cast<void*>(from), {1, shape_.heads, shape_.rows, shape_.dim},
                           at::TensorOptions(type_of(shape_.type)));
    };
    keys_ = view(data.keys());
    values_ = view(data.values());
  }

  void prepare(const float* queries) override {
    const c10::InferenceMode guard;
    const auto all = at::from_blob(const_cast<float*>(queries),
                                   {1, shape_.heads, shape_.group, shape_.dim}, at::kFloat)
                         .to(type_of(shape_.type));
    queries_ = (grouped_ ? all : all.reshape({1, shape_.queries(), 1, shape_.dim})).clone();
  }

  void run() override {
    const c10::InferenceMode guard;
    if (at::get_num_threads() != threads_) at::set_num_threads(threads_);
    output_ = at::scaled_dot_product_attention(queries_, keys_, values_, {}, 0.0, false,
                                               std::nullopt, !grouped_ && shape_.group > 1);
  }

  void output(float* out) const override {
    const c10::InferenceMode guard;
    const auto all = output_.to(at::kFloat).contiguous();
    std::copy_n(all.const_data_ptr<float>(), shape_.queries() * shape_.dim, out);
  }

private:
  decode_shape shape_;
  int threads_;
  bool grouped_;
  at::Tensor keys_, values_, queries_, output_;
};

}  // namespace

peer_family torch_peers(const decode_data& data, int threads) {
  peer_family all{"torch", static_cast<double>(data.shape().bytes()), 0.01, {}};
  all.ways.emplace_back("enable_gqa", std::make_unique<torch_peer>(data, threads, false));
  if (data.shape().group > 1)
    all.ways.emplace_back("grouped rows", std::make_unique<torch_peer>(data, threads, true));
  return all;
}

std::string torch_version() { return TORCH_VERSION; }

}  // namespace vattn_bench
