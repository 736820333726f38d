#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: tests/run.sh [--compiler COMPILER] [--only release|sanitize|aarch64]

Installs what is missing (apt-get; see cmake/setup.sh), then builds and runs every test:
  release   optimised (-O2), warnings are errors; all tests, examples, benchmarks built (these without
            optimisation, to see that they compile); if a compiler is named, at -O1, without the benchmarks, the
            statistical tests, the second runs named below and the compilation of each header for itself
  sanitize  -O1 with asserts and the address and undefined-behaviour sanitizers, warnings are errors; by clang++, unless
            a compiler is named: so two compilers see every test; without the tests of the build
            itself, the examples, the statistical ones and the second run of each program under other kernel rows
            (the tests of the kernels run every row): no different there, and slow
  aarch64   (only if named) kernels, what the core computes, and the one-line call, cross-compiled by g++ for AArch64 and run by
            qemu-user: every shape and misalignment that the kernel tests run elsewhere, with the dot
            product instructions and, the kernels, without; a header-only Catch2 (2.13) or one of the other
            machine is needed
The first two compile several test files at a time (VATTN_UNITY_TESTS).
Build folders: build/release and build/aarch64, with -COMPILER behind if one is named, and build/asan-ubsan-COMPILER.
TEXT
}

compiler=
only=
while [ $# -gt 0 ]; do
  case $1 in
    --compiler) compiler=${2:?--compiler needs a name}; shift 2 ;;
    --only) only=${2:?--only needs release, sanitize or aarch64}; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
case $only in '' | release | sanitize | aarch64) ;; *) usage >&2; exit 2 ;; esac

root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=cmake/setup.sh
. "$root/cmake/setup.sh"
groups=(build tests bench examples)
case $only in
  aarch64) groups=(build tests aarch64) ;;
  '' | sanitize) [ -n "$compiler" ] || groups+=(clang) ;;
esac
options=(-DVATTN_BENCH_UNOPTIMISED=ON "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG")
without=()
suffix=
[ "$only" = aarch64 ] && options=()
if [ "$only" = aarch64 ] && [ -n "$compiler" ]; then
  vattn_die "--only aarch64 takes the compiler of cmake/aarch64.cmake"
fi
if [ -n "$compiler" ]; then
  suffix=-$(basename "$compiler")
  options=(-DVATTN_BUILD_BENCH=OFF -DVATTN_STATISTICAL_TESTS=OFF "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG")
  without=(-LE '^isa$' -E '^headers')
  case $compiler in clang++) groups=(clang "${groups[@]}") ;; esac
  export CXX=$compiler
fi
vattn_setup "${groups[@]}"
[ "$only" = aarch64 ] || options+=(-DVATTN_UNITY_TESTS=ON)

launcher=()
if command -v ccache >/dev/null; then
  launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
fi

stage_compiler() {
  case $1 in aarch64) echo aarch64-linux-gnu-g++ ;; *) echo "${CXX:-c++}" ;; esac
}

# run_stage PRESET [CTEST OPTION...]
run_stage() {
  local preset=$1 folder=$root/build/$1$suffix
  shift
  printf '\n== %s: %s\n' "$preset$suffix" "$("$(stage_compiler "$preset")" --version | head -n 1)"
  (cd "$root" && cmake --preset "$preset" -B "$folder" "${launcher[@]}" "${options[@]}") >"$root/build/configure.log" 2>&1 ||
    { cat "$root/build/configure.log" >&2; vattn_die "CMake could not configure $folder"; }
  cmake --build "$folder" --parallel "$VATTN_JOBS"
  ctest --test-dir "$folder" --output-on-failure --no-tests=error --parallel "$VATTN_JOBS" "$@"
}

mkdir -p "$root/build"
start=$SECONDS
case $only in '' | release) run_stage release "${without[@]}" ;; esac
if [ "$only" = aarch64 ]; then
  unset CXX
  QEMU_CPU=max run_stage aarch64 -LE '^(build|isa)$'
fi
case $only in '' | sanitize)
  export CXX=${compiler:-clang++}
  suffix=-$(basename "$CXX")
  vattn_need_compiler "$CXX"
  [ "${VATTN_SETUP:-on}" = off ] || vattn_need_sanitizers "$CXX"
  export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
  run_stage asan-ubsan -LE '^(build|statistical|isa)$'
  ;;
esac
printf '\nvattention: all tests passed, %d s\n' $((SECONDS - start))
