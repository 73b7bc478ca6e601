#!/bin/sh
# Installs valgrind from the packages of the system. Does nothing if it is installed.
set -eu

root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if ! command -v valgrind >/dev/null 2>&1; then
  echo 'valgrind: apt-get install valgrind'
  root apt-get -q update >/dev/null
  root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends valgrind libc6-dbg >/dev/null
fi
