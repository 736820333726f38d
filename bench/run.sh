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
  predictors       recall, mass left over, rows needed, time of a selection, memory, per predictor
  proposals        rows, bytes and misses of each predictor as proposal of sampling by predicted weight
  lsh              sampling by collisions of hashes: errors, rows, bytes, what its bound misses
  samplers         the uniform sampler against Bernoulli inclusion: coverage, error, time
  fixed_size       unbiased sums and variances at a fixed size; epsilon -> 0 ends in the dense result
  merge            shards of a cache, merged, against the whole
  decode           a decoding step against a plain read, the dense kernel, torch and ggml
  cost             the constants of the cost model on this machine, and how well they foretell
  kernels          every kernel of every instruction set (Google Benchmark)

decode [--json FILE]: every contender once a round, in an order shuffled anew, with fresh queries and draws; caches of
8 times the last-level cache at least, which is flushed before every pass. Time of a pass, bytes touched, stream_fraction
(time of a plain read of these bytes / its time), speedup_vs_dense, shares of the time, errors, certificates.
--rows, --dim, --group, --type, --density, --threads take lists a,b,c: the first of each is the base, and each list is
varied on its own (--sweep cross: all combinations). `bench/plot_decode.py FILE PNG` draws the JSON file.
Other libraries are raced where they are found: `bash bench/peers.sh torch` and `bash bench/peers.sh ggml` install them
under build/tools; VATTN_BENCH_TORCH and VATTN_BENCH_GGML (OFF, or a folder: see bench/CMakeLists.txt) say otherwise.
To another machine carry build/bench/bench/decode and the libbenchmark.so beside it; it needs no other file.
TEXT
}

name=${1:-}
case $name in
  coverage | epsilon_error | residuals | small_samples | hybrid | adversary | equal_time | \
    predictors | proposals | lsh | samplers | fixed_size | merge | decode | cost | kernels) shift ;;
  '' | -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

# Files named in the options are relative to where we were called.
here=$PWD
options=()
last=
for option in "$@"; do
  if [[ $option != -* && $option != /* && (-e $here/$option || $last == --json) ]]; then
    option=$here/$option
  fi
  options+=("$option")
  last=$option
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
  -DVATTN_BUILD_EXAMPLES=OFF -DVATTN_BUILD_BENCH=ON -DVATTN_BENCH_TORCH="${VATTN_BENCH_TORCH:-AUTO}" \
  -DVATTN_BENCH_GGML="${VATTN_BENCH_GGML:-AUTO}" >"$log" 2>&1 ||
  { cat "$log" >&2; vattn_die "CMake could not configure $build"; }
cmake --build "$build" --target "bench_$name" >"$log" 2>&1 ||
  { cat "$log" >&2; vattn_die "$name could not be built"; }
exec "$build/bench/$name" "${options[@]}"
