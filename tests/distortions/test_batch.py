"""Mixed batches equal single images, compile once and run on any number of devices; and the draws on the host."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxiqa.distortions import CONTRASTIVE, DISTORTIONS, distort, distort_batch, draw
from jaxiqa.distortions.batch import _distort_batch, _grouped

BATCH = 28
IMAGES = np.random.default_rng(0).random((BATCH, 67, 93, 3), np.float32)
KEYS = jax.random.split(jax.random.key(0), BATCH)


def assert_nearly_equal(a, b):
    """In a few pixels the last bit may decide between two steps of a quantiser."""
    assert np.mean(np.abs(np.asarray(a) - np.asarray(b)) > 2e-5) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("group", [1, pytest.param(3, marks=pytest.mark.release)])
def test_batch_equals_single_images_and_compiles_once(group):
    before = _distort_batch._cache_size()
    for step in range(2):
        type_B, level_B = draw(0, step, BATCH)
        if step == 1:
            type_B[:] = 17
        result = distort_batch(IMAGES, type_B, level_B, KEYS, group=group)
        assert result.shape == IMAGES.shape and result.dtype == np.float32
        for index in range(BATCH):
            alone = distort(IMAGES[index], int(type_B[index]), int(level_B[index]), KEYS[index])
            assert_nearly_equal(result[index], alone)
    assert _distort_batch._cache_size() - before == 1


@pytest.mark.release
def test_sharded_batch_equals_that_of_one_device():
    type_B, level_B = draw(0, 3, BATCH)
    mesh = jax.make_mesh((4, 1), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    shard = lambda x: jax.device_put(x, NamedSharding(mesh, PartitionSpec(("data", "fsdp"))))  # noqa: E731
    step = jax.jit(lambda *arguments: distort_batch(*arguments, mesh=mesh))
    result = step(shard(IMAGES), shard(type_B), shard(level_B), shard(KEYS))
    assert len({s.device for s in result.addressable_shards}) == 4
    assert result.addressable_shards[0].data.shape[0] == BATCH // 4
    assert_nearly_equal(result, distort_batch(IMAGES, type_B, level_B, KEYS, group=1))


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_groups_hold_every_image_once(size):
    rng = np.random.default_rng(size)
    for rows, batch in itertools.product((1, 5, 25), (1, 7, 40)):
        row_B = rng.integers(0, rows, batch)
        member, groups = map(np.asarray, _grouped(jnp.asarray(row_B), rows, size))
        assert sorted(member[member < batch]) == list(range(batch))
        assert (member[:groups, 0] < batch).all() and (member[groups:] == batch).all()
        assert groups == sum(-(-np.sum(row_B == row) // size) for row in range(rows))
        for group in member[:groups]:
            assert len(set(row_B[group[group < batch]])) == 1


@pytest.mark.parametrize("bank", [DISTORTIONS, CONTRASTIVE], ids=["kadid", "contrastive"])
@pytest.mark.parametrize("batch", [8, 32, 100, 256])
def test_draws_are_balanced(bank, batch):
    classes = [(row.id, level) for row in bank for level in range(1, 6)]
    drawn = []
    for step in range(len(classes)):
        types, levels = draw(7, step, batch, bank)
        assert types.shape == levels.shape == (batch,) and types.dtype == levels.dtype == np.int32
        pairs = list(zip(types.tolist(), levels.tolist(), strict=True))
        assert max(map(pairs.count, set(pairs))) <= 1 + -(-batch // len(classes))
        drawn += pairs
    assert {pair: drawn.count(pair) for pair in classes} == dict.fromkeys(classes, batch)


def test_draws_depend_only_on_seed_and_step():
    for a, b in zip(draw(1, 5, 32), draw(1, 5, 32), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (draw(1, 5, 32)[0] != draw(2, 5, 32)[0]).any() and (draw(1, 5, 32)[0] != draw(1, 6, 32)[0]).any()
    types, levels = draw(0, 0, 24, CONTRASTIVE, per_class=3)
    assert (types.reshape(8, 3) == types[::3, None]).all() and (levels.reshape(8, 3) == levels[::3, None]).all()


def test_wrong_calls_are_refused():
    type_B, level_B = draw(0, 0, BATCH)
    with pytest.raises(ValueError, match="floats"):
        distort_batch(IMAGES[0], type_B, level_B, KEYS)
    with pytest.raises(ValueError, match="unknown distortion number 26"):
        distort_batch(IMAGES, type_B + 25, level_B, KEYS)
    with pytest.raises(ValueError, match="multiple of 4"):
        draw(0, 0, 30, per_class=4)
    mesh = jax.make_mesh((4, 1), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    with pytest.raises(ValueError, match="multiple of 4"):
        distort_batch(IMAGES[:6], type_B[:6], level_B[:6], KEYS[:6], mesh=mesh)
