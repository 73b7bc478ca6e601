#!/usr/bin/env bash
# What the shipped binary takes: how long until it is ready, and how much memory it holds while it has nothing to do.
# Fails when the memory is over its budget, or when a start takes out of all proportion to running the program at all.
# Usage: tests/budget.sh BINARY [RUNS]
set -euo pipefail

binary=$1
runs=${2:-5}
# About 2 MiB are memory of the process itself. The rest are pages of the binary, which grows with its code.
most_kib=$((18 * 1024))
# A start makes files and waits for the disk, `--help` does not: a disk may be slow, a machine too, but not both so much.
most_times=150

if [ -z "${EPOCHREALTIME:-}" ]; then
    echo "budget: skipped, this shell tells no microseconds (bash 5 does)"
    exit 0
fi

work=$(mktemp -d)
pid=
cleanup() {
    if [ -n "$pid" ]; then
        kill -9 "$pid" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT

# Microseconds since 1970; the locale may write a comma.
now() { echo "${EPOCHREALTIME/[.,]/}"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
ms() { awk -v us="$1" 'BEGIN { printf "%.1f ms", us / 1000 }'; }

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}

# The first line of the answer has a 200.
is_ready() {
    local line
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET /health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
    read -r -t 5 line <&3 || line=
    exec 3>&-
    [[ $line == HTTP/1.?\ 200* ]]
}

# Starts it on this data directory, with what is given in its environment; sets `took` (microseconds) and `pid`.
start() {
    local data=$1 port begun
    shift
    port=$(free_port)
    begun=$(now)
    env -i "$@" "$binary" --upstream-rs http://127.0.0.1:9/mcp --host 127.0.0.1 --port "$port" --data-dir "$data" \
        2>"$work/log" &
    pid=$!
    until is_ready "$port" 2>/dev/null; do
        if ! kill -0 "$pid" 2>/dev/null || [ $(($(now) - begun)) -gt 30000000 ]; then
            echo "budget: it did not become ready:" >&2
            cat "$work/log" >&2
            exit 1
        fi
        sleep 0.001
    done
    took=$(($(now) - begun))
}

stop() {
    kill -TERM "$pid"
    wait "$pid"
    pid=
}

# KiB; waits until what the start needed is given back, two seconds at most.
resident() {
    local kib=0 i
    for i in 1 2 3 4 5 6 7 8; do
        sleep 0.25
        kib=$(awk '/^VmRSS:/ { print $2 }' "/proc/$pid/status")
        if [ "$i" -ge 2 ] && [ "$kib" -le "$most_kib" ]; then
            break
        fi
    done
    echo "$kib"
}

failed=0
largest=0
measure_memory() {
    if [ -r "/proc/$pid/status" ]; then
        local kib
        kib=$(resident)
        if [ "$kib" -gt "$largest" ]; then largest=$kib; fi
    fi
}

for ((i = 0; i < runs; i++)); do
    begun=$(now)
    "$binary" --help >/dev/null
    echo $(($(now) - begun)) >>"$work/help"

    start "$work/made.$i"
    echo "$took" >>"$work/first"
    # The password's hash is made behind the start.
    for ((j = 0; j < 400; j++)); do
        [ -e "$work/made.$i/password-hash" ] && [ ! -e "$work/made.$i/pending-password" ] && break
        sleep 0.025
    done
    measure_memory
    stop

    start "$work/made.$i"
    echo "$took" >>"$work/later"
    measure_memory
    stop

    start "$work/given.$i" MCP_GATEWAY_PASSWORD=correct-horse-battery-9
    echo "$took" >>"$work/given"
    measure_memory
    stop
done

help=$(median <"$work/help")
echo "budget: time until ready, median of $runs runs (--help takes $(ms "$help"))"
for what in first later given; do
    took=$(median <"$work/$what")
    case $what in
    first) name='first start' ;;
    later) name='later start' ;;
    given) name='first start, with MCP_GATEWAY_PASSWORD' ;;
    esac
    echo "budget:   $name: $(ms "$took")"
    if [ "$took" -gt $((help * most_times)) ]; then
        echo "budget: FAILED: that is more than $most_times times as long as --help"
        failed=1
    fi
done
if [ "$largest" -eq 0 ]; then
    echo "budget: memory: skipped, there is no /proc here"
else
    echo "budget: idle resident memory, largest of $((3 * runs)): $largest KiB of at most $most_kib"
    if [ "$largest" -gt "$most_kib" ]; then
        echo "budget: FAILED: too much memory while idle"
        failed=1
    fi
fi
exit "$failed"
