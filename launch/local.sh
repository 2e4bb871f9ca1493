#!/usr/bin/env bash
# A run in N processes on this machine, as if they were N hosts.
#   bash launch/local.sh N python -m jaxiqa.train --config CONFIG --workdir WORKDIR ...
# The processes connect at 127.0.0.1:$PORT (default 8476). If the port is taken, the next free one is used. Each restart
# uses another port, because the old one may stay occupied. On a CPU, each process has $JAX_NUM_CPU_DEVICES devices
# (default 1). On GPUs, process I has GPU I. Process 0 prints here. The others print to $LOGS/process_I.log (default: a
# new temporary folder), after the R-th restart to process_I.restart_R.log. Errors of all processes are printed here.
#
# The exit code is 0 if all processes end with 0. A code from 2 to 6 (a wrong config, bad data, no usable checkpoint, a
# NaN or infinite loss, the workdir in use) would be the same after a restart. Such a code ends the other processes and
# is the exit code of this script. Ctrl-C or SIGTERM to this script stops all processes at one step; the exit code is
# then 130 or 143. After any other code (a process was killed, a full disk, a bug), all processes restart after $PAUSE seconds
# (default 5), at most $RESTARTS times (default 20).
set -uo pipefail
if [[ ! "${1:-}" =~ ^[1-9][0-9]*$ || $# -lt 2 ]]; then
  sed -n '3p' "$0" | cut -c3- >&2
  exit 2
fi
count=$1
shift
export JAXIQA_NUM_PROCESSES="$count" JAX_NUM_CPU_DEVICES="${JAX_NUM_CPU_DEVICES:-1}"
# The processes talk by gRPC, which would use a proxy even for this machine.
export no_proxy="${no_proxy:+$no_proxy,}127.0.0.1,localhost" NO_PROXY="${NO_PROXY:+$NO_PROXY,}127.0.0.1,localhost"
port="${PORT:-8476}" restarts="${RESTARTS:-20}" pause="${PAUSE:-5}" logs="${LOGS:-$(mktemp -d)}"
mkdir -p "$logs"
pids=() stopped=""
stop() { kill -TERM ${pids[@]+"${pids[@]}"} 2>/dev/null || true; }
trap 'stopped=130; stop' INT
trap 'stopped=143; stop' TERM

for ((attempt = 0; ; attempt++)); do
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done # the port is taken
  export JAXIQA_COORDINATOR="127.0.0.1:$port"
  pids=() codes=()
  for ((i = 0; i < count; i++)); do
    gpu=()
    if command -v nvidia-smi >/dev/null && [ -z "${CUDA_VISIBLE_DEVICES:-}" ]; then gpu=("CUDA_VISIBLE_DEVICES=$i"); fi
    log="$logs/process_$i.log"
    if [ "$attempt" -gt 0 ]; then log="$logs/process_$i.restart_$attempt.log"; fi
    exec 3>&1
    if [ "$i" -gt 0 ]; then exec 3> "$log"; fi
    # Its own session, so that Ctrl-C in a terminal reaches it only once, as the SIGTERM above.
    env ${gpu[@]+"${gpu[@]}"} JAXIQA_PROCESS_ID="$i" setsid "$@" >&3 3>&- &
    pids+=($!)
  done
  exec 3>&-
  if [ -n "$stopped" ]; then stop; fi # the signal arrived during the start
  if [ "$attempt" = 0 ] && [ "$count" -gt 1 ]; then echo "== $count processes; what the others print is in $logs" >&2; fi

  verdict="" first="" deadline="" running=1
  while [ "$running" = 1 ]; do
    running=0
    for ((i = 0; i < count; i++)); do
      if [ -n "${codes[i]:-}" ]; then continue; fi
      if kill -0 "${pids[i]}" 2>/dev/null; then
        running=1
        continue
      fi
      wait "${pids[i]}"
      codes[i]=$?
      case ${codes[i]} in
        0) ;;
        [2-6])
          if [ -z "$verdict" ]; then
            verdict=${codes[i]} deadline=$((SECONDS + 10))
            stop
          fi
          ;;
        *) first=${first:-${codes[i]}} deadline=${deadline:-$((SECONDS + 60))} ;; # in case JAX does not end the others
      esac
    done
    if [ "$running" = 1 ]; then
      if [ -z "$stopped" ] && [ "$SECONDS" -ge "${deadline:-$((SECONDS + 1))}" ]; then
        kill -KILL -- "${pids[@]/#/-}" 2>/dev/null || true # with their child processes
      fi
      sleep 0.1
    fi
  done
  pids=()
  code=${verdict:-${first:-0}}
  if [ "$code" = 0 ] || [ -n "$verdict$stopped" ] || [[ " ${codes[*]}" =~ ^(\ (130|143))+$ ]]; then exit "$code"; fi
  if [ "$attempt" -ge "$restarts" ]; then
    echo "== ended with ${codes[*]}; given up after $attempt restarts" >&2
    exit "$code"
  fi
  echo "== ended with ${codes[*]}; restart $((attempt + 1)) of $restarts in $pause s" >&2
  next=$((SECONDS + pause))
  while [ -z "$stopped" ] && [ "$SECONDS" -lt "$next" ]; do sleep 0.1; done
  if [ -n "$stopped" ]; then exit "$stopped"; fi
  port=$((port + 1))
done
