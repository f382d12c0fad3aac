#!/bin/sh
# install_test.sh BUILD COMPILER EXAMPLE CMAKE MODEL EXAMPLES - what `cmake --install` puts into a folder is all there; programs
# outside of the tree build against it and run, with nothing but pkg-config and with nothing but find_package, also after
# the folder was moved.
set -eu
build=$1 compiler=$2 example=$3 cmake=$4 model=$5 examples=$6
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
complain() {
    echo "$*"
    exit 1
}

# As a packager does: into a staging folder. What is configured is what comes out.
DESTDIR=$work/staged "$cmake" --install "$build" >"$work/log" || complain "$(cat "$work/log")"
for pattern in bin/berth include/berth/berth.h include/berth/strategy.h include/berth/status.h share/man/man1/berth.1 \
    share/bash-completion/completions/berth share/zsh/site-functions/_berth share/fish/vendor_completions.d/berth.fish \
    cmake/berth/berth-config.cmake cmake/berth/berth-config-version.cmake cmake/berth/berth-targets.cmake \
    share/berth/examples/minimal.c share/berth/examples/CMakeLists.txt share/berth/python/berth.py; do
    [ -n "$(find "$work/staged" -path "*/$pattern" -size +0)" ] || complain "not installed, or empty: $pattern"
done
grep -rIl "$build" "$work/staged" >"$work/leaks" && complain "names the build folder: $(cat "$work/leaks")"

# As a user does: into a prefix of their own, moved afterwards.
"$cmake" --install "$build" --prefix "$work/first" >"$work/log" || complain "$(cat "$work/log")"
mv "$work/first" "$work/prefix with a space"
prefix="$work/prefix with a space"
library=$(dirname "$(find "$prefix" -name libberth.so)")
[ "$(readlink "$library/libberth.so")" = libberth.so.0 ] || complain "libberth.so is no link to libberth.so.0"

mkdir "$work/outside"
cp "$example" "$work/outside/example.c"
cp "$examples"/*.c "$examples/CMakeLists.txt" "$work/outside"
cd "$work/outside"

# pkg-config: the line that stands in each example's head. Words are wanted, so the spaces are escaped as pkg-config gives them.
PKG_CONFIG_PATH=$library/pkgconfig
export PKG_CONFIG_PATH
flags="$(pkg-config --cflags --libs berth)"
build_line() { eval "$compiler -std=gnu11 -Wall -Wextra -Wpedantic -Werror $* $flags"; }
build_line example.c -o example
for name in minimal stream many placement; do
    line=$(sed -n 's/^ \*  *cc \(.*\) \$(pkg-config --cflags --libs berth)$/\1/p' $name.c)
    [ -n "$line" ] || complain "the head of $name.c has no line to build it with"
    build_line "$line"
done
LD_LIBRARY_PATH=$library ./example "$model"
readelf -V example | grep -q 'Name: BERTH_0\.1 ' || complain "a program that was built does not ask for a symbol version"
[ "$(pkg-config --modversion berth)" = "$("$prefix/bin/berth" --version | sed -n '1s/^berth \([0-9.]*\).*/\1/p')" ] ||
    complain "pkg-config and berth disagree about the version"
if command -v c++ >/dev/null; then
    printf '#include <berth/berth.h>\n#include <berth/strategy.h>\nint main() { return berth_version()[0] == 0; }\n' >cxx.cc
    eval "c++ -Wall -Wextra -Werror cxx.cc -o cxx $flags"
    LD_LIBRARY_PATH=$library ./cxx
fi

# find_package: the examples' own project, and versions that must not be taken.
"$cmake" -S . -B tree -DCMAKE_C_COMPILER="$compiler" -DCMAKE_PREFIX_PATH="$prefix" >"$work/log" 2>&1 || complain "$(cat "$work/log")"
"$cmake" --build tree >"$work/log" 2>&1 || complain "$(cat "$work/log")"
grep -q "prefix with a space" tree/CMakeCache.txt || complain "another berth was found"
./tree/minimal >"$work/log" 2>&1 && complain "minimal without arguments succeeds"
grep -q '^usage:' "$work/log" || complain "minimal does not start: $(cat "$work/log")"
# shellcheck disable=SC2016 # cmake's variables
printf 'cmake_minimum_required(VERSION 3.22)\nproject(x NONE)\nfind_package(berth ${V} REQUIRED)\n' >"$work/CMakeLists.txt"
for wrong in 1.0 0.99; do
    "$cmake" -S "$work" -B "$work/wrong$wrong" -DV=$wrong -DCMAKE_PREFIX_PATH="$prefix" >"$work/log" 2>&1 && complain "version $wrong was found"
    grep -q "berth-config.cmake, version:" "$work/log" || complain "version $wrong is refused for another reason: $(cat "$work/log")"
done
bash -n "$(find "$prefix" -path '*/bash-completion/completions/berth')"
