#!/usr/bin/env bash
# Measures jaxiqa on one GPU, one process at a time. The time limits add up to under 10 minutes. Outputs are checked
# before they are timed.
#   bash launch/gpu_benchmark.sh [OUTPUT.json]
# OUTPUT.json (default: gpu_benchmark.json) receives all rows, with versions and hardware. An existing file is replaced.
#   PYTHON=...        interpreter that has jaxiqa and JAX for the GPU; default: python3
#   TORCH_PYTHON=...  interpreter that has PyTorch for the GPU: the same network in PyTorch is measured in turns;
#                     default: none
#   TINY=1            only checks that all of it runs, on any device, in about a minute
#   COMPARE=OLD.json  prints each speed divided by that in an earlier file
# Nobody has run this script on a GPU yet. Exit code: 0 if all benchmarks ran and agree, 1 if one missed its limit or
# failed, 2 if COMPARE is the file that would be replaced.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
output="${1:-gpu_benchmark.json}"
python="${PYTHON:-python3}"
common=(--output="$output")
twin=()
if [ -n "${TINY:-}" ]; then common+=(--tiny); fi
if [ -n "${COMPARE:-}" ]; then common+=(--compare="$COMPARE"); fi
if [ -n "${TORCH_PYTHON:-}" ]; then
  twin=(--twin --torch_python="$TORCH_PYTHON")
  export XLA_PYTHON_CLIENT_PREALLOCATE=false # both processes need memory of the GPU
fi
if [ -n "${COMPARE:-}" ] && [ "$COMPARE" -ef "$output" ]; then
  echo "COMPARE=$COMPARE is the file that would be replaced; name another OUTPUT.json" >&2
  exit 2
fi
rm -f "$output"
failed=()

measure() { # LIMIT SUBJECT [OPTION...]
  local limit="$1"
  shift
  echo "== jaxiqa benchmark $*"
  timeout "$limit" "$python" -m jaxiqa.benchmark "$@" "${common[@]}" || failed+=("$1 ($?)")
}

# The forward pass compares its fp32 outputs with those of the CPU and of the twin before it is timed.
models=(glintiqa mfen vit_base_patch16_224 resnet50 van_b2)
if [ -n "${TINY:-}" ]; then models=(glintiqa); fi
for model in "${models[@]}"; do
  with=(${twin[@]+"${twin[@]}"})
  case "$model" in mfen | van*) with=() ;; esac # they have no twin
  measure 45 forward --model="$model" ${with[@]+"${with[@]}"}
done
measure 75 train --model=glintiqa ${twin[@]+"${twin[@]}"}
if [ -z "${TINY:-}" ]; then measure 45 train --model=mfen; fi
measure 40 attention
measure 40 lka
measure 40 distortions
measure 45 input
if [ -z "${TINY:-}" ]; then measure 40 compile --model=glintiqa; fi

if [ ${#failed[@]} -gt 0 ]; then
  echo "== missed or failed: ${failed[*]}"
  exit 1
fi
echo "== all ran; the rows are in $output"
