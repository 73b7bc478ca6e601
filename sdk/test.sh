#!/bin/sh
# Tests both packages in environments of their own below sdk/: types, then cases.json and what the adapters do.
#
#   sdk/test.sh [python] [typescript]
set -eu
cd "$(dirname "$0")"
PATH="$PWD/../tests/peers/.node/bin:$PATH" # the Node that tests/peers/setup.sh installs, if it is there

test_python() (
  cd python
  [ -x .venv/bin/python ] || python3 -m venv .venv
  .venv/bin/pip install -q --disable-pip-version-check -r requirements-dev.txt -e .
  .venv/bin/mypy
  .venv/bin/pytest -q
)
test_typescript() (
  cd typescript
  npm ci --silent --no-audit --no-fund
  npm run --silent build
  npx tsc --ignoreConfig --noEmit --strict --target es2022 --module nodenext --skipLibCheck --types node test/types.ts
  npm test --silent
)

for package in "${@:-python typescript}"; do
  for name in $package; do
    echo "== sdk: $name"
    "test_$name"
  done
done
