#!/usr/bin/env bash
# Measures qwire on a machine with an NVIDIA card, in one call of less than ten minutes: what the
# card is, a small model against the definition in f64, compute-sanitizer where it is on PATH, the
# full shape against the CPU, hashes of reruns, speeds at depths, each kernel beside a copy, the slowest
# of them under Nsight Compute where `ncu` is on PATH, and llama.cpp where its llama-bench is given. The model is made here, from a seed. Each part has its
# share of the time, and what failed, was late or was left out has a row that says so.
#
#   cargo xtask gpu-bundle     packs this script with all that it needs: nothing has to be installed
#   tools/gpu-run.sh           writes table.md and samples.json into $OUT, or benchmarks/gpu
#   tools/gpu-run.sh --rehearse
#                              the same lines with a tiny model and the CPU in place of a card, which
#                              `cargo xtask card` makes; its numbers are marked and mean nothing
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
device=cuda:0 seconds=570 llama='' out='' rehearses='' patience=1

usage() {
    echo "usage: gpu-run.sh [--device cuda:N] [--out DIR] [--seconds N] [--llama-bench FILE] [--rehearse]" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
        --rehearse) rehearses=--rehearsed; shift; continue ;;
        --device | --out | --seconds | --llama-bench) [ $# -ge 2 ] || usage ;;
        *) usage ;;
    esac
    case $1 in
        --device) device=$2 ;;
        --out) out=$2 ;;
        --seconds) seconds=$2 ;;
        --llama-bench) llama=$2 ;;
    esac
    shift 2
done

# In the bundle, or in the repository after a build.
first() { for file; do if [ -x "$file" ]; then echo "$file"; return; fi; done; echo "error: none of $* is there" >&2; exit 1; }
qwire=$(first "$root/bin/qwire" "$root/target/release/qwire" "$root/target/debug/qwire")
xtask=$(first "$root/bin/qwire-xtask" "$root/target/release/qwire-xtask" "$root/target/debug/qwire-xtask")

work=$(mktemp -d)
models=$work
cleanup() { rm -rf "$work" "$models"; }
trap cleanup EXIT
parts=$work/parts
mkdir "$parts"

if [ -n "$rehearses" ]; then
    out=${out:-$root/target/gpu-rehearsal}
    # Kernels take long on a CPU, and a busy one says nothing about the script.
    patience=10 seconds=3600
    shape=(tiny-moe --layers 1) depths=(2 4 6 8) prompts=(4 10) written=2 hashed=(10 3) repeats=1
    export LD_LIBRARY_PATH=$root/target/card${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    [ -e "$root/target/card/libcuda.so" ] || { echo "error: \`cargo xtask card\` comes first" >&2; exit 1; }
    # Programs of others that the machine lacks: the first runs what it is told to watch, the second
    # answers for each prompt and depth.
    mkdir "$work/bin"
    cat >"$work/bin/compute-sanitizer" <<'END'
#!/bin/sh
shift 4
exec "$@"
END
    cat >"$work/bin/llama-bench" <<'END'
#!/usr/bin/env bash
prompts=0 depths=0 before='['
while [ $# -gt 0 ]; do
    case $1 in -p) prompts=$2 ;; -d) depths=$2 ;; esac
    shift
done
for n in ${prompts//,/ }; do
    for depth in ${depths//,/ }; do
        printf '%s{"n_prompt":%s,"n_depth":%s,"avg_ts":1.0}\n' "$before" "$n" "$depth"
        before=,
    done
done
echo ']'
END
    # Of each kernel that it is to look at it says the same.
    cat >"$work/bin/ncu" <<'END'
#!/usr/bin/env bash
while [ $# -gt 0 ]; do
    case $1 in --log-file) log=$2 ;; --kernel-name) names=$2 ;; --metrics) metrics=$2 ;; esac
    shift
done
names=${names#regex:^(} names=${names%)\$}
{
    echo "==PROF== a rehearsal"
    echo "\"ID\",\"Kernel Name\",\"${metrics//,/\",\"}\""
    echo '"","","%","%","nsecond"'
    for name in ${names//|/ }; do echo "\"0\",\"$name\",\"1.0\",\"2.0\",\"1,000\""; done
} >"$log"
END
    chmod +x "$work/bin/"*
    export PATH=$work/bin:$PATH
    llama=$work/bin/llama-bench
else
    out=${out:-${OUT:-$root/benchmarks/gpu}}
    shape=(qwen3-30b-a3b) depths=(128 4096 16384 32768) prompts=(512 2048) written=64 hashed=(600 40) repeats=3
    # The model is read several times: where memory is a disk, it is read from memory.
    for folder in /dev/shm "${TMPDIR:-/tmp}"; do
        room=$(df --output=avail --block-size=1G "$folder" 2>/dev/null | tail -n 1 || true)
        if [ "${room:-0}" -ge 24 ]; then models=$(mktemp -d -p "$folder"); break; fi
    done
fi
mkdir -p "$out"
deadline=$seconds

# outcome NAME WORD SECONDS WHY
outcome() {
    printf '%s %s %s\n' "$2" "$3" "${4:-}" >"$parts/$1.outcome"
    echo "$1" >>"$parts/order"
    printf '%4d s  %-14s %s, %d s %s\n' "$SECONDS" "$1" "$2" "$3" "${4:-}" >&2
}

# part NAME SECONDS COMMAND...: runs it for as long at most, and notes how it ended. An interrupt
# comes first, at which what was measured is printed.
part() {
    local name=$1 limit=$(($2 * patience)) begun=$SECONDS code=0
    if [ "$limit" -gt $((deadline - SECONDS)) ]; then limit=$((deadline - SECONDS)); fi
    shift 2
    if [ "$limit" -lt 3 ]; then outcome "$name" skipped 0 "no time was left for it"; return; fi
    timeout --signal=INT --kill-after=10 "$limit" "$@" >"$parts/$name.out" 2>"$parts/$name.log" || code=$?
    local took=$((SECONDS - begun)) last
    last=$(tr '\r' '\n' <"$parts/$name.log" | sed '/^hint/d' | tail -n 1 | cut -c 1-200)
    case $code in
        0) outcome "$name" ok "$took" ;;
        124 | 137) outcome "$name" late "$took" "stopped after $limit s" ;;
        *) outcome "$name" failed "$took" "exit status $code: $last" ;;
    esac
}

