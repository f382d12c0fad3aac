#!/bin/sh
# headers_test.sh HEADERS - every public header compiles alone, twice and with the others, as C99 to C23 and C++11 to C++20, without a
# warning, under each of gcc and clang that is there.
set -u
headers=$1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
n=0 bad=0
all=$(cd "$headers" && ls berth/*.h)

for header in $all; do
    printf '#include <%s>\n#include <%s>\nextern int used;\n' "$header" "$header" >"$work/$(basename "$header" .h).src"
done
for header in $all; do printf '#include <%s>\n' "$header"; done >"$work/together.src"
for header in $all; do printf '#include <%s>\n' "$header"; done | sort -r >"$work/reversed.src"
echo 'extern int used;' | tee -a "$work/together.src" >>"$work/reversed.src"

# compile COMPILER LANGUAGE STANDARD
compile() {
    for source in "$work"/*.src; do
        n=$((n + 1))
        "$1" -x "$2" -std="$3" -fsyntax-only -I"$headers" -Wall -Wextra -Wpedantic -Wshadow -Wundef -Werror "$source" || {
            echo "$(basename "$source" .src).h: $1 -std=$3"
            bad=1
        }
    done
}

for compiler in gcc clang; do
    command -v "$compiler" >/dev/null || continue
    for standard in c99 c11 c17 c2x gnu17; do compile "$compiler" c "$standard"; done
done
for compiler in g++ clang++; do
    command -v "$compiler" >/dev/null || continue
    for standard in c++11 c++14 c++17 c++20; do compile "$compiler" c++ "$standard"; done
done
[ "$n" -gt 0 ] || {
    echo "skipped: none of gcc, clang, g++, clang++ is there"
    exit 77
}

# The test itself: a header with a fault is noticed.
printf 'enum e { A, };;\n' >"$work/fault.src"
gcc -x c -std=c99 -fsyntax-only -Wpedantic -Werror "$work/fault.src" 2>/dev/null && {
    echo "a faulty header was taken"
    bad=1
}
[ "$bad" = 0 ] && echo "$n compilations"
exit "$bad"
