#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Attends to captured heads of a real model with certificates and shows how good they were: installs
# what is missing, builds real_heads, prints its table, draws two pictures of it.
#
#   bash examples/demo.sh [OPTIONS] [FILES]     all of them go to real_heads; --help lists them
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=cmake/setup.sh
. "$root/cmake/setup.sh"
vattn_setup build examples plots

build=$root/build/demo
out=$build/results
help=no
previous=
for argument in "$@"; do
  [ "$previous" = --out ] && out=$argument
  case $argument in
    --out=*) out=${argument#--out=} ;;
    -h | --help) help=yes ;;
  esac
  previous=$argument
done

mkdir -p "$build"
echo "Building examples/real_heads (about a minute the first time) ..."
configure=(-S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release
  -DVATTN_BUILD_TESTS=OFF -DVATTN_BUILD_BENCH=OFF -DVATTN_BUILD_EXAMPLES=ON)
[ -e "$build/CMakeCache.txt" ] || ! command -v ninja >/dev/null || configure+=(-G Ninja)
{ cmake "${configure[@]}" && cmake --build "$build" --target real_heads --parallel "$VATTN_JOBS"; } \
  >"$build/build.log" 2>&1 || {
  tail -n 20 "$build/build.log" >&2
  vattn_die "the build failed, its output is in $build/build.log"
}

"$build/examples/real_heads" --out "$out" "$@"
[ $help = yes ] || /usr/bin/python3 "$root/examples/plot_real_heads.py" "$out/real_heads.csv"
