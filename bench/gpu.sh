#!/bin/sh
# gpu.sh - all that is to be shown and measured on a computer with GPUs, in one run, into one file.
#
#   bench/gpu.sh [BUILD] [RESULTS]        BUILD: default build; RESULTS: default bench/results/DATE-gpu-HOST.md
#
# First that it is right: proofs of the ways between GPUs, every kernel against the reference, answers on GPUs against answers on
# cores under every strategy and transport, compute-sanitizer. Then how fast, beside what the GPU itself reaches in the same run.
# A step that fails is told and the others run; the exit code is the number of failed steps. Needs a build with tests and
# benches (scripts/build does that), sh, awk, and for the measurements some 30 GB of disk in $BERTH_GPU_DIR (default: $TMPDIR or
# /tmp). On emulated GPUs (CUDA_EMU is set) everything runs with tiny shapes; its figures mean nothing, and the file says so.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
date=$(date -u +%Y-%m-%d)
results=${2:-bench/results/$date-gpu-$(uname -n).md}
work=${BERTH_GPU_DIR:-${TMPDIR:-/tmp}/berth-gpu}
berth=$build/berth
golden=tests/golden/models
emulated=${CUDA_EMU+yes}
failed=0 steps=0
mkdir -p "$work" || exit 1

for program in "$berth" "$build/bench/gpu_check" "$build/bench/gpu_probe" "$build/bench/gpu_fused" "$build/bench/gpu_model"; do
    [ -x "$program" ] || { echo "gpu.sh: $program is not there; build with tests and benches (scripts/build), or name the build's folder"; exit 1; }
done

say() { printf '%s\n' "$@" | tee -a "$results"; } # a line an argument

# step NAME COMMAND...: runs it, keeps what it wrote (in $work/out too), and whether it went well.
step() {
    name=$1
    shift
    steps=$((steps + 1))
    say "" "### $name" "" '```' "\$ $*"
    started=$(date +%s)
    "$@" >"$work/out" 2>"$work/err" </dev/null
    code=$?
    cut -c1-2000 "$work/out" | tail -n "${lines:-40}" | tee -a "$results"
    [ "$code" = 0 ] || cut -c1-2000 "$work/err" | tail -n 20 | tee -a "$results"
    say '```'
    if [ "$code" = 0 ]; then
        say "ok, $(($(date +%s) - started)) s"
    else
        failed=$((failed + 1))
        say "FAILED with exit code $code, $(($(date +%s) - started)) s"
        failures="${failures:-}
- $name"
    fi
    return "$code"
}

# refused WORDS: after a step that failed: it said so, as it should, and does not count.
refused() {
    grep -q "$1" "$work/err" || return 1
    failed=$((failed - 1))
    failures=${failures%
- *}
    say "refused, as it should be"
}

skip() { say "" "### $1" "" "SKIPPED: $2"; }

: >"$results" || exit 1
say "# GPUs, $date" ""
[ -z "$emulated" ] || say "**Emulated GPUs (CUDA_EMU=$CUDA_EMU): that everything runs is all that this shows; no figure means anything.**" ""
say "\`bench/gpu.sh $build\`, commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $("$berth" --version | head -n 1), $(uname -sr)"

# ---- what there is ---------------------------------------------------------------------------------------------------
say "" "## What there is"
lines=80
step "devices, proofs of the ways between GPUs, measured rates" \
    "$berth" devices --devices all --probe --measure --save "$work/machine.json"
n_gpus=$("$berth" devices --json 2>/dev/null | grep -o '"model":' | wc -l)
if [ "$n_gpus" = 0 ]; then
    say "" "There is no GPU that berth can use; the CUDA line above says why. Nothing else was run."
    exit 1
fi
lines=40
[ -n "$emulated" ] && every=23 models=ivl-native tokens=2 || { every=1 models='ivl-native ivl-remote ivl-qwen3 ivl-rms-qknorm ivl-tied ivl-remote-6b ivl-wide-heads qwen2-text' tokens=16; }

