"""Many processes as one run, by JAX's own runtime: how they start, what they tell one another, how they end."""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxiqa.errors import ConfigError, PeerLost, Stopped, exit_code_of, is_out_of_memory

_SHUTDOWN = 30  # seconds that a process which is done waits for the others
_SILENCE = 60  # seconds without a sign of life after which JAX counts a process as dead, and ends the others


@contextlib.contextmanager
def start(
    workdir,
    coordinator=None,
    num_processes=None,
    process_id=None,
    peer_timeout: float = 300.0,
    multihost: bool = False,
    preemption: bool = True,
    report: Callable[[BaseException], int] = exit_code_of,
):
    """The run of a program, in one process or in many; before anything asks for devices.

    A run is of many processes only if it is told so: by the arguments, by $JAXIQA_COORDINATOR, $JAXIQA_NUM_PROCESSES
    and $JAXIQA_PROCESS_ID, or by `multihost`. Only the first process prints what follows.

    Args:
      workdir: to say where the run is.
      coordinator, num_processes, process_id: HOST:PORT of process 0, how many there are, and which this is.
      peer_timeout: seconds to wait for the others; JAX aborts this process (134) after that.
      multihost: JAX finds the cluster (Slurm, Open MPI, a Cloud TPU slice).
      preemption: SIGTERM is JAX's, which tells all processes; see Run.stop_at. Without it, it ends this process.
      report: prints an error that ends this process of many, and gives its exit code (program.report).

    Raises:
      ConfigError: half of it is given, or what cannot be, or there is no cluster.
      PeerLost: a process of the run has ended or cannot be reached.
    """
    given = _given(coordinator, num_processes, process_id)
    if not given and not multihost:
        _introduce(workdir)
        yield
        return
    where = f"{given['num_processes']} processes at {given['coordinator_address']}" if given else "the cluster"
    print(f"waiting up to {peer_timeout:.0f} s for {where}", file=sys.stderr, flush=True)
    jax.config.update("jax_enable_preemption_service", preemption)
    try:
        jax.distributed.initialize(
            **given,
            initialization_timeout=int(peer_timeout),
            heartbeat_timeout_seconds=_SILENCE,
            shutdown_timeout_seconds=_SHUTDOWN,
        )
    except ValueError as error:
        raise ConfigError(
            f"--multihost: JAX finds no cluster here ({error}); give --coordinator HOST:PORT, --num_processes and "
            "--process_id"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise PeerLost(f"{where} did not meet ({_first_line(error)}); start all of them again") from error
    try:
        meet()  # the first exchange of devices has to begin within 30 s on all of them
        _introduce(workdir)
        with contextlib.ExitStack() as stack:
            if not is_first():
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            yield
    except Stopped:  # all of them, at one step
        raise
    except jax.errors.JaxRuntimeError as error:
        if is_out_of_memory(error):
            _end(report(error))
        gone = PeerLost(f"a process of this run has ended or cannot be reached ({_first_line(error)}; see --debug)")
        gone.__cause__ = error
        _end(report(gone))
    except BaseException as error:
        _end(report(error))


def _given(coordinator, num_processes, process_id) -> dict[str, Any]:
    """Arguments of jax.distributed.initialize, of flags or the environment; {} for a process of its own."""
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    given = {name: os.environ.get(f"JAXIQA_{name.upper()}") if v is None else v for name, v in given.items()}
    given = {name: value for name, value in given.items() if value not in (None, "")}
    if not given:
        return {}
    if absent := [name for name in ("coordinator", "num_processes", "process_id") if name not in given]:
        raise ConfigError(
            f"--{absent[0]} is missing; a run of many processes needs --coordinator HOST:PORT, --num_processes and "
            "--process_id (or JAXIQA_COORDINATOR, ... in the environment)"
        )
    host, _, port = given["coordinator"].rpartition(":")
    try:
        port, count, index = int(port), int(given["num_processes"]), int(given["process_id"])
    except ValueError:
        port = count = index = -1
    if not host or not 0 < port < 65536 or not 0 <= index < count:
        raise ConfigError(
            f"--coordinator {given['coordinator']} --num_processes {given['num_processes']} --process_id "
            f"{given['process_id']}: write HOST:PORT of process 0, and a number from 0 to num_processes - 1"
        )
    about = {"coordinator_address": given["coordinator"], "num_processes": count, "process_id": index}
    return about | {"cluster_detection_method": "deactivate"} if count > 1 else {}


def _introduce(workdir) -> None:
    devices, local = jax.device_count(), jax.local_device_count()
    print(
        f"process {jax.process_index()} of {jax.process_count()}, {devices} device{'s' * (devices > 1)} "
        f"({local} local), workdir {workdir}",
        flush=True,
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _end(code: int) -> None:
    """End this process of many with `code`, now.

    Threads of Orbax and JAX's own exit handler wait for the other processes, and JAX then aborts (134): the launcher
    would not learn the code. So the process becomes one that has nothing to wait for.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", f"raise SystemExit({code})"])


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def meet() -> None:
    """Wait until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("jaxiqa")


def gather(value: Any) -> list[Any]:
    """What every process gives, in their order; anything that is JSON, floats bit for bit, nan included."""
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(data.size))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: data.size] = data
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes.tolist(), strict=True)]


def from_first(value: Any) -> Any:
    """The first process's value, on all of them: what decides must not differ in a last bit."""
    return gather(value)[0]


def check_same(**values: Any) -> None:
    """Refuse to continue if processes were started with different things; ConfigError that names them."""
    for name, seen in ((name, gather(value)) for name, value in values.items()):
        if others := [i for i, value in enumerate(seen) if value != seen[0]]:
            raise ConfigError(f"process {others[0]} has another {name} than process 0; start all of them alike")
