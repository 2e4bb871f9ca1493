"""VAN: sizes, and blocks that images skip in training."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxiqa.models import create_model
from jaxiqa.models.van import Block
from jaxiqa.training.state import jit_once


@pytest.mark.parametrize(
    ("name", "trunk", "head"),
    [
        ("van_b0", 3_848_800, 257_000),
        ("van_b1", 13_348_800, 513_000),
        ("van_b2", 26_065_472, 513_000),
        ("van_b3", 44_252_608, 513_000),
    ],
)
def test_sizes(name, trunk, head):
    """The number of parameters equals the public code's; stages have decreasing grids."""
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    model = create_model(name)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    assert sum(x.size for x in jax.tree.leaves(params["head"])) == head
    assert sum(x.size for x in jax.tree.leaves(params)) == trunk + head
    (logits, out), _ = jax.eval_shape(create_model(name, num_classes=0).init_with_output, jax.random.key(0), images)
    assert logits is None
    assert [out[f"stage{s}"].shape[1:] for s in (1, 2, 3, 4)] == [
        (side, side, width) for side, width in zip((56, 28, 14, 7), model.widths, strict=True)
    ]


def test_drop_path_is_unbiased_and_by_image():
    """In training each image either skips a branch or gets all of it, divided by the probability to keep it."""
    drop, B = 0.25, 400
    x = np.random.default_rng(0).standard_normal((1, 3, 3, 8)).astype(np.float32)
    block = Block(ratio=2, drop_path=drop, eval_bn=(".*",), dtype=jnp.float32)
    variables = block.init(jax.random.key(0), x, False)
    params = dict(variables["params"], layer_scale1=jnp.ones(8), layer_scale2=jnp.zeros(8))  # one branch alone
    variables = {**variables, "params": params}
    branch = np.asarray(block.apply(variables, x, False)) - x
    many = np.repeat(x, B, axis=0)
    y = np.asarray(block.apply(variables, many, True, rngs={"dropout": jax.random.key(1)})) - many
    kept = np.abs(y).max((1, 2, 3)) > 0
    expected = kept.reshape(B, 1, 1, 1) * branch / (1 - drop)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    assert abs(kept.mean() - (1 - drop)) < 4 * np.sqrt(drop * (1 - drop) / B)


@pytest.mark.slow
def test_drop_path_rates_and_evaluation():
    """Rates rise linearly over all blocks; evaluation skips nothing; training depends only on the dropout key."""
    model, plain = create_model("van", "test", drop_path=0.2), create_model("van", "test")
    x = np.random.default_rng(0).standard_normal((4, 64, 64, 3)).astype(np.float32)
    rates = []

    def note_rate(call, args, kwargs, context):
        if isinstance(context.module, Block) and context.method_name == "__call__":
            rates.append(context.module.drop_path)
        return call(*args, **kwargs)

    with nn.intercept_methods(note_rate):
        jax.eval_shape(model.init, jax.random.key(0), x)
    np.testing.assert_allclose(rates, np.linspace(0, 0.2, sum(model.stage_sizes)))

    variables = jit_once(plain.init)(jax.random.key(0), x)
    np.testing.assert_array_equal(*(jax.jit(m.apply)(variables, x)[0] for m in (model, plain)))

    def loss(params, key):
        (logits, _), new = model.apply(
            {**variables, "params": params}, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return (logits**2).sum(), new["batch_stats"]

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (first, stats), grads = step(variables["params"], jax.random.key(1))
    assert step(variables["params"], jax.random.key(1))[0][0] == first
    assert step(variables["params"], jax.random.key(2))[0][0] != first
    paths = {jax.tree_util.keystr(p, simple=True, separator="/"): g for p, g in jax.tree.leaves_with_path(grads)}
    # BatchNorm removes what the patch embeddings' biases add, so their gradient is rounding noise.
    assert all(np.any(g) for path, g in paths.items() if not path.endswith("patch_embed/proj/bias"))
    assert all(np.isfinite(g).all() for g in paths.values())
    assert all(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (stats, variables["batch_stats"])), strict=True))
