"""One run in many processes, on JAX's own runtime: start, exchange of values, and end."""

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
from jaxiqa.training.sharding import local_devices

_SHUTDOWN = 30  # seconds that a finished process waits for the others
_SILENCE = 60  # seconds without a heartbeat after which JAX considers a process dead and ends the others


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
    """Run a program in one process or in many. A context manager, entered before anything asks for devices.

    A run has many processes only if the arguments say so, or $JAXIQA_COORDINATOR, $JAXIQA_NUM_PROCESSES and
    $JAXIQA_PROCESS_ID, or `multihost`. Inside, only the first process prints.

    Args:
      workdir: folder of the run, which is printed.
      coordinator, num_processes, process_id: HOST:PORT of process 0, number of processes, and number of this process.
      peer_timeout: seconds to wait for the others. After that, JAX aborts this process (exit code 134).
      multihost: JAX finds the cluster (Slurm, Open MPI, a Cloud TPU slice).
      preemption: whether JAX handles SIGTERM and tells all processes; see Run.stop_at. If not, SIGTERM ends this
        process.
      report: function that prints an error that ends this process, and returns the exit code (program.report). Only
        used in a run of many processes.

    Raises:
      ConfigError: an argument is missing or not possible, or there is no cluster, or only a part of its tasks runs.
      PeerLost: a process of the run has ended or cannot be reached.
    """
    given = _given(coordinator, num_processes, process_id)
    if not given and not multihost:
        _introduce(workdir)
        yield
        return
    if not given:
        _check_allocation()
    where = f"{given['num_processes']} processes at {given['coordinator_address']}" if given else "the cluster"
    print(f"waiting up to {peer_timeout:.0f} s for {where}", file=sys.stderr, flush=True)
    jax.config.update("jax_enable_preemption_service", preemption)
    try:
        with _without_proxy():
            jax.distributed.initialize(
                **given,
                initialization_timeout=int(peer_timeout),
                heartbeat_timeout_seconds=_SILENCE,
                shutdown_timeout_seconds=_SHUTDOWN,
            )
    except ValueError as error:
        raise ConfigError(
            f"--multihost: JAX finds no cluster here ({error}); set --coordinator HOST:PORT, --num_processes and "
            "--process_id",
            code="missing",
            key="--coordinator",
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise PeerLost(f"{where} did not connect ({_first_line(error)}); start all processes again") from error
    try:
        meet()  # all processes must begin the first exchange between devices within 30 s
        _introduce(workdir)
        with contextlib.ExitStack() as stack:
            if not is_first():
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            yield
    except Stopped:  # all processes stop at the same step
        raise
    except jax.errors.JaxRuntimeError as error:
        if is_out_of_memory(error):
            _end(report(error))
        gone = PeerLost(
            f"a process of this run has ended or cannot be reached ({_first_line(error)}); start all processes again "
            "(--debug prints the full error)"
        )
        gone.__cause__ = error
        _end(report(gone))
    except BaseException as error:
        _end(report(error))


def _check_allocation() -> None:
    """Raises ConfigError if only some tasks of a Slurm allocation run: JAX would wait for the others in vain."""
    started, expected = (os.environ.get(f"SLURM_{name}") for name in ("STEP_NUM_TASKS", "NTASKS"))
    if started and expected and started != expected:
        raise ConfigError(
            f"--multihost: Slurm has started {started} of the {expected} tasks of this allocation here, and "
            "this process would wait for the others in vain; start the program by srun, or omit --multihost to run in "
            "this process alone",
            code="mismatch",
            key="--multihost",
        )


@contextlib.contextmanager
def _without_proxy():
    """gRPC reads the variables of proxies when it connects. It would ask the proxy for process 0, and wait in vain."""
    names = [name for name in os.environ if name.lower() in ("grpc_proxy", "http_proxy", "https_proxy")]
    kept = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(kept)


def _given(coordinator, num_processes, process_id) -> dict[str, Any]:
    """Arguments of jax.distributed.initialize, from flags or the environment; {} for a run of one process."""
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    given = {name: os.environ.get(f"JAXIQA_{name.upper()}") if v is None else v for name, v in given.items()}
    given = {name: value for name, value in given.items() if value not in (None, "")}
    if not given:
        return {}
    if absent := [name for name in ("coordinator", "num_processes", "process_id") if name not in given]:
        raise ConfigError(
            f"--{absent[0]} is missing; a run of many processes needs --coordinator HOST:PORT, --num_processes and "
            "--process_id (or JAXIQA_COORDINATOR, JAXIQA_NUM_PROCESSES and JAXIQA_PROCESS_ID)",
            code="missing",
            key=f"--{absent[0]}",
        )
    host, _, port = given["coordinator"].rpartition(":")
    try:
        port, count, index = int(port), int(given["num_processes"]), int(given["process_id"])
    except ValueError:
        port = count = index = -1
    if not host or not 0 < port < 65536 or not 0 <= index < count:
        raise ConfigError(
            f"--coordinator {given['coordinator']} --num_processes {given['num_processes']} --process_id "
            f"{given['process_id']}: --coordinator must be HOST:PORT of process 0, and --process_id a number from 0 to "
            "num_processes - 1",
            code="value",
            key="--coordinator",
        )
    about = {"coordinator_address": given["coordinator"], "num_processes": count, "process_id": index}
    return about | {"cluster_detection_method": "deactivate"} if count > 1 else {}


def _introduce(workdir) -> None:
    local, devices = len(local_devices()), jax.device_count()
    print(
        f"process {jax.process_index()} of {jax.process_count()}, {devices} device{'s' * (devices > 1)} "
        f"({local} local), workdir {workdir}",
        flush=True,
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _end(code: int) -> None:
    """End this process of a run of many with the exit code `code`, at once.

    Threads of Orbax and JAX's exit handler would wait for the other processes until JAX aborts (134), and the launcher
    would not get the code. So this process is replaced by one that has nothing to wait for.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", f"raise SystemExit({code})"])


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


def meet() -> None:
    """Wait until all processes have called this."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("jaxiqa")


def gather(value: Any) -> list[Any]:
    """The values of all processes, in their order: any JSON. Floats are kept bit for bit, NaN included."""
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(data.size))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: data.size] = data
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes.tolist(), strict=True)]


def from_first(value: Any) -> Any:
    """The value of the first process, on all processes, so that a decision cannot differ by rounding."""
    return gather(value)[0]


def check_same(**values: Any) -> None:
    """Raise ConfigError if a value differs between processes; it names the value."""
    for name, seen in ((name, gather(value)) for name, value in values.items()):
        if others := [i for i, value in enumerate(seen) if value != seen[0]]:
            raise ConfigError(
                f"process {others[0]} has another {name} than process 0; start all processes with the same arguments",
                code="mismatch",
                key=name,
            )
