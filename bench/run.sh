#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: bench/run.sh NAME [options]

Installs what is missing (apt-get; see cmake/setup.sh), builds one program in Release under build/bench,
and runs it from the repository's root. `bench/run.sh NAME --help` lists its options. Names:
  coverage         share of outputs beyond epsilon, per row, for every composition, and rows read
  epsilon_error    observed errors against the epsilon that was asked: correlation and coverage
  residuals        entropy, mass and kurtosis of the weights that are left to sampling
  small_samples    CLT, Student, Hoeffding and Bernstein at small b, by kurtosis
  hybrid           rows for equal error: top-k alone, sampling alone, both
  adversary        caches made to fool predictors, samplers and certificates
  equal_time       latency against output error: default, sign hashes, pages, oracle top-p, dense
  samplers         the uniform sampler against Bernoulli inclusion: coverage, error, time
  fixed_size       unbiased sums and variances at a fixed size; epsilon -> 0 ends in the dense result
  merge            shards of a cache, merged, against the whole
  decode_vs_dense  one decoding step at 10 % density against the dense kernel
  kernels          every kernel of every instruction set (Google Benchmark)
TEXT
}

name=${1:-}
case $name in
  coverage | epsilon_error | residuals | small_samples | hybrid | adversary | equal_time | \
    samplers | fixed_size | merge | decode_vs_dense | kernels) shift ;;
  '' | -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

# Files named in the options are relative to where we were called.
here=$PWD
options=()
for option in "$@"; do
  if [[ $option != -* && $option != /* && -e $here/$option ]]; then option=$here/$option; fi
  options+=("$option")
done

root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=cmake/setup.sh
. "$root/cmake/setup.sh"
vattn_setup build bench
cd "$root"
build=build/bench
log=build/bench-configure.log
mkdir -p build
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DVATTN_BUILD_TESTS=OFF \
  -DVATTN_BUILD_EXAMPLES=OFF -DVATTN_BUILD_BENCH=ON >"$log" 2>&1 ||
  { cat "$log" >&2; vattn_die "CMake could not configure $build"; }
cmake --build "$build" --target "bench_$name" >"$log" 2>&1 ||
  { cat "$log" >&2; vattn_die "$name could not be built"; }
exec "$build/bench/$name" "${options[@]}"