# needs NAME FILE: whether it is there; a part without what it needs says so.
needs() {
    if [ -s "$2" ]; then return 0; fi
    outcome "$1" skipped 0 "there is no $(basename "$2")"
    return 1
}

# synth NAME SEED SHAPE...: the bytes of the file are its output.
synth() {
    local file=$models/$1 seed=$2
    shift 2
    "$qwire" synth "$@" --quant q4_k_m --seed "$seed" --quiet --output "$file" && stat --format=%s "$file"
}
export -f synth
export qwire models

small=$models/small.gguf full=$models/full.gguf
part small 30 bash -c 'synth small.gguf 1 tiny-moe --layers 1'
needs device "$small" && part device 30 "$qwire" bench "$small" --device "$device" -p 0 -n 2 -r 1 --json
needs contracts "$small" && part contracts 60 "$qwire" verify "$small" --contract gpu-device \
    --contract gpu-forward --contract gpu-memory
for tool in memcheck racecheck; do
    if ! command -v compute-sanitizer >/dev/null; then
        outcome "$tool" skipped 0 "compute-sanitizer is not on PATH"
    elif needs "$tool" "$small"; then
        part "$tool" 50 compute-sanitizer --tool "$tool" --error-exitcode 9 \
            "$qwire" bench "$small" --device "$device" -p 10 -n 3 -r 1 --no-limits --json
    fi
done

part model 120 bash -c 'synth full.gguf 1 "$@"' synth "${shape[@]}"
needs cosine "$full" && part cosine 110 "$qwire" verify "$full" --contract gpu-cpu --pack never
needs bits "$full" && part bits 70 "$qwire" bench "$full" --device "$device" --bits \
    -p "${hashed[0]}" -n "${hashed[1]}" --json
needs prefill "$full" && part prefill 70 "$qwire" bench "$full" --device "$device" \
    -p "$(IFS=,; echo "${prompts[*]}")" -n 0 --chunk 2048 -r "$repeats" --profile --json
for depth in "${depths[@]}"; do
    needs "decode-$depth" "$full" && part "decode-$depth" $((50 + depth / 500)) \
        "$qwire" bench "$full" --device "$device" -p 0 -n "$written" -d "$depth" -r "$repeats" \
        --chunk 2048 --profile --json
done
counted=decode-${depths[0]}
if ! command -v ncu >/dev/null; then
    outcome ncu skipped 0 "ncu is not on PATH"
elif ! slowest=$("$xtask" gpu-slowest "$parts" "$counted") || [ -z "$slowest" ]; then
    outcome ncu skipped 0 "there is no profile of $counted"
else
    # What it says of itself goes where the counts go.
    part ncu 70 bash -c 'code=0
        ncu --csv --page raw --print-units base --log-file "$1" --launch-skip 60 --launch-count 24 \
            --kernel-name "regex:^($2)\$" --metrics "$3" "$qwire" bench "$4" --device "$5" \
            -p 0 -n 2 -r 1 --no-limits --no-graphs --json >/dev/null || code=$?
        cat "$1"
        grep -h "^==ERROR==" "$1" >&2 || true
        exit $code' ncu "$work/ncu.csv" "$slowest" "$("$xtask" gpu-metrics)" "$full" "$device"
    # Rented cards often count for their owner alone.
    if grep -q ERR_NVGPUCTRPERM "$parts/ncu.out" 2>/dev/null; then
        printf 'skipped 0 this user may not count (ERR_NVGPUCTRPERM)\n' >"$parts/ncu.outcome"
    fi
fi
if [ -z "$llama" ]; then
    outcome llama skipped 0 "no --llama-bench was given"
elif needs llama "$full"; then
    listed=$(IFS=,; echo "${depths[*]}")
    part llama 120 bash -c '"$0" -m "$1" -ngl 99 -fa 1 -r 2 -o json -p "$2" -n 0 >"$4.p" &&
        "$0" -m "$1" -ngl 99 -fa 1 -r 2 -o json -p 0 -n 64 -d "$3" >"$4.n" &&
        cat "$4.p" "$4.n" | tr -d "\n" | sed "s/\] *\[/,/"' \
        "$llama" "$full" "$(IFS=,; echo "${prompts[*]}")" "$listed" "$work/llama"
fi

commas() { local IFS=,; echo "$*"; }
"$xtask" gpu-table "$parts" "$out" "$(commas "${depths[@]}")" "$(commas "${prompts[@]}")" \
    "$(date --utc +%Y-%m-%dT%H:%M:%SZ)" $rehearses
printf '\n%d s; the table and all samples are in %s\n' "$SECONDS" "$out"
