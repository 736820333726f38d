#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Usage: bench/peers.sh torch|ggml...
# Brings other people's attention for `bench/run.sh decode` from PyPI, into build/tools: torch as a wheel
# with the two libraries that it loads (1.4 GB), ggml from the source of llama-cpp-python, compiled for this
# machine (some minutes a core). The next `bench/run.sh decode` finds them.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=cmake/setup.sh
. "$root/cmake/setup.sh"

need_pip() {
  vattn_setup build
  [ -x "$VATTN_TOOLS/bin/pip" ] || vattn_pip pip
}

add_torch() {
  need_pip
  "$VATTN_TOOLS/bin/pip" install --no-deps torch nvidia-cuda-runtime nvidia-cuda-cupti
}

add_ggml() {
  need_pip
  local work=$root/build/ggml source
  mkdir -p "$work"
  "$VATTN_TOOLS/bin/pip" download --no-deps --no-binary llama-cpp-python -d "$work" llama-cpp-python
  tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work"
  source=$(find "$work" -path '*/vendor/llama.cpp/ggml' -type d | head -n 1)
  touch "$source/ggml.pc.in" # the archive lacks this template of a file nobody needs here
  cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
    -DGGML_BUILD_TESTS=OFF -DGGML_BUILD_EXAMPLES=OFF -DCMAKE_INSTALL_PREFIX="$VATTN_TOOLS/ggml"
  nice cmake --build "$work/build" -j "$VATTN_JOBS"
  cmake --install "$work/build"
}

[ $# -gt 0 ] || { sed -n '3,6p' "$0" >&2; exit 2; }
for peer in "$@"; do
  case $peer in
    torch) add_torch ;;
    ggml) add_ggml ;;
    *) sed -n '3,6p' "$0" >&2; exit 2 ;;
  esac
done
