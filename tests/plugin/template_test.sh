#!/bin/sh
# template_test.sh BUILD COMPILER CMAKE EXAMPLE MODEL - the template plug-in builds against an installed berth with the one line that its head gives, and plans with it.
set -eu
build=$1 compiler=$2 cmake=$3 example=$4 model=$5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
complain() {
    echo "$*"
    exit 1
}
DESTDIR=$work/root "$cmake" --install "$build" >"$work/log" || complain "$(cat "$work/log")"
PKG_CONFIG_PATH=$(dirname "$(find "$work/root" -name berth.pc)") PKG_CONFIG_SYSROOT_DIR=$work/root
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
berth=$(find "$work/root" -path '*/bin/berth')
[ -n "$(find "$work/root" -path '*/libexec/berth/berth-strategy-host' -perm -u+x)" ] || complain "berth-strategy-host is not installed"
cmp "$example" "$(find "$work/root" -name strategy_plugin.c)" || complain "the template is not installed"

mkdir "$work/outside" && cp "$example" "$work/outside" && cd "$work/outside"
line=$(sed -n 's/^ \*  *\(cc .*pkg-config.*\)$/\1/p' strategy_plugin.c)
[ -n "$line" ] || complain "the template's head has no line to build it with"
sh -c "$compiler ${line#cc }" || complain "does not build: $line"
# shellcheck disable=SC2046 # words are wanted
"$compiler" -std=c11 -Wall -Wextra -Wpedantic -Werror -shared -fPIC strategy_plugin.c -o strict.so $(pkg-config --cflags berth)

plan() { "$berth" plan -m "$model" --devices 'cpu*3/mem=1GiB' --json "$@"; }
plan --strategy ./my.so=3 >here.json
plan --strategy ./my.so=3 --isolated --strategy-timeout 600000 >isolated.json
plan --strategy-dir . --strategy my=3 >folder.json
cmp here.json isolated.json && cmp here.json folder.json
grep -q '"strategy": *"first_share=3"' here.json || complain "another strategy: $(head -c 300 here.json)"
"$berth" strategies --strategy-dir . | grep -q '^my  *a share of the model' || complain "not listed"
"$berth" strategies --strategy-dir . --isolated --json | grep -q '"name":"strict","about":"a share' || complain "not listed in JSON"
! plan --strategy ./my.so=0 2>refused || complain "my.so=0 was taken"
grep -q 'plug-in ./my.so: the argument is a number from 1 to 99, not 0' refused || complain "$(cat refused)"
! plan --strategy ./no.so 2>refused || complain "no.so was taken"
grep -q 'no.so' refused || complain "$(cat refused)"
