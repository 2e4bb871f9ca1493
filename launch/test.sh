#!/usr/bin/env bash
# Makes .venv, installs with the test extra, and runs the tests.
#   bash launch/test.sh           the fast ones (under 5 minutes on 2 cores once their programs are in the cache)
#   bash launch/test.sh --all     every one, as CI does (under 12 minutes)
#   bash launch/test.sh -k NAME   any other option goes to pytest, which then is one process
# Tests on real pictures use the folder named by JAXIQA_TEST_DATA and are skipped without it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" dev
how=(-m "not slow")
if [ "${1:-}" = "--all" ]; then
  shift
  how=()
fi
if [ $# = 0 ]; then how+=(-n 2 --dist worksteal); fi # what tests print, such as parities, is seen in one process only
echo "== checking style"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
echo "== running the tests"
.venv/bin/python -m pytest ${how[@]+"${how[@]}"} "$@"
