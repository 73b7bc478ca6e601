#!/bin/sh
# Puts everything the peers need into this folder: a new enough Node, the npm packages of package-lock.json, a Python
# environment, and (from the machine's own packages) Chromium. A second run with nothing changed ends at once.
#
#   tests/peers/setup.sh            # then: tests/peers/run.sh
set -eu
cd "$(dirname "$0")"

node_version=22.23.3
node_package="node-linux-$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')"
say() { printf 'setup: %s\n' "$*"; }
root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
apt() { # apt PROGRAM PACKAGE...: installs the packages when the program is missing
  command -v "$1" >/dev/null 2>&1 && return
  shift
  say "apt-get install $*"
  [ -n "${apt_fresh-}" ] || { root apt-get -q update >/dev/null; apt_fresh=1; }
  root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@" >/dev/null
}

key=$(cat setup.sh package-lock.json requirements.txt | sha256sum | cut -d' ' -f1)
if [ "$(cat .node/stamp 2>/dev/null)" = "$key" ] && [ -x .venv/bin/python ] && command -v chromium >/dev/null && PATH="$PATH:/usr/sbin" command -v nginx >/dev/null && command -v caddy >/dev/null && command -v podman >/dev/null; then
  say 'already done'
  exit 0
fi

apt npm nodejs npm
apt chromium chromium fonts-dejavu-core
PATH="$PATH:/usr/sbin" apt nginx nginx-light
apt caddy caddy
apt systemctl systemd
apt dbus-daemon dbus
apt podman podman crun netavark aardvark-dns iptables
apt curl curl
apt openssl openssl
# python3 may be there without what makes environments
python3 -c 'import ensurepip' 2>/dev/null || apt no-such-program python3 python3-venv

say "node $node_version from npm ($node_package)"
mkdir -p .node
npm install --silent --no-audit --no-fund --prefix .node "$node_package@$node_version"
PATH="$PWD/.node/node_modules/$node_package/bin:$PATH"
ln -sfn "node_modules/$node_package/bin" .node/bin

say 'npm ci'
npm ci --silent --no-audit --no-fund

say 'python environment'
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/pip install -q --disable-pip-version-check -r requirements.txt

printf '%s' "$key" >.node/stamp
say "done: node $(.node/bin/node --version), $(.venv/bin/python --version), $(chromium --version 2>/dev/null)"