# ---- is it right -----------------------------------------------------------------------------------------------------
say "" "## Is it right"
step "every kernel against the reference" "$build/bench/gpu_check" --every "$every"
step "ops as one kernel: the bits of the ops apart, and the times of both" "$build/bench/gpu_fused" ${emulated:+--small}
strategies=single,replicate,sequential,balanced,balanced_low_0,auto,optimal
[ -z "$emulated" ] || strategies=balanced
lists="--devices cuda:0 --devices cuda:0*2 --devices cuda:0*4"
[ "$n_gpus" -lt 2 ] || lists="$lists --devices cuda:0,cuda:1 --devices all"
[ -z "$emulated" ] || lists="--devices cuda:0*2"
for model in $models; do # bench compares greedy answers of all placements before it times anything; exit code 6 if they differ
    step "$model: answers on GPUs as on cores, every strategy, fp32" \
        "$berth" bench -q -m "$golden/$model" --devices cpu $lists --strategy "$strategies" --dtype fp32 -p 0 -n "$tokens" -r 1 --no-warmup
done
# Heads of 64 in 16 bits: what tensor cores compute. Between kinds of devices roundings differ, between placements none do.
step "ivl-wide-heads: answers of every placement on GPUs alike, fp16" \
    "$berth" bench -q -m "$golden/ivl-wide-heads" $lists --strategy "$strategies" --dtype fp16 -p 0 -n "$tokens" -r 1 --no-warmup
pairs="cuda:0*2"
[ "$n_gpus" -lt 2 ] || pairs="$pairs cuda:0,cuda:1"
for transport in $("$berth" devices --json | sed 's/.*"transports":\[//; s/\].*//' | grep -o '"name":"[a-z]*"' | cut -d'"' -f4); do
    for pair in $pairs; do
        step "transport $transport on $pair: answers as on cores" \
            "$berth" bench -q -m "$golden/ivl-native" --devices cpu --devices "$pair" --strategy balanced --transport "$transport" --dtype fp32 -p 0 -n "$tokens" -r 1 --no-warmup ||
            refused "cannot carry what goes\|which takes each GPU once"
    done
done
[ -z "$emulated" ] && limit=6 most=512 || limit=1 most=2
step "receipts: exact answers, several placements, the GPU's own dtype" \
    "$berth" eval -q -m models/receipt-tiny --labels models/receipt-tiny/receipts/labels.jsonl --limit "$limit" --max-tokens "$most" $lists --strategy balanced
if command -v compute-sanitizer >/dev/null 2>&1; then
    for tool in memcheck racecheck initcheck synccheck; do
        step "compute-sanitizer $tool: kernels" compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/bench/gpu_check" --own
        step "compute-sanitizer $tool: an answer" compute-sanitizer --tool "$tool" --error-exitcode 9 \
            "$berth" run -q -m "$golden/ivl-native" --devices cuda:0 -p "How many?" -n 4
    done
else
    skip "compute-sanitizer" "compute-sanitizer is not on the PATH; it comes with the CUDA toolkit"
fi

# ---- how fast --------------------------------------------------------------------------------------------------------
say "" "## How fast" ""
say "Probes first, then each model; fractions are of the probes of this run. Targets: decode of 8B 85 % and of 2B 70 % of the read"
say "probe, a prompt of 13 tiles 65 % of the largest product, loading 80 % of the pinned upload, receipts of 8B 22 a minute alone"
say "and 150 with 16 at once. transformers on the same GPU is not run here."
step "what the GPU reaches" "$build/bench/gpu_probe" ${emulated:+--small} || exit "$failed"
cp "$work/out" "$work/probe"
figure() { awk -F'[= ]' -v name="$2" '$1 == name { print $2 }' "$1"; } # FILE NAME
read_probe=$( (figure "$work/probe" read; figure "$work/probe" copy) | sort -g | tail -n 1)

# number KEY: of the last line of JSON in $work/out that has it.
number() { grep -o "\"$1\": *[0-9.e+]*" "$work/out" | tail -n 1 | sed 's/.*: *//'; }
percent() { awk -v a="${1:-0}" -v b="${2:-0}" 'BEGIN { if (a + 0 > 0 && b + 0 > 0) printf "%.1f %%", 100 * a / b; else printf "not known" }'; }

tokenizer() { # DIR: any tokenizer will do: ids are noise
    for file in tokenizer.json vocab.json merges.txt added_tokens.json tokenizer_config.json special_tokens_map.json generation_config.json preprocessor_config.json; do
        cp "$golden/ivl-remote/$file" "$1/" || return 1
    done
}

