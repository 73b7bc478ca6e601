#!/bin/sh
# Drives the gateway binary with real peers: tests/peers/run.sh [group ...]; see run.mjs. Needs setup.sh first.
here=$(cd "$(dirname "$0")" && pwd)
exec "$here/.node/bin/node" "$here/run.mjs" "$@"
