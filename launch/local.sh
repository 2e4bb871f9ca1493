#!/usr/bin/env bash
# A run in N processes on this machine, as if they were N hosts.
#   bash launch/local.sh N python -m jaxiqa.train --config CONFIG --workdir WORKDIR ...
# The processes find one another at 127.0.0.1:$PORT (default 8476) and the port after it. On a CPU each has
# $JAX_NUM_CPU_DEVICES devices (default 1), on N GPUs one each. Process 0 prints here, the others into
# $LOGS/process_I.log (default: a new folder of temporary files); errors of all of them are shown. Ctrl-C or SIGTERM stops
# all at one step. The exit code is the first that is not 0.
set -uo pipefail
if [[ ! "${1:-}" =~ ^[1-9][0-9]*$ || $# -lt 2 ]]; then
  sed -n '3p' "$0" | cut -c3- >&2
  exit 2
fi
count=$1
shift
export JAXIQA_COORDINATOR="127.0.0.1:${PORT:-8476}" JAXIQA_NUM_PROCESSES="$count"
export JAX_NUM_CPU_DEVICES="${JAX_NUM_CPU_DEVICES:-1}"
logs="${LOGS:-$(mktemp -d)}"
mkdir -p "$logs"
pids=()
stop() { kill -TERM "${pids[@]}" 2>/dev/null || true; }
trap stop INT TERM
for ((i = 0; i < count; i++)); do
  gpu=()
  if command -v nvidia-smi >/dev/null && [ -z "${CUDA_VISIBLE_DEVICES:-}" ]; then gpu=("CUDA_VISIBLE_DEVICES=$i"); fi
  exec 3>&1
  if [ "$i" -gt 0 ]; then exec 3> "$logs/process_$i.log"; fi
  # In a session of its own, so that a terminal's Ctrl-C comes once, as the SIGTERM above.
  env "${gpu[@]}" JAXIQA_PROCESS_ID="$i" setsid "$@" >&3 &
  pids+=($!)
done
if [ "$count" -gt 1 ]; then echo "== $count processes; what the others print is in $logs" >&2; fi
code=0
for pid in "${pids[@]}"; do
  while true; do # a trapped signal ends the wait, not the process
    wait "$pid"
    this=$?
    kill -0 "$pid" 2>/dev/null || break
  done
  if [ "$code" = 0 ]; then code=$this; fi
done
exit "$code"
