#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains HashAttention networks on captured heads and compares them with other predictors: installs what is missing,
# trains on each capture by train.py (half a minute a KV head on one core), builds compare, and prints its table for
# each of the trained files on all of the captures.
#
#   bash examples/hash_attention/run.sh [CAPTURE...] [-- OPTIONS of train.py]     default: the captures in ../data
#
# Weights and programs come under build/hash_attention. PyTorch is taken from PyPI (some GB) into a virtual environment
# under build/, unless python3, or the one that VATTN_PYTHON names, has torch and safetensors.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=cmake/setup.sh
. "$root/cmake/setup.sh"

captures=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    -*) sed -n '3,10p' "$0" >&2; exit 2 ;;
  esac
  [ -e "$1" ] || vattn_die "no capture $1"
  captures+=("$1")
  shift
done
[ $# -eq 0 ] || shift
[ ${#captures[@]} -gt 0 ] || captures=("$root"/examples/data/*.safetensors)

vattn_setup build examples
python=${VATTN_PYTHON:-python3}
if ! "$python" -c 'import torch, safetensors' 2>/dev/null; then
  [ -z "${VATTN_PYTHON:-}" ] || vattn_die "$python has no torch or no safetensors"
  python=$VATTN_TOOLS/bin/python
  if ! "$python" -c 'import torch, safetensors' 2>/dev/null; then
    echo "Installing PyTorch (some minutes) ..."
    for package in numpy torch safetensors; do vattn_pip "$package"; done
  fi
fi

build=$root/build/hash_attention
mkdir -p "$build"
echo "Building compare ..."
configure=(-S "$here" -B "$build/compare" -DCMAKE_BUILD_TYPE=Release)
[ -e "$build/compare/CMakeCache.txt" ] || ! command -v ninja >/dev/null || configure+=(-G Ninja)
{ cmake "${configure[@]}" && cmake --build "$build/compare" --parallel "$VATTN_JOBS"; } \
  >"$build/build.log" 2>&1 || {
  tail -n 20 "$build/build.log" >&2
  vattn_die "the build failed, its output is in $build/build.log"
}

trained=()
for capture in "${captures[@]}"; do
  weights=$build/$(basename "$capture")
  "$python" "$here/train.py" "$capture" "$weights" "$@"
  trained+=("$weights")
done
for weights in "${trained[@]}"; do
  printf '\n== weights trained on %s\n' "$(basename "$weights" .safetensors)"
  "$build/compare/compare" "$weights" "${captures[@]}"
done
