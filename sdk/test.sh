#!/bin/sh
# Tests both packages in environments of their own below sdk/: types, then cases.json and what the adapters do. Checks
# the document of the management API, docs/openapi.json, with the linter that tests/peers/setup.sh installs.
#
#   sdk/test.sh [python] [typescript] [openapi]
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
# The strict rule set: a warning is an error.
test_openapi() (
  export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true
  ../tests/peers/node_modules/.bin/redocly lint --extends recommended-strict --format stylish ../docs/openapi.json
)

for package in "${@:-python typescript openapi}"; do
  for name in $package; do
    echo "== sdk: $name"
    "test_$name"
  done
done
