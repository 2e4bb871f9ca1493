"""The mesh, one sharding rule for the whole train state, and the transfer of batches to the devices."""

import collections
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxiqa.errors import ConfigError

AXES = ("data", "fsdp")
_USERS: list[int] = []  # the process that used the devices first; a fork inherits it
MIN_SHARDED_SIZE = 2**16  # elements; gathering smaller arrays costs more than sharding saves


def local_devices() -> list[jax.Device]:
    """The devices of this process. Call it first where a program or a caller begins to use JAX.

    Raises:
      ConfigError: there are none of the platform that JAX_PLATFORMS names, or this process was forked from one that
        used them: JAX's threads do not exist here, so its functions would never return.
    """
    if _USERS and _USERS[0] != os.getpid():
        raise ConfigError(
            f"JAX cannot work in process {os.getpid()}, which was forked from process {_USERS[0]} after that had used "
            'JAX; start workers by "spawn" or "forkserver" (multiprocessing.get_context, or multiprocessing_context of '
            "a DataLoader)",
            code="conflict",
            key="fork",
        )
    try:
        devices = jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # the latter if JAX's package for the platform is not installed
        reason = re.split(r" \(set JAX|\n", str(error).strip())[0][:200] or "it is not installed"
        raise ConfigError(
            f"JAX_PLATFORMS={jax.config.jax_platforms}: JAX cannot use such a device here ({reason}); unset "
            "JAX_PLATFORMS, or set it to cpu, or end the process that holds the device",
            code="conflict",
            key="JAX_PLATFORMS",
        ) from error
    _USERS[:] = [os.getpid()]
    return devices


def make_mesh(data: int = -1, fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh ("data", "fsdp") over all devices, or over `devices`. An axis of -1 takes the remaining devices.

    Raises:
      ConfigError: the product of the axes is not the number of devices; or as for local_devices.
    """
    if not devices:
        local_devices()
        devices = jax.devices()
    count = len(devices)
    sizes = [data, fsdp]
    if -1 in sizes:
        rest = sizes[1 - sizes.index(-1)]
        sizes[sizes.index(-1)] = count // rest if rest > 0 and count % rest == 0 else 0
    if sizes[0] * sizes[1] != count or min(sizes) < 1:
        raise ConfigError(
            f"config.mesh: data={data}, fsdp={fsdp} does not fit {count} device(s); their product must be {count}",
            code="value",
            key="config.mesh",
        )
    placed = np.array(in_order_of_hosts(devices)).reshape(sizes)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * 2)  # Flax linen cannot train on Explicit axes


def in_order_of_hosts(devices: Iterable) -> list:
    """The devices, host by host.

    On a TPU slice, jax.make_mesh orders devices back and forth between hosts. Each host provides a block of the rows of
    a batch, so the order of rows, their dropout and their distortions would depend on the number of hosts.
    """
    return sorted(devices, key=lambda device: (device.process_index, device.id))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def local_mesh(mesh: Mesh) -> Mesh:
    """A mesh with the same axes over the devices of this process."""
    if jax.process_count() == 1:
        return mesh
    devices = np.array(jax.local_devices()).reshape(-1, *[1] * (len(mesh.axis_names) - 1))
    return Mesh(devices, mesh.axis_names)


def local_copy(tree: Any, mesh: Mesh) -> Any:
    """The arrays of a tree on `mesh`, whole on every device of this process. All processes must call it.

    This process can then compute with them alone. In a run of one process, it returns the tree itself.
    """
    if jax.process_count() == 1:
        return tree
    here = NamedSharding(local_mesh(mesh), PartitionSpec())
    whole = jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
    return jax.tree.map(
        lambda x: jax.make_array_from_single_device_arrays(x.shape, here, [s.data for s in x.addressable_shards]), whole
    )


def state_sharding(state, mesh: Mesh):
    """A NamedSharding for every leaf: large arrays are split over "fsdp" along their largest divisible axis.

    Args:
      state: a tree of arrays or ShapeDtypeStructs (parameters, optimiser moments, batch statistics).
      mesh: from make_mesh.
    """
    fsdp = mesh.shape["fsdp"]

    def rule(leaf):
        axes = [i for i, n in enumerate(leaf.shape) if n % fsdp == 0]
        if fsdp == 1 or not axes or np.prod(leaf.shape) < MIN_SHARDED_SIZE:
            return replicated(mesh)
        largest = max(axes, key=lambda i: leaf.shape[i])
        return NamedSharding(mesh, PartitionSpec(*("fsdp" if i == largest else None for i in range(leaf.ndim))))

    return jax.tree.map(rule, state)


def abstract(state: Any, where: Any) -> Any:
    """ShapeDtypeStructs of `state` with the shardings of the tree `where`."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, where)


def to_device(batches: Iterator[dict], where: NamedSharding, depth: int = 2) -> Iterator[dict]:
    """Yields the batches as global device arrays. `depth` of them are in transfer while one is used."""
    queue = collections.deque()
    for batch in batches:
        queue.append({k: jax.make_array_from_process_local_data(where, v) for k, v in batch.items()})
        if len(queue) == depth:
            yield queue.popleft()
    yield from queue
