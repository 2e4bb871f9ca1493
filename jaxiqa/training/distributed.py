"""Many processes as one run: who they are, how they start and stop together, and what they tell one another."""

import contextlib
import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax._src.clusters import ClusterEnv
from jax._src.distributed import global_state
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxiqa.errors import ConfigError, Stopped, exit_code_of
from jaxiqa.training.peers import Peers
from jaxiqa.training.relay import start_relay

# Not Kubernetes by itself: JAX would ask its API server for what launch/gke.yaml writes into the environment.
_PLATFORMS = ("slurm", "ompi", "gketpu", "gcetpu")


_meetings = itertools.count()
_kept: list = []  # the Peers of this run, and the process that leads to the coordinator


class Cluster(NamedTuple):
    """`count` processes of which this one is `index`; the first is reached at host:port."""

    host: str
    port: int
    count: int
    index: int
    platform: str = ""  # that JAX knows, "" where the user said it


def find(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None):
    """The Cluster that this process is part of: as given, else as $JAXIQA_COORDINATOR, $JAXIQA_NUM_PROCESSES and
    $JAXIQA_PROCESS_ID say, else as Slurm, Open MPI or a Cloud TPU slice says. None for a process of its own.

    Nothing is asked for over a network but on a TPU, and no device is touched.

    Raises:
      ConfigError: half of it is given, or what cannot be.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    given = {name: os.environ.get(f"JAXIQA_{name.upper()}") if v is None else v for name, v in given.items()}
    given = {name: value for name, value in given.items() if value not in (None, "")}
    if given:
        if absent := [name for name in ("coordinator", "num_processes", "process_id") if name not in given]:
            raise ConfigError(
                f"--{absent[0]} is missing; a run of many processes needs --coordinator HOST:PORT, --num_processes and "
                "--process_id (or JAXIQA_COORDINATOR, ... in the environment)"
            )
        host, _, port = given["coordinator"].rpartition(":")
        try:
            cluster = Cluster(host.strip("[]"), int(port), int(given["num_processes"]), int(given["process_id"]))
        except ValueError:
            cluster = Cluster("", 0, 0, 0)
        if not cluster.host or not 0 < cluster.port < 65536 or not 0 <= cluster.index < cluster.count:
            raise ConfigError(
                f"--coordinator {given['coordinator']} --num_processes {given['num_processes']} --process_id "
                f"{given['process_id']}: write HOST:PORT of process 0, and a number from 0 to num_processes - 1"
            )
        return cluster if cluster.count > 1 else None
    for platform in ClusterEnv._cluster_types:
        if platform.name in _PLATFORMS and platform.is_env_present() and (count := platform.get_process_count()) > 1:
            port = os.environ.get("JAX_COORDINATOR_PORT")
            address = platform.get_coordinator_address(timeout_secs=300, override_coordinator_port=port)
            host, _, port = address.rpartition(":")
            return Cluster(host.strip("[]"), int(port), count, platform.get_process_id(), platform.name)
    return None


@contextlib.contextmanager
def start(workdir, coordinator=None, num_processes=None, process_id=None, peer_timeout: float = 300.0):
    """The run of a program, in one process or in many; before anything asks for devices.

    Where find() finds a cluster, waits for all of its processes and connects them. Only the first prints what follows.
    Where one of them ends before the others, so do they, with one line; with its exit code where that is the verdict of
    an error that would come again, else with 75.

    Args:
      workdir: to say where the run is.
      coordinator, num_processes, process_id: as of find().
      peer_timeout: seconds to wait for the others.

    Raises:
      ConfigError: see find().
      PeerLost: some processes did not come.
    """
    cluster = find(coordinator, num_processes, process_id)
    if cluster is None:
        _introduce(workdir)
        yield
        return
    peers = Peers(cluster.host, cluster.port, cluster.count, cluster.index, peer_timeout)
    relay, port = start_relay(cluster.host, cluster.port) if cluster.index else (None, cluster.port)
    _kept[:] = [peers, relay]
    try:
        jax.distributed.initialize(
            f"127.0.0.1:{port}",
            cluster.count,
            cluster.index,
            cluster_detection_method=cluster.platform or "deactivate",
        )
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))  # back from JAX, which has taken it
        _introduce(workdir)
        with contextlib.ExitStack() as stack:
            if cluster.index:
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            yield
    except Stopped:  # all of them, at one step
        peers.leave()
        raise
    except BaseException as error:
        code = exit_code_of(error)
        peers.fail(own=code != 1, code=0 if isinstance(error, KeyboardInterrupt) else code)
        # Before threads are joined, and before JAX's own exit: both may wait for the others.
        threading._register_atexit(_exit, code)
        raise
    else:
        peers.leave()


def _introduce(workdir) -> None:
    devices, local = jax.device_count(), jax.local_device_count()
    print(
        f"process {jax.process_index()} of {jax.process_count()}, {devices} device{'s' * (devices > 1)} "
        f"({local} local), workdir {workdir}",
        flush=True,
    )


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def stop_at(step: int, received: Sequence[int]) -> int | None:
    """The signal by which the run stops before this step, alike on all processes; ask once for each step.

    One process stops as soon as it has `received` a signal, many at a step that none of them has passed.
    """
    number = received[0] if received else None
    return number if jax.process_count() == 1 else _kept[0].stop_at(step, number)


def meet() -> None:
    """Wait until all processes are here, for as long as they live; what waits on a device may give up after seconds."""
    if jax.process_count() > 1:
        global_state.client.wait_at_barrier(f"jaxiqa_{next(_meetings)}", 7 * 24 * 3600 * 1000)


def compiled_together(function: Callable) -> Callable:
    """A jitted function of one set of shapes; on many processes all of them have compiled it before any runs it."""
    if jax.process_count() == 1:
        return function
    compiled = []

    def call(*arguments):
        if not compiled:
            compiled.append(function.lower(*arguments).compile())
            meet()
        return compiled[0](*arguments)

    return call


def gather(value: Any) -> list[Any]:
    """What every process gives, in their order; anything that is JSON, floats bit for bit, nan included."""
    if jax.process_count() == 1:
        return [value]
    meet()
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
    """Refuse to go on where processes were started with different things; ConfigError that names them."""
    for name, seen in ((name, gather(value)) for name, value in values.items()):
        if others := [i for i, value in enumerate(seen) if value != seen[0]]:
            raise ConfigError(f"process {others[0]} has another {name} than process 0; start all of them alike")


def local_mesh(mesh: Mesh) -> Mesh:
    """A mesh of the same axes over this process's devices only."""
    if jax.process_count() == 1:
        return mesh
    devices = np.array(jax.local_devices()).reshape(-1, *[1] * (len(mesh.axis_names) - 1))
    return Mesh(devices, mesh.axis_names)


def local_copy(tree: Any, mesh: Mesh) -> Any:
    """The arrays of a tree on `mesh`, whole on every device of this process; all processes must ask.

    What this process then computes from them it computes by itself. On one process the tree itself.
    """
    if jax.process_count() == 1:
        return tree
    here = NamedSharding(local_mesh(mesh), PartitionSpec())
    whole = jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
    return jax.tree.map(
        lambda x: jax.make_array_from_single_device_arrays(x.shape, here, [s.data for s in x.addressable_shards]), whole
    )
