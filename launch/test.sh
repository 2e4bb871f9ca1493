#!/usr/bin/env bash
# Makes .venv, installs with the test extra, and runs the tests.
#   bash launch/test.sh           the fast ones (under 10 minutes on 2 cores)
#   bash launch/test.sh --all     every one, in two processes, as CI does (under 30 minutes)
#   bash launch/test.sh -k NAME   any other option goes to pytest
# Tests on real pictures use the folder named by JAXIQA_TEST_DATA and are skipped without it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" dev
how=(-m "not slow")
if [ "${1:-}" = "--all" ]; then
  shift
  how=()
  if [ $# = 0 ]; then how=(-n 2 --dist loadfile); fi # what tests print, such as parities, is seen in one process only
fi
echo "== checking style"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
echo "== running the tests"
.venv/bin/python -m pytest ${how[@]+"${how[@]}"} "$@"
