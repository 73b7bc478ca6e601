#!/usr/bin/env bash
# Runs each fuzz target over its seeds and its corpus, and prints the lines of src that they reach: fuzz/coverage.sh
# A corpus comes from fuzz/run.sh; without one, only the seeds run. The pages are in target/fuzz-coverage.
set -euo pipefail

fuzz=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$fuzz")
out=${CARGO_TARGET_DIR:-$root/target}/fuzz-coverage
host=$(rustc -vV | sed -n 's/^host: //p')
# The tools must be of the compiler's own LLVM: a distribution's are usually older, and cannot read the profiles.
llvm=$(rustc --print sysroot)/lib/rustlib/$host/bin
[ -x "$llvm/llvm-cov" ] || rustup component add llvm-tools

cd "$fuzz"
mapfile -t targets < <(sed -n '/^\[\[bin\]\]/,$s/^name = "\(.*\)"/\1/p' Cargo.toml)
# Stable is enough. The flags are those of `cargo fuzz`, with the instrumentation of rustc instead of the sanitizer's.
# Macros and build scripts are instrumented too: LLVM_PROFILE_FILE keeps their profiles out of the source folders.
RUSTFLAGS="--cfg fuzzing -C instrument-coverage" CARGO_TARGET_DIR="$out/build" LLVM_PROFILE_FILE="$out/build/%m.profraw" \
    cargo build --quiet --locked --bins

rm -rf "$out/profiles"
objects=()
for target in "${targets[@]}"; do
    binary="$out/build/debug/$target"
    objects+=(-object "$binary")
    folders=()
    for folder in "seeds/$target" "corpus/$target"; do [ -d "$folder" ] && folders+=("$folder"); done
    count=$(find "${folders[@]}" -type f | wc -l)
    # Inputs as arguments run once each; no fuzzing happens.
    find "${folders[@]}" -type f -print0 |
        LLVM_PROFILE_FILE="$out/profiles/$target-%p.profraw" xargs -0 -n 500 "$binary" >"$out/$target.log" 2>&1 ||
        { tail -n 40 "$out/$target.log"; echo "fuzz/coverage.sh: $target fails on an input of ${folders[*]}"; exit 1; }
    printf '%-16s %6s inputs\n' "$target" "$count"
done

"$llvm/llvm-profdata" merge -sparse "$out"/profiles/*.profraw -o "$out/all.profdata"
report() { "$llvm/llvm-cov" "$@" -instr-profile "$out/all.profdata" "${objects[@]:1}" -ignore-filename-regex='^/rustc/|/registry/|/git/checkouts/|/fuzz_targets/'; }
report show -format=html -output-dir "$out/html" >/dev/null
# One line for each file of src that a target reaches: lines, and the share that ran.
report export -summary-only >"$out/summary.json"
report report | awk -v root="$root/src/" '$1 ~ /\.rs$/ && $(NF-3) != "0.00%" { sub(root, "", $1); printf "%-52s %6d lines %8s\n", $1, $8, $10 }' | tee "$out/files.txt"
echo "fuzz coverage: $(wc -l <"$out/files.txt") files of src; pages in $out/html/index.html"
