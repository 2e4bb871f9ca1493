"""The step of both systems on meshes of four devices: equal losses, sharded optimisers, a donated state."""

import math

import jax
import numpy as np
import pytest
from tiny_run import make_config

from jaxiqa.inputs.transforms import images_of
from jaxiqa.models import create_model
from jaxiqa.tasks.quality import quality_loss
from jaxiqa.training import optim, sharding
from jaxiqa.training.losses import parse_loss
from jaxiqa.training.state import make_init
from jaxiqa.training.step import jit_step, make_train_step


def some_values(shapes, rng):
    """A state of random parameters. Scales are near one; the state of the optimiser is zero."""

    def values(path, leaf):
        name = jax.tree_util.keystr(path)
        if ".opt_state" in name or not leaf.shape:
            return np.zeros(leaf.shape, leaf.dtype)
        centre = 1.0 if name.endswith(("['scale']", "['var']")) else 0.0
        return (centre + 0.05 * rng.standard_normal(leaf.shape)).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(values, shapes)


@pytest.mark.slow
@pytest.mark.parametrize("other", [(2, 2), pytest.param((1, 4), marks=pytest.mark.release)])
def test_meshes_agree(pictures, monkeypatch, other):
    """For GlintIQA. MFEN takes minutes to compile, so tests/faults/bars.py has it."""
    monkeypatch.setattr(sharding, "MIN_SHARDED_SIZE", 256)  # the test variants have no large arrays
    compare_meshes("glintiqa", make_config(pictures), ((4, 1), other))


def compare_meshes(name: str, config, meshes=((4, 1), (2, 2), (1, 4))) -> None:
    """Three steps of a system's test variant on each mesh; with MIN_SHARDED_SIZE at 256 elements."""
    rng = np.random.default_rng(0)
    model = create_model(name, variant="test", dropout=0.0)
    schedule = optim.make_schedule("constant", 1e-4, total=10)
    tx = optim.make_optimizer(config.optimizer, schedule)
    step = make_train_step(quality_loss(model, parse_loss("huber"), images_of(model)), tx, schedule)
    key = jax.random.key(0)
    shapes = jax.eval_shape(make_init(model, model.crop_size, tx, ()), key, {})
    start = some_values(shapes, rng)
    image = rng.integers(0, 256, (8, model.crop_size, model.crop_size, 3), np.uint8)
    batch = {"image": image, "label": rng.random(8, np.float32)}
    losses = []
    for data, fsdp in meshes:
        mesh = sharding.make_mesh(data, fsdp)
        places, here = sharding.state_sharding(shapes, mesh), sharding.batch_sharding(mesh)
        state, on_devices = jax.device_put(start, places), jax.device_put(batch, here)
        lowered = jit_step(step, places, mesh).lower(sharding.abstract(shapes, places), on_devices, key)
        compiled = lowered.compile({"xla_backend_optimization_level": 0})
        held = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(state))
        assert compiled.memory_analysis().alias_size_in_bytes >= 0.98 * held
        losses.append([])
        for _ in range(3):
            state, metrics = compiled(state, on_devices, key)
            losses[-1].append(float(metrics["loss"]))
        moments = [x for x in jax.tree.leaves(state.opt_state) if x.size >= 256]
        split = [x.addressable_shards[0].data.size * fsdp == x.size for x in moments]
        assert sum(split) > 0.9 * len(split)
    assert losses[0][2] < losses[0][0]
    np.testing.assert_allclose(losses[1:], [losses[0]] * (len(meshes) - 1), rtol=1e-5)
