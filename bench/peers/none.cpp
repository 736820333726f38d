// SPDX-License-Identifier: Apache-2.0
// Stands in for the peers that this build has not.
#include "support/peer.hpp"

namespace vattn_bench {

#if !defined(VATTN_BENCH_WITH_TORCH)
peer_family torch_peers(const decode_data& /*data*/, int /*threads*/) { return {}; }
std::string torch_version() { return {}; }
#endif
#if !defined(VATTN_BENCH_WITH_GGML)
std::vector<peer_family> ggml_peers(const decode_data& /*data*/, int /*threads*/) { return {}; }
std::string ggml_version() { return {}; }
#endif

}  // namespace vattn_bench
