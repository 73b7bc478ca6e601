#!/usr/bin/env bash
# Builds all fuzz targets on the stable toolchain and runs each for so many seconds: fuzz/run.sh [SECONDS] [TARGET...]
# Prints one line per target; fails if any of them finds anything. What was found lies in fuzz/artifacts/<target>/.
set -euo pipefail

fuzz=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-10}
shift || true
# Two at most at a time, so that a small machine still gets through its inputs.
jobs=2

cd "$fuzz"
mapfile -t targets < <(if [ $# -gt 0 ]; then printf '%s\n' "$@"; else sed -n '/^\[\[bin\]\]/,$s/^name = "\(.*\)"/\1/p' Cargo.toml; fi)

# `none`: the address sanitizer needs a nightly compiler, and the crate forbids unsafe code. Coverage works on stable.
target_dir=${CARGO_TARGET_DIR:-$fuzz/target}
CARGO_TARGET_DIR="$target_dir" cargo fuzz build --fuzz-dir . --sanitizer none --codegen-units 16
host=$(rustc -vV | sed -n 's/^host: //p')

one() {
    local target=$1 corpus="corpus/$1" artifacts="artifacts/$1/" log started status=0
    mkdir -p "$corpus" "$artifacts"
    if [ -d "seeds/$target" ]; then cp -n "seeds/$target"/* "$corpus/" 2>/dev/null || true; fi
    log=$(mktemp)
    started=$SECONDS
    "$target_dir/$host/release/$target" "$corpus" -artifact_prefix="$artifacts" -max_total_time="$seconds" \
        -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 -verbosity=1 >"$log" 2>&1 || status=$?
    local runs
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ "$status" -eq 0 ]; then
        printf '%-16s ok    %10s executions %5s s\n' "$target" "${runs:-?}" "$((SECONDS - started))"
    else
        printf '%-16s FOUND %10s executions %5s s\n' "$target" "${runs:-?}" "$((SECONDS - started))"
        tail -n 40 "$log"
    fi
    rm -f "$log"
    return "$status"
}

failed=0
running=0
for target in "${targets[@]}"; do
    if [ "$running" -ge "$jobs" ]; then
        wait -n || failed=1
        running=$((running - 1))
    fi
    one "$target" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
    wait -n || failed=1
    running=$((running - 1))
done
exit "$failed"
