"""One sharding rule for the whole train state, the mesh it lives on, and batches on their way there."""

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxiqa.errors import ConfigError

AXES = ("data", "fsdp")
MIN_SHARDED_SIZE = 2**16  # elements; smaller arrays cost more to gather than they save


def make_mesh(data: int = -1, fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh ("data", "fsdp") over all devices, or over those given; -1 takes what is left.

    Raises:
      ConfigError: the axes do not multiply to the number of devices.
    """
    devices = devices or jax.devices()
    count = len(devices)
    sizes = [data, fsdp]
    if -1 in sizes:
        rest = sizes[1 - sizes.index(-1)]
        sizes[sizes.index(-1)] = count // rest if rest > 0 and count % rest == 0 else 0
    if sizes[0] * sizes[1] != count or min(sizes) < 1:
        raise ConfigError(
            f"config.mesh: data={data}, fsdp={fsdp} does not fit {count} device(s); their product must be {count}"
        )
    placed = np.array(in_order_of_hosts(devices)).reshape(sizes)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * 2)  # Flax linen cannot train on Explicit axes


def in_order_of_hosts(devices: Iterable) -> list:
    """Devices host by host.

    On a TPU slice the order of jax.make_mesh goes to and fro between hosts. Rows of a batch, which each host brings a
    block of, would then stand elsewhere than on another number of hosts, with other dropout and other distortions.
    """
    return sorted(devices, key=lambda device: (device.process_index, device.id))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def local_mesh(mesh: Mesh) -> Mesh:
    """A mesh of the same axes over this process's devices only."""
    if jax.process_count() == 1:
        return mesh
    devices = np.array(jax.local_devices()).reshape(-1, *[1] * (len(mesh.axis_names) - 1))
    return Mesh(devices, mesh.axis_names)


def local_copy(tree: Any, mesh: Mesh) -> Any:
    """The arrays of a tree on `mesh`, whole on every device of this process; all processes must ask.

    What this process then computes from them it computes by itself. On one process it is the tree itself.
    """
    if jax.process_count() == 1:
        return tree
    here = NamedSharding(local_mesh(mesh), PartitionSpec())
    whole = jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
    return jax.tree.map(
        lambda x: jax.make_array_from_single_device_arrays(x.shape, here, [s.data for s in x.addressable_shards]), whole
    )


def state_sharding(state, mesh: Mesh):
    """A NamedSharding for every leaf: large arrays split along their largest divisible axis over "fsdp".

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
    """ShapeDtypeStructs of `state` with the matching tree of shardings."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, where)


def to_device(batches: Iterator[dict], where: NamedSharding, depth: int = 2) -> Iterator[dict]:
    """The same batches as global device arrays, `depth` of them on their way while one is used."""
    queue = collections.deque()
    for batch in batches:
        queue.append({k: jax.make_array_from_process_local_data(where, v) for k, v in batch.items()})
        if len(queue) == depth:
            yield queue.popleft()
    yield from queue


def check_batches(config, devices: int) -> None:
    """Refuse batches that do not divide over the devices.

    Raises:
      ConfigError: with the key and the nearest sizes that do.
    """
    for key in ("batch_size", "eval_batch_size"):
        size = config[key]
        if size < 1 or size % devices:
            near = max(1, size // devices) * devices
            raise ConfigError(
                f"config.{key}={size} does not divide over {devices} device(s); take {near} or {near + devices}"
            )
    if config.accumulate < 1 or config.batch_size % (devices * config.accumulate):
        raise ConfigError(
            f"config.accumulate={config.accumulate} must be 1 or more and divide config.batch_size="
            f"{config.batch_size} into parts that divide over {devices} device(s)"
        )
