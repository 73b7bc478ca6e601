#!/bin/bash
# Within a machine to throw away (machine.sh): makes podman work there without any registry, as `docker`, and makes the three images that
# deploy/ names by hand, from the programs of this machine. None of them is what a registry has under that name.
#
#   engine.sh PROGRAM    # the gateway; it stands in for what cargo builds
set -euo pipefail
work=$(mktemp -d)

cat >/etc/containers/storage.conf <<'END'
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
END
# No cgroups, and no limits above what we have: that is all that is left out.
cat >/etc/containers/containers.conf <<'END'
[containers]
cgroups = "disabled"
pids_limit = 0
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
network_backend = "netavark"
END
cat >/usr/local/bin/docker <<'END'
#!/bin/sh
export BUILDAH_ISOLATION=chroot BUILDAH_FORMAT=docker PYTHONPATH=/srv/python
if [ "$1" = compose ]; then
    shift
    exec /usr/bin/python3 -m podman_compose "$@"
fi
exec podman "$@"
END
chmod 755 /usr/local/bin/docker

# Programs and the libraries that each needs, below a directory.
programs() {
    local to=$1 program
    shift
    for program in "$@"; do
        { echo "$program" && { ldd "$program" | grep -o '/[^ ]*' || true; }; } | sort -u | xargs -I '{}' cp --parents -L '{}' "$to"
    done
}
image() { # image NAME DIRECTORY [option ...]
    local name=$1 from=$2
    shift 2
    tar -C "$from" -c . | podman import --quiet "$@" - "$name" >/dev/null
}

# What gcr.io/distroless/cc-debian12:nonroot has that we rely on: the C library, libgcc_s, roots of TLS, the user; no shell.
base=$work/base
mkdir -p "$base/etc/ssl/certs" "$base/tmp"
programs "$base" "$1"
rm "$base$1"
cp -L /etc/ssl/certs/ca-certificates.crt "$base/etc/ssl/certs/"
printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' >"$base/etc/passwd"
image gcr.io/distroless/cc-debian12:nonroot "$base" --change USER=65532
(cd "$base" && find . -type f | sort) >/srv/base.txt

# A Rust that has built already. It says what it found in the build's context.
rust=$work/rust
mkdir -p "$rust/tmp"
programs "$rust" /bin/sh /usr/bin/install /usr/bin/find
mkdir -p "$rust/usr/local/bin"
cp "$1" "$rust/usr/local/bin/built"
cat >"$rust/usr/local/bin/cargo" <<'END'
#!/bin/sh
set -eu
echo "cargo $*"
find . -type f | while read -r file; do echo "context $file"; done
install -D /usr/local/bin/built target/release/mcp-oauth-gateway
END
chmod 755 "$rust/usr/local/bin/cargo"
image docker.io/library/rust:1-bookworm "$rust"

redis=$work/redis
mkdir -p "$redis/tmp" "$redis/data"
programs "$redis" /usr/bin/redis-server /usr/bin/redis-cli
chown 999:999 "$redis/data"
image docker.io/library/redis:7-bookworm "$redis" --change WORKDIR=/data --change VOLUME=/data
rm -rf "$work"
