"""The same tests for all models, in their `test` variants."""

import importlib
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refused import refused

import jaxiqa
import jaxiqa.models
from jaxiqa.benchmarks.forward import random_variables
from jaxiqa.errors import ConfigError
from jaxiqa.models import create_model, find_model, list_models

MODULES = sorted(
    m.name
    for m in pkgutil.iter_modules(jaxiqa.models.__path__)
    if hasattr(importlib.import_module(f"jaxiqa.models.{m.name}"), "VARIANTS")
)
SYSTEMS = [name for name in MODULES if name in list_models()]


def compiled(names):
    """The names as parameters of a test that compiles the models. MFEN takes many seconds."""
    return [pytest.param(name, marks=[pytest.mark.slow] if name == "mfen" else []) for name in names]


def inputs(model, batch=2, seed=0):
    shape = (batch, model.crop_size, model.crop_size, 3)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", MODULES)
def test_module(name):
    """A model's file has the required names, and its test variant is small."""
    module = find_model(name)
    assert {"mapped", "carried"} <= set(module.NAMES) <= {"mapped", "carried", "classifier", "legacy", "unbuilt"}
    assert len(module.MEAN) == len(module.STD) == 3
    assert module.TEST_CROPS in ("grid", "five", "whole")
    assert len(module.PAPER) > 50
    model = create_model(name, "test")
    assert model.mean == module.MEAN and model.std == module.STD
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs(model, 1))
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) < 300_000
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", compiled(MODULES))
def test_forward(name):
    """Outputs are finite and do not depend on the other images of the batch; bfloat16 is close."""
    model = create_model(name, "test")
    variables, x = random_variables(model), inputs(model)
    forward = jax.jit(lambda v, x: model.apply(v, x, train=False))
    score, out = forward(variables, x)
    assert score.shape[0] == 2 and score.dtype == jnp.float32
    assert np.isfinite(score).all() and out
    swapped, _ = forward(variables, x[::-1].copy())
    np.testing.assert_allclose(swapped[::-1], score, rtol=1e-5, atol=1e-6)
    half = create_model(name, "test", dtype=jnp.bfloat16)
    low, _ = jax.jit(lambda v, x: half.apply(v, x, train=False))(variables, x)
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, score, atol=0.1 * float(np.abs(score).max()) + 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_training_mode(name):
    """Every parameter gets a gradient, dropout depends only on its key, batch statistics change or can be kept."""
    fields = find_model(name).Model.__dataclass_fields__
    model = create_model(name, "test", **{"dropout": 0.5} if "dropout" in fields else {})
    variables, x = random_variables(model), inputs(model, 4)

    def loss(params, key):
        variables_ = {**variables, "params": params}
        (score, _), new = model.apply(variables_, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"])
        return (score**2).sum(), new.get("batch_stats", {})

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (first, stats), grads = step(variables["params"], jax.random.key(1))
    dead = [jax.tree_util.keystr(p) for p, g in jax.tree_util.tree_leaves_with_path(grads) if not np.any(g)]
    assert not dead
    assert step(variables["params"], jax.random.key(1))[0][0] == first
    assert (step(variables["params"], jax.random.key(2))[0][0] != first) == ("dropout" in fields)
    assert "eval_bn" in fields or "batch_stats" not in variables  # frozen_bn="eval" must reach them
    before = variables.get("batch_stats", {})
    assert all(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (stats, before)), strict=True))


def test_eval_bn_keeps_statistics():
    """BatchNorm layers named by eval_bn use and keep their running statistics in training; others change."""
    model = create_model("glintiqa", "test", eval_bn=(r"^clfe/backbone/(bn1|layer1_\d+)/",))
    variables = random_variables(model)
    train = jax.jit(lambda v, x, key: model.apply(v, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"]))
    _, new = train(variables, inputs(model), jax.random.key(0))
    old, new = (tree["batch_stats"]["clfe"]["backbone"] for tree in (variables, new))
    assert np.array_equal(old["bn1"]["var"], new["bn1"]["var"])
    assert np.array_equal(old["layer1_0"]["bn2"]["mean"], new["layer1_0"]["bn2"]["mean"])
    assert not np.array_equal(old["layer2_0"]["bn2"]["mean"], new["layer2_0"]["bn2"]["mean"])


def test_unknown_names_are_refused_with_a_suggestion():
    with refused(ConfigError, "unknown", "model", '"glintqa"', '"glintiqa"'):
        create_model("glintqa")
    with refused(ConfigError, "unknown", "variant", '"vit_s16"', "vit_s16_r50, test"):
        create_model("glintiqa", "vit_s16")
    with refused(ConfigError, "unknown", "dropuot", '"dropout"'):
        create_model("glintiqa", dropuot=0.1)


def test_list_models():
    assert list_models() == jaxiqa.list_models()
    assert {
        "glintiqa",
        "vit_small_patch16_224",
        "vit_base_patch16_224",
        "resnet50",
        "resnet101",
        "van_b0",
        "van_b3",
    } <= set(list_models())
    for name in list_models():
        assert isinstance(create_model(name), nn.Module)
