# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Installs what a script needs and the machine lacks; to be sourced.
#
#   . cmake/setup.sh
#   vattn_setup GROUP...     groups: build tests bench examples plots clang lint aarch64
#
# Debian 12 or later and Ubuntu 22.04 or later: by apt-get, as root or with sudo, and only if something
# is missing. Elsewhere it names what is missing. A CMake older than 3.22 is replaced by one from PyPI
# in a virtual environment under build/. VATTN_SETUP=off: take the machine as it is.
# Sets VATTN_ROOT, VATTN_JOBS and, for the groups that need it, PATH.

VATTN_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VATTN_TOOLS=$VATTN_ROOT/build/tools
vattn_log=$VATTN_ROOT/build/setup.log

vattn_die() {
  printf 'vattention: %s\n' "$*" >&2
  exit 1
}

# One core a job, and 2 GiB for each.
vattn_jobs() {
  local cores memory
  cores=$(nproc 2>/dev/null || echo 1)
  memory=$(awk '/^MemAvailable/ { print int($2 / 2097152) }' /proc/meminfo 2>/dev/null)
  [ -n "$memory" ] && [ "$memory" -lt "$cores" ] && cores=$memory
  [ "$cores" -ge 1 ] || cores=1
  echo "$cores"
}
VATTN_JOBS=${VATTN_JOBS:-$(vattn_jobs)}

# What a group consists of: `command:package` (the command is on PATH) or `package`.
vattn_group() {
  case $1 in
    build) echo "cmake:cmake ninja:ninja-build libeigen3-dev" ;;
    tests) echo "catch2 nlohmann-json3-dev" ;;
    bench) echo "libbenchmark-dev nlohmann-json3-dev libcli11-dev" ;;
    examples) echo "nlohmann-json3-dev libcli11-dev" ;;
    plots) echo "python3-matplotlib python3-numpy tqdm:python3-tqdm" ;;
    aarch64) echo "aarch64-linux-gnu-g++:g++-aarch64-linux-gnu qemu-aarch64:qemu-user" ;;
    clang) echo "clang++:clang" ;;
    lint) echo "clang++:clang clang-tidy:clang-tidy doxygen:doxygen shellcheck:shellcheck" ;;
    *) vattn_die "setup: unknown group $1" ;;
  esac
}

vattn_have_package() {
  # Without dpkg only commands can be asked for; CMake says which library it does not find.
  command -v dpkg-query >/dev/null || return 0
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# vattn_install PACKAGE...: by apt-get, or a one-line error.
vattn_install() {
  local as_root=()
  command -v apt-get >/dev/null || vattn_die "please install: $* (no apt-get here to do it)"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || vattn_die "please install: $* (neither root nor sudo here)"
    as_root=(sudo)
    [ -t 0 ] || as_root+=(-n)
  fi
  as_root+=(env DEBIAN_FRONTEND=noninteractive)
  local apt=("${as_root[@]}" apt-get -qq -o DPkg::Lock::Timeout=300)
  mkdir -p "$VATTN_ROOT/build"
  printf 'vattention: installing %s\n' "$*"
  {
    # An index that cannot be refreshed may still serve.
    "${apt[@]}" update || true
    "${apt[@]}" install -y --no-install-recommends "$@"
  } >"$vattn_log" 2>&1 </dev/null || {
    tail -n 5 "$vattn_log" >&2
    vattn_die "apt-get could not install: $* (its output is in $vattn_log)"
  }
}

# True if version $1 is at least $2.
vattn_at_least() {
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# vattn_pip REQUIREMENT: installs into the virtual environment under build/.
vattn_pip() {
  if ! [ -x "$VATTN_TOOLS/bin/pip" ]; then
    /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || vattn_install python3-venv
    mkdir -p "$VATTN_ROOT/build"
    /usr/bin/python3 -m venv "$VATTN_TOOLS" || vattn_die "python3 -m venv $VATTN_TOOLS failed"
  fi
  "$VATTN_TOOLS/bin/pip" install --quiet --disable-pip-version-check "$1" >"$vattn_log" 2>&1 ||
    vattn_die "pip could not install $1 (its output is in $vattn_log)"
}

vattn_need_cmake() {
  local version
  version=$(cmake --version 2>/dev/null | sed -n 's/^cmake version \([0-9.]*\).*/\1/p')
  vattn_at_least "${version:-0}" 3.22 && return
  if ! [ -x "$VATTN_TOOLS/bin/cmake" ]; then
    printf 'vattention: CMake %s is older than 3.22, taking one from PyPI\n' "${version:-(none)}"
    vattn_pip 'cmake>=3.22,<4'
  fi
  PATH=$VATTN_TOOLS/bin:$PATH
}

# vattn_need_compiler COMPILER: a compiler that is there and new enough.
vattn_need_compiler() {
  local least=11 version
  command -v "$1" >/dev/null || vattn_die "no compiler $1 on PATH"
  "$1" --version | grep -qi clang && least=14
  version=$("$1" -dumpversion)
  vattn_at_least "$version" "$least" || vattn_die "$1 is version $version: need g++ 11 or clang++ 14"
}

# vattn_need_sanitizers COMPILER: the run-time libraries of -fsanitize, which clang++ has apart.
vattn_need_sanitizers() {
  local try=(-x c++ "-fsanitize=address,undefined" -o /dev/null -)
  echo 'int main() {}' | "$1" "${try[@]}" 2>/dev/null && return
  local major
  major=$("$1" -dumpversion | cut -d. -f1)
  vattn_install "libclang-rt-$major-dev"
  echo 'int main() {}' | "$1" "${try[@]}" || vattn_die "$1 has no address sanitizer"
}

vattn_setup() {
  [ "${VATTN_SETUP:-on}" = off ] && return
  local group item missing=() compiler=${CXX:-}
  for group in "$@"; do
    if [ "$group" = build ] && [ -z "$compiler" ] && ! command -v c++ >/dev/null; then
      missing+=(g++)
    fi
    for item in $(vattn_group "$group"); do
      case $item in
        *:*) command -v "${item%%:*}" >/dev/null || missing+=("${item#*:}") ;;
        *) vattn_have_package "$item" || missing+=("$item") ;;
      esac
    done
  done
  if [ ${#missing[@]} -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    vattn_install "${missing[@]}"
    hash -r
  fi
  for group in "$@"; do
    if [ "$group" = build ]; then
      vattn_need_cmake
      vattn_need_compiler "${compiler:-c++}"
    fi
  done
}
