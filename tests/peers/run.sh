#!/bin/sh
# Drives the gateway binary with real peers: tests/peers/run.sh [group ...]; see run.mjs. Needs setup.sh first.
here=$(cd "$(dirname "$0")" && pwd)
# nginx lives in sbin, and not everybody looks there
PATH="$PATH:/usr/sbin" exec "$here/.node/bin/node" "$here/run.mjs" "$@"
