#!/bin/sh
# Checks the service. Runs the tests where there is Node; else looks at the source alone.
set -eu
cd "$(dirname "$0")"

fail() {
  echo "FAILED: $1" >&2
  exit 1
}

for file in package.json src/greeting.js src/server.js; do
  [ -s "$file" ] || fail "$file is missing or empty"
done
grep -Eq '^const GREETING = "[^"]+";$' src/greeting.js || fail "GREETING must be one line with a text that is not empty"
grep -q '^export function greet(name)' src/greeting.js || fail "greet(name) must be exported"
echo "source: ok"

if command -v node >/dev/null 2>&1; then
  node --test >/dev/null 2>&1 || fail "the tests fail, run: node --test test/"
  echo "tests: ok"
else
  echo "tests: skipped, there is no Node here"
fi
echo "All checks passed."
