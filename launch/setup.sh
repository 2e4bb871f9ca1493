# Sourced by the other scripts: change to the checkout and create .venv with jaxiqa and the extra $1 ("" for none).
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ ! -x .venv/bin/python ]; then
  PYTHON="${PYTHON:-python3}"
  if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "jaxiqa needs Python 3.11 or later; '$PYTHON' is $("$PYTHON" --version 2>&1). Set PYTHON=/path/to/python3.11." >&2
    exit 2
  fi
  echo "== creating .venv with $("$PYTHON" --version)"
  "$PYTHON" -m venv .venv
fi
# Install only if something changed since the last time: the stamp holds the files that decide what is installed.
stamp="$(cat pyproject.toml constraints.txt; echo "extra: ${1:-}")"
if [ "$(cat ".venv/installed-${1:-run}" 2>/dev/null || true)" != "$stamp" ]; then
  echo "== installing jaxiqa${1:+ with the extra '$1'} into .venv (about 1 GB of packages the first time)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".${1:+[$1]}"
  echo "$stamp" > ".venv/installed-${1:-run}"
fi
