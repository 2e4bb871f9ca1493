#!/usr/bin/env bash
# Makes the weights that come with jaxiqa again: renders, trains three seeds, packs the one with the best validation, and
# fits the probe that gives the reasons of its scores.
#   bash launch/ready_model/make.sh PHOTOGRAPHS WORKDIR
# PHOTOGRAPHS is a folder with the files of launch/ready_model/photographs.csv, which says where each is and under which
# licence. On 2 cores it takes about an hour. Run it again to resume. OUTPUT (default jaxiqa/models/ready) receives the
# checkpoint and its card; SEEDS (default "0 1 2") are the seeds.
set -euo pipefail
photographs="$(realpath "$1")"
mkdir -p "$2"
work="$(realpath "$2")"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python="${PYTHON:-.venv/bin/python}"
for k in 0 1; do "$python" launch/ready_model/render.py "$photographs" "$work/pool" --only "$k/2" & done
wait
output="${OUTPUT:-jaxiqa/models/ready}"
"$python" launch/ready_model/pack.py "$work/pool" --seeds ${SEEDS:-0 1 2} --output "$output"
"$python" launch/ready_model/probe.py "$work/pool" --photographs "$photographs" --output "$output"
