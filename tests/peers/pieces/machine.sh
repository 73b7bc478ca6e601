#!/bin/bash
# A machine to throw away: systemd as process 1 over a copy of this machine's files, in namespaces of its own. Files and processes are
# its own; the network is this machine's, or with MACHINE_NET=own its own too. Wants root.
#
#   machine.sh DIR [FROM:TO ...]    # DIR: an empty directory to put it on; FROM (a file or directory here) is put at TO there
#
# Prints "cannot: …" and ends with 3 where this machine does not allow it; else "ready PID", systemd's, and runs until SIGTERM.
set -euo pipefail

dir=$1
shift

# The second half, within the namespaces: makes the root and becomes systemd.
if [ "${MACHINE_INSIDE-}" ]; then
    mount --make-rprivate /
    mount -t tmpfs tmpfs "$dir"
    root=$dir/root
    mkdir "$dir/upper" "$dir/work" "$root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs tmpfs "$root/run"
    mount -t tmpfs tmpfs "$root/tmp"
    mount --rbind /dev "$root/dev"
    # Of this machine's own services nothing starts.
    rm -rf "$root"/{usr/,}lib/systemd/system/*.wants "$root"/etc/systemd/system/*
    printf '[Unit]\nRequires=systemd-journald.service dbus.service\nAfter=systemd-journald.service dbus.service\n' >"$root/etc/systemd/system/machine.target"
    for pair in "$@"; do
        mkdir -p "$(dirname "$root${pair#*:}")"
        cp -a "${pair%%:*}" "$root${pair#*:}"
    done
    [ "${MACHINE_NET-}" != own ] || ip link set lo up
    mkdir "$root/run/old"
    cd "$root"
    pivot_root . run/old
    # As a container's manager leaves it: systemd makes a service's credentials where only propagation brings them to others.
    mount --make-rshared .
    exec env -i container=machine PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        chroot . /lib/systemd/systemd --system --unit=machine.target --log-level=notice --log-target=console --show-status=no
fi

cannot() {
    echo "cannot: $*"
    exit 3
}
apart=(unshare --mount --pid --fork --cgroup --ipc --uts --kill-child)
[ "${MACHINE_NET-}" != own ] || apart+=(--net)

[ "$(id -u)" = 0 ] || cannot 'not root'
[ -x /lib/systemd/systemd ] || cannot 'no systemd here'
cgroups=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET) || cannot 'no cgroup2 here'
"${apart[@]}" true 2>/dev/null || cannot 'no namespaces here'
"${apart[@]}" sh -c "mount -t tmpfs tmpfs '$dir' && cd '$dir' && mkdir a b c && mount -t overlay overlay -o lowerdir=/,upperdir=a,workdir=b c && mount -t cgroup2 cgroup2 a" 2>/dev/null ||
    cannot 'no overlay of this machine here'

group=$cgroups/machine.$$
mkdir "$group" 2>/dev/null || cannot 'no cgroup of our own here'
apart_pid=
leave() {
    trap - EXIT
    if [ -n "$apart_pid" ]; then
        kill -KILL "$apart_pid" 2>/dev/null || true
        wait "$apart_pid" 2>/dev/null || true
    fi
    for _ in $(seq 50); do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
        [ -d "$group" ] || break
        sleep 0.1
    done
}
trap leave EXIT
trap 'exit 0' TERM INT

(
    echo 0 >"$group/cgroup.procs"
    # It ends with us, however we end.
    MACHINE_INSIDE=1 exec setpriv --pdeathsig KILL "${apart[@]}" "$0" "$dir" "$@"
) </dev/null &
apart_pid=$!

for _ in $(seq 200); do
    kill -0 "$apart_pid" 2>/dev/null || exit 1
    first=$(pgrep -P "$apart_pid" || true)
    if [ -n "$first" ] && nsenter --target "$first" --all systemctl is-active --quiet machine.target 2>/dev/null; then
        echo "ready $first"
        wait "$apart_pid"
        exit 1
    fi
    sleep 0.05
done
echo 'systemd did not get ready'
exit 1
