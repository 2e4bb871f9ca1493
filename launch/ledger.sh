#!/usr/bin/env bash
# Measures the speed of jaxiqa on this machine in one run (about 20 minutes on 2 idle cores) and writes a table to a file.
#   bash launch/ledger.sh [OUTPUT.json]
#   PYTHON=...        interpreter that has jaxiqa; default: python3
#   TORCH_PYTHON=...  interpreter that has PyTorch: the same network in PyTorch is measured in turns; default: none
# Run it with nothing else on the machine. Each row has the load at the start. The exit code is that of the last failure.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
output="${1:-speed.json}"
python="${PYTHON:-python3}"
twin=()
if [ -n "${TORCH_PYTHON:-}" ]; then twin=(--twin --torch_python="$TORCH_PYTHON"); fi
code=0
measure() {
  echo "== jaxiqa benchmark $*"
  "$python" -m jaxiqa.benchmark "$@" --output="$output" || code=$?
}
for model in glintiqa resnet50 vit_base_patch16_224; do measure forward --model="$model" ${twin[@]+"${twin[@]}"}; done
for model in mfen van_b2; do measure forward --model="$model"; done
measure train --model=glintiqa ${twin[@]+"${twin[@]}"}
measure train --model=mfen
for subject in attention lka distortions input compile; do measure "$subject"; done
exit "$code"
