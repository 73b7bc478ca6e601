#!/bin/sh
# Makes an environment beside this file on the first run, then starts the server.
set -eu
cd "$(dirname "$0")"
if [ ! -x .venv/bin/python ]; then
  python3 -m venv .venv
  .venv/bin/pip install -q --disable-pip-version-check 'fastmcp>=4,<5' ../../sdk/python
fi
exec .venv/bin/python server.py
