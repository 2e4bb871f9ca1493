#!/usr/bin/env bash
# Creates .venv, installs jaxiqa with the extra [dev], and runs the tests.
#   bash launch/test.sh           the fast tests
#   bash launch/test.sh --all     the slow tests too, as CI does
#   bash launch/test.sh --release all tests: also the commands of the manual, and repeats on further networks and devices
#   bash launch/test.sh -k NAME   other options go to pytest, which then runs in one process
# Tests on real images use the folder named by JAXIQA_TEST_DATA and are skipped without it.
set -euo pipefail
unset PYTHONDONTWRITEBYTECODE  # with it, every process compiles all modules anew
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" dev
case "${1:-}" in
  --all) shift && how=(-m "not release") ;;
  --release) shift && how=() ;;
  *) how=(-m "not slow and not release") ;;
esac
# Three processes, because some tests wait for other programs. One process would also print what tests print.
if [ $# = 0 ]; then how+=(-n 3 --dist worksteal); fi
echo "== checking style"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
echo "== checking types"
.venv/bin/mypy
echo "== running the tests"
.venv/bin/python -m pytest ${how[@]+"${how[@]}"} "$@"
