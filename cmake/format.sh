#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Usage: cmake/format.sh [--check]
# Formats every C++ source, or says which ones differ. The version is pinned, for the outcome depends
# on it: clang-format 18.1.8, from PyPI, in a virtual environment under build/.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=cmake/setup.sh
. "$root/cmake/setup.sh"

tool=$VATTN_TOOLS/bin/clang-format
case $("$tool" --version 2>/dev/null) in
  *' 18.1.8'*) ;;
  *) vattn_pip clang-format==18.1.8 ;;
esac

cd "$root"
mapfile -t sources < <(find include tests examples bench -type f \( -name '*.hpp' -o -name '*.cpp' \) | sort)
case ${1:-} in
  --check) "$tool" --dry-run --Werror "${sources[@]}" ;;
  '') "$tool" -i "${sources[@]}" ;;
  *) sed -n '3,5p' "$0" >&2; exit 2 ;;
esac
