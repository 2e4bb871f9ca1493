#!/usr/bin/env bash
# Creates .venv, installs jaxiqa with the extra [dev], and runs the tests.
#   bash launch/test.sh           the fast tests
#   bash launch/test.sh --all     all tests, as CI does (about 25 minutes on 2 cores)
#   bash launch/test.sh -k NAME   other options go to pytest, which then runs in one process
# Tests on real images use the folder named by JAXIQA_TEST_DATA and are skipped without it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" dev
how=(-m "not slow")
if [ "${1:-}" = "--all" ]; then
  shift
  how=()
fi
if [ $# = 0 ]; then how+=(-n 2 --dist worksteal); fi # one process would also print what tests print
echo "== checking style"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
echo "== checking types"
.venv/bin/mypy
echo "== running the tests"
.venv/bin/python -m pytest ${how[@]+"${how[@]}"} "$@"
