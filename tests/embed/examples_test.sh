#!/bin/sh
# examples_test.sh EXAMPLES BERTH MODEL - every example does what its head says, with the answers that `berth run` gives, and fails as
# a program should: with a message, and not with 0.
set -u
examples=$1 berth=$2 model=$3
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
bad=0
complain() {
    echo "$*"
    bad=1
}
one=$model/receipts/receipt-01.png two=$model/receipts/receipt-02.png
fields='Extract the fields as JSON.'
answer() { "$berth" run -m "$model" -i "$1" -p "$2" 2>"$work/err" || complain "berth run: $(cat "$work/err")"; }
answer "$one" "$fields" >"$work/one"
answer "$two" "$fields" >"$work/two"
[ -s "$work/one" ] && [ -s "$work/two" ] || complain "berth run answers nothing"
cmp -s "$work/one" "$work/two" && complain "two receipts, one answer: nothing can be told from it"

# fails STATUS PATTERN COMMAND...: ends with that status and says why.
fails() {
    status=$1 pattern=$2
    shift 2
    "$@" >"$work/out" 2>"$work/err"
    got=$?
    [ "$got" = "$status" ] || complain "$(basename "$1"): status $got, not $status: $(head -c 300 "$work/err")"
    grep -q "$pattern" "$work/err" || complain "$(basename "$1"): does not say $pattern: $(head -c 300 "$work/err")"
}

"$examples/minimal" "$model" "$one" "$fields" >"$work/out" || complain "minimal failed"
cmp "$work/one" "$work/out" || complain "minimal: another answer"
[ "$(wc -l <"$(dirname "$0")/../../examples/minimal.c")" -lt 60 ] || complain "minimal.c is to stay under 60 lines"
fails 2 '^usage' "$examples/minimal"
fails 1 'not found.*no-such-folder' "$examples/minimal" "$work/no-such-folder" "$one" x
fails 1 'no-such.png' "$examples/minimal" "$model" "$work/no-such.png" x

"$examples/stream" "$model" "$two" "$fields" 'cpu*3' balanced >"$work/out" 2>"$work/err" || complain "stream failed"
echo >>"$work/out"
cmp "$work/two" "$work/out" || complain "stream: another answer"
grep -q '^ended by stop; [1-9]' "$work/err" || complain "stream: no numbers"
fails 1 'no-such' "$examples/stream" "$model" "$one" x cpu no-such

"$examples/placement" "$model" 'cpu*3/mem=64MiB' "$one" "$fields" sequential balanced >"$work/out" || complain "placement failed"
tail -n 1 "$work/out" | cmp - "$work/one" || complain "placement: another answer"
grep -q '^chosen: balanced$' "$work/out" || complain "placement: chose $(grep chosen "$work/out")"
[ "$(grep -c 'layers\.[0-9]* *on [0-2]$' "$work/out")" = 6 ] || complain "placement: does not show six layers"
fails 1 'none of the 1 strategies fits' "$examples/placement" "$model" 'cpu/mem=2MiB' "$one" x single
exit "$bad"
