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

escaped() { sed 's/\\/\\\\/g; s/"/\\"/g' "$1"; }
"$examples/many" "$model" 'cpu*2' replicate=2 30 "$fields" "$one" "$two" >"$work/out" 2>"$work/err" || complain "many: $(cat "$work/err")"
[ "$(grep -cF "\"text\": \"$(escaped "$work/one")\"}" "$work/out")" = 15 ] && [ "$(grep -cF "\"text\": \"$(escaped "$work/two")\"}" "$work/out")" = 15 ] ||
    complain "many: other answers than one by one: $(head -n 3 "$work/out")"
[ "$(sed 's/^{"request": \([0-9]*\),.*/\1/' "$work/out" | sort -un | wc -l)" = 30 ] || complain "many: not each request once"
grep -q '^30 of 30 answered' "$work/err" || complain "many: $(cat "$work/err")"
"$examples/many" "$model" cpu single 4 "$fields" "$one" "$work/no-such.png" >"$work/out" 2>"$work/err" && complain "many: failures end with 0"
[ "$(grep -c '"error": "not found", "message": ".*no-such.png' "$work/out")" = 2 ] || complain "many: $(cat "$work/out")"

# Ctrl-C: what was under way is told as cancelled, and the program ends.
"$examples/many" "$model" 'cpu*2' replicate=2 1000000 "$fields" "$one" >"$work/out" 2>"$work/err" &
many=$!
while kill -0 $many 2>/dev/null && [ "$(wc -l <"$work/out")" -lt 5 ]; do sleep 0.05; done
kill -INT $many
wait $many && complain "many: ends with 0 after Ctrl-C"
grep -q '"finish": "cancelled"' "$work/out" || complain "many: nothing was cancelled: $(cat "$work/err")"
grep -q 'answered' "$work/err" || complain "many: no sum after Ctrl-C"
exit "$bad"
