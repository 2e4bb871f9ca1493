"""Distorts mixed batches: each image has its own type and level; one compiled call computes only the types it needs.

A loop processes groups of images of one type; its body has one branch per type. On a CPU a group is one image. On an
accelerator a single image would leave most of the chip idle and each kernel has a launch cost, so a group has as many
images as each type has in a balanced batch.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from jaxiqa.distortions.single import distort_row
from jaxiqa.distortions.table import DISTORTIONS, get_distortion


def distort_batch(images_BHWC, type_B, level_B, key_B, *, stretch=True, bank=DISTORTIONS, mesh=None, group=None):
    """Distort every image of a batch by its own type and level: `distort`, image by image, in one compiled call.

    Args:
      images_BHWC: floating point (B, H, W, 3), sRGB in 0..1, sides of 64 or more.
      type_B: int (B,), numbers of the bank's rows, in any order. A host array is checked. A traced one is not: an
        unknown number becomes another type.
      level_B: int (B,), 1..5.
      key_B: jax.random keys (B,).
      stretch: as in `distort`.
      bank: a table of distortions; static.
      mesh: the mesh over all of whose axes the batch is sharded; B is a multiple of its devices. None: one device.
      group: number of images of one type that are distorted together; None: 1 on a CPU, B / len(bank) elsewhere.

    Returns:
      float32 (B, H, W, 3) in 0..1.

    Raises:
      ValueError: a type is unknown, the images have another shape or an integer type, or B does not fit the mesh.
    """
    if images_BHWC.ndim != 4 or images_BHWC.shape[3] != 3 or not jnp.issubdtype(images_BHWC.dtype, jnp.floating):
        raise ValueError(
            f"distort_batch takes floats (B, H, W, 3) in 0..1, not {images_BHWC.dtype} {images_BHWC.shape}"
        )
    if isinstance(type_B, np.ndarray | list | tuple):
        for number in np.unique(type_B).tolist():
            get_distortion(number, bank)
    devices = mesh.size if mesh is not None else 1
    if images_BHWC.shape[0] % devices:
        raise ValueError(f"a batch of {images_BHWC.shape[0]} is not a multiple of {devices} devices")
    if group is None:
        platform = mesh.devices.flat[0].platform if mesh is not None else jax.default_backend()
        group = 1 if platform == "cpu" else math.ceil(images_BHWC.shape[0] / devices / len(bank))
    type_B, level_B = jnp.asarray(type_B, jnp.int32), jnp.asarray(level_B, jnp.int32)
    return _distort_batch(images_BHWC, type_B, level_B, key_B, stretch, bank, mesh, group)


@functools.partial(jax.jit, static_argnames=("stretch", "bank", "mesh", "group"))
def _distort_batch(images_BHWC, type_B, level_B, key_B, stretch, bank, mesh, group):
    position = np.zeros(max(row.id for row in bank) + 1, np.int32)
    position[[row.id for row in bank]] = np.arange(len(bank))
    local = functools.partial(_by_groups, stretch=stretch, bank=bank, group=group)
    if mesh is not None:  # without shard_map the compiler would gather the whole batch on each device for the loop
        spec = PartitionSpec(mesh.axis_names)
        local = jax.shard_map(local, mesh=mesh, in_specs=(spec,) * 4, out_specs=spec, check_vma=False)
    return local(images_BHWC.astype(jnp.float32), jnp.asarray(position)[type_B], level_B, key_B)


def _by_groups(images_BHWC, row_B, level_B, key_B, *, stretch, bank, group):
    member_GN, groups = _grouped(row_B, len(bank), group)

    def branch(row):
        one = lambda image, level, key: distort_row(image, row, level, key if row.random else None, stretch)  # noqa: E731
        if group > 1:
            return jax.vmap(one)
        return lambda images, levels, keys: one(images[0], levels[0], keys[0])[None]

    branches = [branch(row) for row in bank]

    def distort_group(number, results_BHWC):
        member_N = member_GN[number]
        pick = lambda x: jnp.take(x, member_N, axis=0, mode="clip")  # noqa: E731
        row = row_B[member_N[0]]
        result = jax.lax.switch(
            row, branches, pick(images_BHWC), pick(level_B), key_B[jnp.minimum(member_N, key_B.size - 1)]
        )
        return results_BHWC.at[member_N].set(result, mode="drop")

    return jax.lax.fori_loop(0, groups, distort_group, jnp.zeros_like(images_BHWC))


def _grouped(row_B, rows, size):
    """Returns groups of `size` images of one row, int32 (G, size) in which B marks a free place, and their number."""
    batch = row_B.shape[0]
    order = jnp.argsort(row_B)
    count = jnp.zeros(rows, jnp.int32).at[row_B].add(1)
    needed = (count + size - 1) // size
    rank = jnp.arange(batch) - (jnp.cumsum(count) - count)[row_B[order]]
    place = (jnp.cumsum(needed) - needed)[row_B[order]] * size + rank
    most = batch // size + min(rows, batch)
    member = jnp.full(most * size, batch, jnp.int32).at[place].set(order.astype(jnp.int32))
    return member.reshape(most, size), needed.sum()