measure_load() { # NAME DIR TITLE: what reading the weights took, and the whole from the start of the process, less the first token's own time
    begin=$(date +%s%N)
    step "$1: load, $3" "$berth" run -q --json -m "$2" --devices "$devices" -p a -n 1 --ignore-stop || return
    end=$(date +%s%N)
    all=$(awk -v a="$begin" -v b="$end" -v first="$(number total)" 'BEGIN { printf "%.3f", (b - a) / 1e9 - first / 1e3 }')
    bytes=$(number load_bytes) load=$(number load_ms)
    rate=$(awk -v b="$bytes" -v ms="$load" 'BEGIN { printf "%.6g", (ms > 0 ? b / (ms / 1e3) : 0) }')
    say "" "$bytes bytes in $load ms: $(awk -v r="$rate" 'BEGIN { printf "%.2f", r / 1e9 }') GB/s, $(percent "$rate" "$(figure "$work/probe" upload)") of the pinned upload; from the start of the process until it is ready $all s"
}

measure() { # SIZE
    dir=$work/$1
    step "$1: a model of this shape" "$build/bench/gpu_model" --size "$1" --dir "$dir" || return
    tokenizer "$dir"
    devices=cuda:0 # a model that does not fit there is cut over all GPUs
    "$berth" plan -m "$dir" --devices cuda:0 >/dev/null 2>&1 || devices=all
    say "" "on $devices"
    measure_load "$1" "$dir" "first time"
    measure_load "$1" "$dir" "again"
    step "$1: a token" "$berth" bench -q -m "$dir" --devices "$devices" -c 4096 -p 0 -n "$n_gen" -r "$rounds" -o jsonl || return
    rate=$(number avg_ts)
    "$build/bench/gpu_model" --size "$1" --dir "$dir" >"$work/costs"
    read_rate=$(awk -v t="$rate" -v b="$(figure "$work/costs" decode_bytes)" 'BEGIN { printf "%.6g", t * b }')
    say "" "decode: $rate tokens/s, $(awk -v r="$read_rate" 'BEGIN { printf "%.1f", r / 1e9 }') GB/s of weights: $(percent "$read_rate" "$read_probe") of the read probe"
    step "$1: a prompt with a picture" "$berth" run -q --json -m "$dir" --devices "$devices" -i "$dir/picture.png" -p "Extract." -n 1 --ignore-stop || return
    prompt=$(number prompt_tokens) tiles=$(grep -o '"tiles": *[0-9]*' "$work/out" | head -n 1 | sed 's/.*: *//') # the second is a time
    step "$1: the same, measured" "$berth" bench -q -m "$dir" --devices "$devices" -i "$dir/picture.png" -c 4096 -p 0 -n 2 -r "$rounds" -o jsonl || return
    encode=$(number encode_ms) project=$(number project_ms) prefill=$(number prefill_ms)
    tile_tokens=$(figure "$work/costs" tile_tokens)
    "$build/bench/gpu_model" --size "$1" --dir "$dir" --prompt "$prompt" >"$work/costs"
    reached=$(awk -v p="$(figure "$work/costs" prompt_flops)" -v t="$(figure "$work/costs" tile_flops)" -v n="$tiles" \
        -v ms="$prefill" 'BEGIN { printf "%.6g", (p + n * t) / (ms / 1e3) }')
    say "" "prompt: $prompt tokens, $tiles tiles of $tile_tokens tokens: encode $encode ms, project $project ms, to the first token $prefill ms in all: $(awk -v r="$reached" 'BEGIN { printf "%.1f", r / 1e12 }') TFLOP/s, $(percent "$reached" "$(figure "$work/probe" gemm_most)") of the largest product"
    lines=60
    step "$1: batches" "$berth" bench -q -m "$dir" --devices "$devices" -c 512 -p 0 -n "$n_gen" -b "$batches" -r "$rounds"
    lines=40
    for parallel in 1 16; do
        step "$1: receipts, $parallel at once" "$berth" eval -q --json -m "$dir" --labels "$dir/labels.jsonl" --devices "$devices" \
            --max-tokens "$answer" --ignore-stop --parallel "$parallel" --limit "$pictures" &&
            say "" "$(number images_per_minute) images a minute, answers of $answer tokens"
    done
}

if [ -n "$emulated" ]; then
    n_gen=2 rounds=1 batches=1,2 answer=2 pictures=1
    measure tiny
else
    n_gen=128 rounds=5 batches=1,2,4,8,16,32,64,128 answer=600 pictures=16
    for size in 1B 2B 8B; do
        measure "$size"
        rm -rf "${work:?}/$size"
    done
fi

say "" "## Outcome" "" "$steps steps, $failed failed.${failures:-}"
exit "$failed"
