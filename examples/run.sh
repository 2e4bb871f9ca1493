#!/usr/bin/env bash
# Runs the examples of engines on 100 images, each in an environment of its own: bash examples/run.sh [beam|hf_datasets ...]
# It installs packages, and takes minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- hf_datasets beam
for name in "$@"; do
  echo "== $name"
  [ -d "$name/.venv" ] || python3 -m venv "$name/.venv"
  (cd "$name" && .venv/bin/python -m pip install --quiet -r requirements.txt)
  "$name/.venv/bin/python" images.py "$work/images"
  case "$name" in
    hf_datasets) "$name/.venv/bin/python" hf_datasets/score.py "$work/images" "$work/hf.parquet" --crops=auto:1 ;;
    beam)
      "$name/.venv/bin/python" beam/score.py "$work/images/*" "$work/beam" --crops=auto:1
      cat "$work"/beam-*.jsonl > "$work/beam.jsonl"
      echo "scored $(wc -l < "$work/beam.jsonl") images, refused $(grep -c '"refused"' "$work/beam.jsonl")"
      ;;
  esac
done
