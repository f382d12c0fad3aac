#!/bin/sh
# gpu.sh - all that is to be shown and measured on a computer with GPUs, into one file.
#
#   bench/gpu.sh [--build DIR] [--results FILE] [--limit SECONDS] [PART...]
#   bench/gpu.sh --pack DIR [--build DIR]
#
# Parts, in this order, or as named: devices kernels fused answers transports receipts 8B 2B 1B sanitizer. The first ones show that
# it is right: proofs of the ways between GPUs, every kernel against the reference, ops as one kernel, answers on GPUs against answers
# on cores under every strategy, every transport, the bundled receipts. Then how fast a model of each size is, beside what the GPU
# itself reaches minutes before. Last compute-sanitizer's four tools, which take longest.
#
# A step that fails, or hangs ($BERTH_GPU_STEP seconds, default 300), is told and the others run. The file is the memory: with the same
# --results, steps that stand there as ok are not run again. --limit: no step begins, and none goes on, after so many seconds; run it
# again to go on. The exit code is the number of steps that failed, or 75 where none failed and some are left. The file ends with what
# must be reached and what was.
#
# Needs a build with tests and benches (scripts/build does that), sh, awk, timeout, and for the measurements some 30 GB in $BERTH_GPU_DIR
# (default: $TMPDIR or /tmp; /dev/shm does). cuBLAS, NCCL and NVRTC are also looked for in CUDA's own folder and where pip puts them.
# --pack copies what DIR needs to be the --build on a computer without compilers, with the shared libraries, for a checkout there.
# On emulated GPUs (CUDA_EMU is set) everything runs with tiny shapes; its figures mean nothing, and the file says so.
set -u
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
programs="berth bench/gpu_check bench/gpu_probe bench/gpu_fused bench/gpu_model"
build=build results='' limit=0 pack=''
while [ $# -gt 0 ]; do
    case $1 in
    --build | --results | --limit | --pack)
        [ $# -gt 1 ] || { echo "gpu.sh: $1 takes a value" >&2; exit 2; }
        case $1 in --build) build=$2 ;; --results) results=$2 ;; --limit) limit=$2 ;; --pack) pack=$2 ;; esac
        shift 2
        ;;
    -*) echo "gpu.sh: no option $1; usage: bench/gpu.sh [--build DIR] [--results FILE] [--limit SECONDS] [--pack DIR] [PART...]" >&2; exit 2 ;;
    *) break ;;
    esac
done
case $limit in *[!0-9]* | '') echo "gpu.sh: --limit $limit: seconds, a whole number" >&2; exit 2 ;; esac
for program in $programs; do
    [ -x "$build/$program" ] || { echo "gpu.sh: $build/$program is not there; build with tests and benches (scripts/build), or name the build's folder (--build)" >&2; exit 2; }
done
commit() { { cat "$build/commit" || git describe --always --dirty --exclude '*' || echo unknown; } 2>/dev/null; }

if [ -n "$pack" ]; then
    mkdir -p "$pack/bench" "$pack/lib" && commit >"$pack/commit" || exit 1
    for program in $programs; do
        cp "$build/$program" "$pack/$program" || exit 1
        strip "$pack/$program" 2>/dev/null || : # only smaller
        ldd "$build/$program" | awk '$3 ~ /^\// && $1 !~ /^(libc|libm|libdl|librt|libpthread)\.so/ { print $3 }'
    done | sort -u | while read -r library; do cp -L "$library" "$pack/lib/" || exit 1; done || exit 1
    echo "$pack: $(du -sm "$pack" | cut -f1) MiB, of commit $(cat "$pack/commit")"
    exit 0
fi

emulated=${CUDA_EMU+yes}
if [ -n "$emulated" ]; then
    sizes=tiny models=ivl-native tokens=2 every=23 strategies=balanced lists="--devices cuda:0*2" labels=1 most=2
    n_gen=2 rounds=1 batches='1 2' answer=2 pictures=1
