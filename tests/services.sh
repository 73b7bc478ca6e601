#!/bin/sh
# Puts on this machine what the tests start: redis-server and redis-cli, from the machine's own packages. A second run ends at once.
set -eu

root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if ! command -v redis-server >/dev/null 2>&1 || ! command -v redis-cli >/dev/null 2>&1; then
  echo 'services: apt-get install redis-server redis-tools'
  root apt-get -q update >/dev/null
  root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends redis-server redis-tools >/dev/null
fi
