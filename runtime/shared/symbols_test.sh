#!/bin/sh
# symbols_test.sh LIBRARY HEADERS - the shared library exports exactly what the public headers declare, each name with a symbol
# version, imports nothing that ends the process or writes to standard output, and is called by its SONAME.
set -u
library=$1 headers=$2
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
bad=0
complain() {
    echo "$*"
    bad=1
}

# A declaration may run over several lines; its name is the last word before the first parenthesis.
grep -hv '^#' "$headers"/*.h | tr '\n' ' ' | grep -o 'BERTH_API [^;(]*(' |
    sed 's/($//; s/.*[ *]\([a-z_0-9]*\)$/\1/' | sort -u >"$work/declared"
# "A" marks the names of the versions themselves.
nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sort -u >"$work/versioned"
grep -v '@@BERTH_[0-9][0-9.]*$' "$work/versioned" >"$work/unversioned" && complain "exported without a version of berth's: $(tr '\n' ' ' <"$work/unversioned")"
sed 's/@.*//' "$work/versioned" | sort -u >"$work/exported"
[ "$(wc -l <"$work/declared")" -ge 20 ] || complain "only $(wc -l <"$work/declared") functions found in $headers; is the search right?"
comm -13 "$work/declared" "$work/exported" >"$work/extra"
comm -23 "$work/declared" "$work/exported" >"$work/missing"
[ -s "$work/extra" ] && complain "exported, but declared in no public header: $(tr '\n' ' ' <"$work/extra")"
[ -s "$work/missing" ] && complain "declared in a public header, but not exported: $(tr '\n' ' ' <"$work/missing")"

nm -D --undefined-only "$library" | awk '{ sub(/@.*/, "", $2); print $2 }' | sort -u >"$work/imported"
for name in abort exit _exit _Exit quick_exit raise __assert_fail __stack_chk_fail __fortify_fail __chk_fail printf vprintf puts \
    putchar putc_unlocked putchar_unlocked __printf_chk __vprintf_chk perror psignal err errx warn warnx error stdout stderr setlocale signal; do
    grep -qx "$name" "$work/imported" && complain "imported: $name"
done
[ "$(wc -l <"$work/imported")" -ge 30 ] || complain "only $(wc -l <"$work/imported") imports found in $library; is the search right?"

soname=$(readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
[ "$soname" = libberth.so.0 ] || complain "SONAME is \"$soname\", not libberth.so.0"
readelf -d "$library" | grep -qE '\((TEXTREL|RPATH|RUNPATH)\)' && complain "text relocations or a search path are in the library"
[ "$bad" = 0 ] && echo "$(wc -l <"$work/exported") functions exported, $(wc -l <"$work/imported") imported"
exit "$bad"