else
    sizes='8B 2B 1B' models='ivl-native ivl-wide-heads ivl-remote ivl-qwen3 ivl-rms-qknorm ivl-tied ivl-remote-6b qwen2-text' tokens=16 every=1
    strategies=single,replicate,sequential,balanced,balanced_low_0,auto,optimal lists="--devices cuda:0 --devices cuda:0*2 --devices cuda:0*4"
    labels=6 most=512 n_gen=128 rounds=5 batches='1 2 4 8 16 32 64 128' answer=600 pictures=16
fi
parts="devices kernels fused answers transports receipts $sizes sanitizer"
wanted=${*:-$parts}
for part in $wanted; do
    case " $parts " in *" $part "*) ;; *) echo "gpu.sh: no part $part; there are: $parts" >&2; exit 2 ;; esac
done

results=${results:-bench/results/$(date -u +%Y-%m-%d)-gpu-$(uname -n).md}
work=${BERTH_GPU_DIR:-${TMPDIR:-/tmp}/berth-gpu}
berth=$build/berth
golden=tests/golden/models
began=$(date +%s)
failed=0 left=0 part='' probe=''
mkdir -p "$work" && touch "$results" || exit 2

# ---- steps -----------------------------------------------------------------------------------------------------------

say() { printf '%s\n' "$@" | tee -a "$results"; } # a line an argument

# outcomes: of all steps in the file, the last of each: "ok|failed|left NAME" a line.
outcomes() {
    awk '/^### / { name = substr($0, 5); if (!(name in last)) names[++n] = name; last[name] = "left"; next }
         /^\*\*(ok|refused, as it should be)\*\*/ { last[name] = "ok" }
         /^\*\*FAILED\*\*/ { last[name] = "failed" }
         END { for (i = 1; i <= n; i++) print last[names[i]], names[i] }' "$results"
}
is_done() { outcomes | grep -qxF "ok $part: $1"; }

# seconds_left: until the limit; a step has $most_seconds otherwise.
most_seconds=${BERTH_GPU_STEP:-300}
seconds_left() {
    rest=$most_seconds
    [ "$limit" = 0 ] || rest=$((limit - ($(date +%s) - began)))
    [ "$rest" -lt "$most_seconds" ] || rest=$most_seconds
    echo "$rest"
}

# step NAME COMMAND...: runs it, keeps what it wrote (in $work/out too), and whether it went well. Not 0: there is nothing new in $work/out.
# may_refuse: words that make a failure an answer.
step() {
    name=$1
    shift
    is_done "$name" && { echo "$part: $name: done before"; return 1; }
    rest=$(seconds_left)
    say "" "### $part: $name" ""
    if [ "$limit" != 0 ] && [ "$rest" -lt 5 ]; then
        left=$((left + 1))
        say "**not run**: the limit of $limit s is near"
        return 1
    fi
    say '```' "\$ $*"
    started=$(date +%s)
    timeout -k 10 "$rest" "$@" >"$work/out" 2>"$work/err" </dev/null
    code=$?
    took="$(($(date +%s) - started)) s"
    cut -c1-2000 "$work/out" | tail -n "${lines:-40}" | tee -a "$results"
    [ "$code" = 0 ] || cut -c1-2000 "$work/err" | tail -n 20 | tee -a "$results"
    say '```'
    if [ "$code" = 0 ]; then
        say "**ok**, $took"
    elif [ -n "${may_refuse:-}" ] && grep -q "$may_refuse" "$work/err"; then
        say "**refused, as it should be**, $took"
    elif [ "$code" = 124 ] && [ "$rest" -lt "$most_seconds" ]; then
        left=$((left + 1))
        say "**cut off** by the limit of $limit s, $took"
    else
        failed=$((failed + 1))
        [ "$code" = 124 ] && say "**FAILED**: no end after $took" || say "**FAILED** with exit code $code, $took"
    fi
    return "$code"
}

# ---- figures ---------------------------------------------------------------------------------------------------------

