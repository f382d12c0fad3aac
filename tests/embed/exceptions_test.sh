#!/bin/sh
# exceptions_test.sh LIBRARY INCLUDE MODEL - a C++ program whose callbacks fail with exceptions. Ends with 77 (skipped)
# where there is no C++ compiler.
set -u
library=$1 include=$2 model=$3
here=$(dirname "$0")
command -v c++ >/dev/null || { echo "skipped: there is no C++ compiler"; exit 77; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
c++ -std=c++17 -O1 -Wall -Wextra -Werror -I "$include" "$here/exceptions.cpp" -o "$work/host" "$library" -pthread || exit 1
[ "$(LD_LIBRARY_PATH=$(dirname "$library") "$work/host" "$model")" = well ]