figure() { [ ! -f "$1" ] || awk -F'[= ]' -v name="$2" '$1 == name { print $2 }' "$1"; } # FILE NAME
number() { grep -o "\"$1\": *[0-9.e+]*" "$work/out" | tail -n 1 | sed 's/.*: *//'; } # KEY: of the last line of JSON that has it
calc() { awk "BEGIN { printf \"%.6g\", $1 }" 2>/dev/null; }
over() { awk -v a="${1:-0}" -v b="${2:-0}" 'BEGIN { if (a + 0 > 0 && b + 0 > 0) printf "%.1f", 100 * a / b }'; } # percent; nothing where one is not known
keep() { say "    $part.$1=$2"; } # KEY VALUE: for the table
kept() { awk -v key="    $1=" 'index($0, key) == 1 { value = substr($0, length(key) + 1) } END { print value }' "$results"; }

# What the GPU reaches, once in a run: what is measured after it stands beside it.
measure_probe() {
    [ -z "$probe" ] || return 0
    beside=$part part=probe
    step "what the GPU reaches, $(date -u '+%Y-%m-%d %H:%M:%S'), before $beside" "$build/bench/gpu_probe" ${emulated:+--small}
    code=$? part=$beside
    [ "$code" = 0 ] || return 1
    probe=$work/probe
    cp "$work/out" "$probe"
    gpu=$(sed -n 's/^gpu="\(.*\)"$/\1/p' "$probe")
    memory_rate=$(grep -lF "\"$gpu\"" bench/profiles/*.json | head -n 1 | xargs -r sed -n '/"memory_bytes_per_second"/,/}/s/.*"value": *\([0-9.e+]*\).*/\1/p')
    read_rate=$( (figure "$probe" read; figure "$probe" copy) | sort -g | tail -n 1)
    cube=$(sed -n 's/^gemm_[0-9x]*=\([0-9.e+]*\) # a cube$/\1/p' "$probe")
    say "" "The memory of $gpu: ${memory_rate:-not known to bench/profiles} B/s as published, $read_rate B/s read here."
    ! command -v nvidia-smi >/dev/null 2>&1 || say "$(nvidia-smi --query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.draw --format=csv,noheader | head -n 1) (clocks of multiprocessors and memory, temperature, power, just after)"
}

# ---- is it right -----------------------------------------------------------------------------------------------------

part_devices() {
    lines=80
    step "devices, proofs of the ways between GPUs, measured rates" "$berth" devices --devices all --probe --measure --save "$work/machine.json"
    lines=40
}

part_kernels() { step "every kernel against the reference" "$build/bench/gpu_check" --every "$every"; }

part_fused() { step "ops as one kernel: the bits of the ops apart, and the times of both" "$build/bench/gpu_fused" ${emulated:+--small}; }

part_answers() {
    many=$lists
    [ -n "$emulated" ] || [ "$n_gpus" -lt 2 ] || many="$lists --devices cuda:0,cuda:1 --devices all"
    for model in $models; do # bench compares greedy answers of all placements before it times anything; exit code 6 if they differ
        step "$model: on GPUs as on cores, every strategy, fp32" \
            "$berth" bench -q -m "$golden/$model" --devices cpu $many --strategy "$strategies" --dtype fp32 -p 0 -n "$tokens" -r 1 --no-warmup
    done
    # Heads of 64 in 16 bits: what tensor cores compute. Between kinds of devices roundings differ, between placements none do.
    step "ivl-wide-heads: every placement on GPUs alike, fp16" \
        "$berth" bench -q -m "$golden/ivl-wide-heads" $many --strategy "$strategies" --dtype fp16 -p 0 -n "$tokens" -r 1 --no-warmup
}

part_transports() {
    pairs="cuda:0*2"
    [ "$n_gpus" -lt 2 ] || pairs="$pairs cuda:0,cuda:1"
    may_refuse="cannot carry what goes\|which takes each GPU once"
    for transport in $("$berth" devices --json | sed 's/.*"transports":\[//; s/\].*//' | grep -o '"name":"[a-z]*"' | cut -d'"' -f4); do
        for pair in $pairs; do
            step "$transport on $pair: answers as on cores" \
                "$berth" bench -q -m "$golden/ivl-native" --devices cpu --devices "$pair" --strategy balanced --transport "$transport" --dtype fp32 -p 0 -n "$tokens" -r 1 --no-warmup
        done
    done
    may_refuse=''
}

part_receipts() {
    step "exact answers, several placements, the GPU's own dtype" \
        "$berth" eval -q -m models/receipt-tiny --labels models/receipt-tiny/receipts/labels.jsonl --limit "$labels" --max-tokens "$most" $lists --strategy balanced --batch-invariant
}

part_sanitizer() {
    if ! command -v compute-sanitizer >/dev/null 2>&1; then
        say "" "compute-sanitizer is not on the PATH; it comes with the CUDA toolkit. Not run."
        return
    fi
    for tool in memcheck racecheck initcheck synccheck; do # --batch-invariant: berth's own kernels, not those of cuBLAS
        step "$tool: an answer" compute-sanitizer --tool "$tool" --error-exitcode 9 \
            "$berth" run -q -m "$golden/ivl-wide-heads" --devices cuda:0 --dtype fp16 --batch-invariant -p "How many?" -n 4
        step "$tool: ops as one kernel" compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/bench/gpu_fused" --small
        step "$tool: kernels" compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/bench/gpu_check" --own --every "$every"
    done
}

# ---- how fast --------------------------------------------------------------------------------------------------------

tokenizer() { # DIR: any tokenizer will do: ids are noise
    for file in tokenizer.json vocab.json merges.txt added_tokens.json tokenizer_config.json special_tokens_map.json generation_config.json preprocessor_config.json; do
        cp "$golden/ivl-remote/$file" "$1/" || return 1
    done
}

measure_load() { # TITLE: what reading the weights took, and the whole from the start of the process, less the first token's own time
    begin=$(date +%s%N)
    step "load, $1" "$berth" run -q --json -m "$dir" --devices "$devices" -p a -n 1 --ignore-stop || return
    end=$(date +%s%N)
    bytes=$(number load_bytes) ms=$(number load_ms)
    rate=$(calc "$bytes / ($ms / 1e3)")
    say "" "$bytes bytes in $ms ms: $rate B/s, where the pinned upload has $(figure "$probe" upload); from the start of the process until it is ready $(calc "($end - $begin) / 1e9 - $(number total) / 1e3") s" ""
    keep load "$(over "$rate" "$(figure "$probe" upload)")"
}

measure_token() {
    step "a token" "$berth" bench -q -m "$dir" --devices "$devices" -c 4096 -p 0 -n "$n_gen" -r "$rounds" -o jsonl || return
    "$build/bench/gpu_model" --size "$part" --dir "$dir" >"$work/costs"
    rate=$(calc "$(number avg_ts) * $(figure "$work/costs" decode_bytes)")
    say "" "$(number avg_ts) tokens/s, $rate B/s of weights, where the read probe has $read_rate" ""
    keep decode_of_memory "$(over "$rate" "$memory_rate")"
    keep decode_of_read "$(over "$rate" "$read_rate")"
}

measure_prompt() { # TITLE KEY OPTION...
    title=$1 key=$2
    shift 2
    step "$title" "$berth" bench -q -m "$dir" --devices "$devices" -i "$dir/picture.png" -c 5120 -p 0 -n 2 -r "$rounds" -o jsonl "$@" || return
    prefill=$(number prefill_ms)
    "$build/bench/gpu_model" --size "$part" --dir "$dir" --prompt "$prompt" >"$work/costs"
    reached=$(calc "($(figure "$work/costs" prompt_flops) + $tiles * $(figure "$work/costs" tile_flops)) / ($prefill / 1e3)")
    say "" "$prompt tokens, $tiles tiles of $(figure "$work/costs" tile_tokens) tokens: encode $(number encode_ms) ms, project $(number project_ms) ms, to the first token $prefill ms in all; $reached operations/s, where the cube has $cube" ""
    keep "$key" "$(over "$reached" "$cube")"
}

measure_prompts() {
    if ! is_done "a prompt with a picture"; then
        step "a prompt with a picture" "$berth" run -q --json -m "$dir" --devices "$devices" -i "$dir/picture.png" -p "Extract." -n 1 -c 5120 --ignore-stop || return
        keep prompt_tokens "$(number prompt_tokens)"
        keep tiles "$(grep -o '"tiles": *[0-9]*' "$work/out" | head -n 1 | sed 's/.*: *//')" # the second is a time
    fi
    prompt=$(kept "$part.prompt_tokens") tiles=$(kept "$part.tiles")
    measure_prompt "the same, measured" prefill
    measure_prompt "the same in large passes" prefill_large --chunk 2048 --tiles 13
}

# A command a size: compared with each other, random weights' near ties may fall either way.
measure_batches() {
    for batch in $batches; do
        step "$batch at once" "$berth" bench -q -m "$dir" --devices "$devices" -c 512 -p 0 -n "$n_gen" -b "$batch" -r 3 -o jsonl || continue
        keep "batch_$batch" "$(number avg_ts)"
    done
}

measure_receipts() {
    for parallel in 1 16; do
        step "receipts, $parallel at once" "$berth" eval -q --json -m "$dir" --labels "$dir/labels.jsonl" --devices "$devices" -c 5120 \
            --max-tokens "$answer" --ignore-stop --parallel "$parallel" --limit "$pictures" || continue
        say "" "$(number images_per_minute) images a minute, answers of $answer tokens" ""
        keep "receipts_$parallel" "$(number images_per_minute)"
    done
}

part_size() {
    dir=$work/$part
    ! is_done "all" || { echo "$part: done before"; return; }
    measure_probe || return
    if ! "$build/bench/gpu_model" --size "$part" --dir "$dir" >"$work/costs" 2>/dev/null || ! is_done "a model of this shape"; then
        step "a model of this shape" "$build/bench/gpu_model" --size "$part" --dir "$dir" || return
    fi
    tokenizer "$dir" || return
    devices=cuda:0 # a model that does not fit there is cut over all GPUs
    "$berth" plan -m "$dir" --devices cuda:0 -c 5120 >/dev/null 2>&1 || devices=all
    say "" "$part on $devices"
    before=$((failed + left))
    measure_load "first time"
    measure_load "again"
    measure_token
    measure_prompts
    measure_receipts
    measure_batches
    [ $((failed + left)) != "$before" ] || step "all" true
    [ "$limit" != 0 ] && [ "$left" != 0 ] || rm -rf "${dir:?}"
}

# ---- the table -------------------------------------------------------------------------------------------------------

row_steps() { # PART WHAT
    counts=$(outcomes | awk -v part="$1:" '$2 == part { n[$1]++ } END { print n["ok"] + 0, n["failed"] + 0, n["left"] + 0 }')
    verdict=$(echo "$counts" | awk '{ print ($2 ? "no" : ($1 && !$3 ? "yes" : ($1 ? "in part" : "not run"))) }')
    say "| $2 | every step | $(echo "$counts" | awk '{ print $1 " ok, " $2 " failed, " $3 " left" }') | $verdict |"
}

row() { # KEY WHAT MUST UNIT; MUST - = told only
    value=$(kept "$1")
    verdict=$(awk -v v="$value" -v m="$3" 'BEGIN { print (v == "" ? "not run" : (m == "-" ? "" : (v + 0 >= m + 0 ? "yes" : "no"))) }')
    must=$3
    [ "$must" = - ] || must="$must$4"
    say "| $2 | $must | ${value:+$value$4} | $verdict |"
}

table() {
    say "" "## Must and reached, $(date -u '+%Y-%m-%d %H:%M:%S') UTC" ""
    [ -z "$emulated" ] || say "Emulated: no figure means anything." ""
    say "| what | must | reached | |" "|---|---|---|---|"
    row_steps devices "ways between GPUs proven, rates measured"
    row_steps kernels "kernels against the reference"
    row_steps fused "ops as one kernel against ops apart"
    row_steps answers "answers on GPUs as on cores, every strategy"
    row_steps transports "answers by every transport"
    row_steps receipts "the bundled receipts"
    row_steps sanitizer "compute-sanitizer's four tools"
    row 8B.decode_of_memory "8B: a token, of the memory's published rate" 85 " %"
    row 8B.decode_of_read "8B: a token, of the read probe" 95 " %"
    row 2B.decode_of_memory "2B: a token, of the memory's published rate" 70 " %"
    row 2B.decode_of_read "2B: a token, of the read probe" - " %"
    row 8B.prefill "8B: a prompt of 13 tiles, of the 8192 cube" 65 " %"
    row 8B.prefill_large "8B: the same in large passes" - " %"
    row 8B.load "8B: loading, of the pinned upload" 80 " %"
    row 8B.receipts_1 "8B: receipts, images a minute, one at once" 22 ""
    row 8B.receipts_16 "8B: receipts, images a minute, 16 at once" 150 ""
    for size in $sizes; do
        [ "$size" = 8B ] || [ "$size" = 2B ] || for key in decode_of_memory decode_of_read; do row "$size.$key" "$size: $key" - " %"; done
        [ "$size" = 8B ] || for key in prefill prefill_large load; do row "$size.$key" "$size: $key" - " %"; done
        [ "$size" = 8B ] || for key in receipts_1 receipts_16; do row "$size.$key" "$size: $key" - ""; done
        say "| $size: tokens a second of all, at once:$(for batch in $batches; do printf ' %s' "$batch"; done) | - |$(for batch in $batches; do printf ' %s' "$(kept "$size.batch_$batch")"; done) | |"
    done
    say "" "transformers on the same GPU was not run: how many times as fast stays open." "" "$failed steps of this run failed, $left are left." ""
    outcomes | grep -v '^ok \|^left probe:' | sed 's/^\([a-z]*\) /- \1: /' | tee -a "$results"
}

# ---- all -------------------------------------------------------------------------------------------------------------

# Where the linker does not find a library of NVIDIA's: CUDA's own folder, or pip's. Never before what the caller named.
find_libraries() {
    [ ! -d "$build/lib" ] || export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(cd "$build/lib" && pwd)"
    [ -z "$emulated" ] || return 0
    for library in libcublas.so libcublasLt.so libnccl.so libnvrtc.so; do
        ! { ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | grep -q "$library" || continue
        for folder in /usr/local/cuda/lib64 $(python3 -c 'import glob, sysconfig; print(*glob.glob(sysconfig.get_path("purelib") + "/nvidia/*/lib"))' 2>/dev/null); do
            ls "$folder/$library".[0-9]* >/dev/null 2>&1 || continue
            case ":${LD_LIBRARY_PATH:-}:" in *":$folder:"*) ;; *) export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder" ;; esac
            break
        done
    done
}

find_libraries
[ -s "$results" ] || say "# GPUs, $(date -u +%Y-%m-%d)"
say "" "## Run of $(date -u '+%Y-%m-%d %H:%M:%S') UTC" ""
[ -z "$emulated" ] || say "**Emulated GPUs (CUDA_EMU=$CUDA_EMU): that everything runs is all that this shows; no figure means anything.**" ""
say "\`bench/gpu.sh --build $build --limit $limit $wanted\`, commit $(commit), $("$berth" --version | head -n 1), $(uname -sr), LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}"
{ nvidia-smi --query-gpu=index,name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit --format=csv || cat /proc/driver/nvidia/version; } >"$work/out" 2>/dev/null && say "" '```' "$(cat "$work/out")" '```'
n_gpus=$("$berth" devices --json 2>/dev/null | grep -o '"model":' | wc -l)
if [ "$n_gpus" = 0 ]; then
    say "" "There is no GPU that berth can use. Nothing was run." '```' "$("$berth" devices 2>&1)" '```'
    exit 1
fi
for part in $wanted; do
    case " $sizes " in
    *" $part "*) part_size ;;
    *) "part_$part" ;;
    esac
done
table
[ "$failed" != 0 ] || [ "$left" = 0 ] || exit 75
exit "$failed"
