"""Values of schedules, durations, losses, sharding and frozen parameters."""

import functools
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict
from refused import refused

from jaxiqa.errors import ConfigError
from jaxiqa.training import optim, sharding
from jaxiqa.training.durations import to_steps
from jaxiqa.training.losses import parse_loss
from jaxiqa.training.state import scoring_variables, update_ema
from jaxiqa.training.step import accumulate


def test_cosine_wave_equals_a_step_of_the_scheduler_each_iteration():
    rate = optim.make_schedule("cosine_wave", 1e-5, total=1000)
    np.testing.assert_allclose([rate(t) for t in (0, 15, 30, 60)], [1e-5, 5e-6, 0.0, 1e-5], atol=1e-11)
    np.testing.assert_allclose(np.mean([rate(t) for t in range(60)]), 5e-6, rtol=1e-3)


def test_cosine_with_warm_up():
    rate = optim.make_schedule("cosine", 2.0, total=110, warmup=10)
    np.testing.assert_allclose([rate(t) for t in (0, 5, 10, 60, 110)], [0.0, 1.0, 2.0, 1.0, 0.0], atol=1e-6)
    assert optim.make_schedule("constant", 3.0, total=10)(7) == 3.0
    with refused(ConfigError, "unknown", "config.schedule.name", '"cosin"', '"cosine"'):
        optim.make_schedule("cosin", 1.0, total=10)
    with refused(ConfigError, "conflict", "config.schedule.warmup", "10"):
        optim.make_schedule("cosine", 1.0, total=10, warmup=10)


@pytest.mark.parametrize(
    ("duration", "steps"),
    [("300 steps", 300), ("300", 300), ("2 epochs", 200), ("1e4 examples", 625), ("5 percent", 50), ("1 epoch", 100)],
)
def test_durations(duration, steps):
    assert to_steps(duration, "total", batch_size=16, examples=1600, total=1000) == steps


@pytest.mark.parametrize("duration", ["soon", "-3 steps", "3 weeks", "5 percent", "", "1.2.3 steps", ". epochs"])
def test_bad_durations(duration):
    with refused(ConfigError, "value", "config.total", f'"{duration}"'):
        to_steps(duration, "total", batch_size=16, examples=1600)


def test_a_run_of_more_steps_than_can_be_counted():
    with refused(ConfigError, "value", "config.total", '"3e7 epochs"', "2,147,483,647"):
        to_steps("3e7 epochs", "total", batch_size=16, examples=1600)


def test_a_duration_that_cannot_be_nothing():
    steps = functools.partial(to_steps, key="log_every", batch_size=16, examples=1600, total=50)
    assert steps("0 steps") == steps("1 percent") == 0 and steps("1 percent", least=1) == 1
    with refused(ConfigError, "value", "config.log_every", '"0 epochs"', "above 0"):
        steps("0 epochs", least=1)


def test_losses():
    score, label = jnp.array([1.0, 2.0, 4.0]), jnp.array([1.0, 3.0, 2.0])
    assert float(parse_loss("l1")(score, label)) == pytest.approx(1.0)
    r = np.corrcoef(score, label)[0, 1]
    assert float(parse_loss("plcc")(score, label)) == pytest.approx((1 - r) / 2, rel=1e-5)
    assert float(parse_loss("huber")(score, label)) == pytest.approx((0 + 0.95 + 1.95) / 3, rel=1e-5)
    both = parse_loss("l1+0.5*plcc")(score, label)
    assert float(both) == pytest.approx(1.0 + 0.25 * (1 - r), rel=1e-5)
    assert np.isfinite(jax.grad(lambda s: parse_loss("plcc")(s, label))(jnp.ones(3))).all()  # constant scores
    assert float(parse_loss(".5*l1")(score, label)) == pytest.approx(0.5)
    for wrong, named in {"l1+plc": ('"plc"', '"plcc"'), "1.2.3*l1": ('"1.2.3*l1"',)}.items():
        with refused(ConfigError, "unknown", "config.loss", *named):
            parse_loss(wrong)


def optimizer(**options):
    base = dict(
        name="adam", learning_rate=0.1, weight_decay=0.0, decay_on="", b1=0.9, b2=0.999, eps=1e-8, grad_clip_norm=0.0,
        lr_multipliers=(),
    )  # fmt: skip
    return ConfigDict({**base, **options})


def test_adam_puts_weight_decay_into_the_gradient_and_adamw_does_not():
    params = {"a/kernel": jnp.array([10.0]), "a/bias": jnp.array([10.0])}
    zero = jax.tree.map(jnp.zeros_like, params)
    adam = optim.make_optimizer(optimizer(weight_decay=0.01), lambda _: 0.1)
    updates, _ = adam.update(zero, adam.init(params), params)
    np.testing.assert_allclose(updates["a/kernel"], [-0.1], rtol=1e-4)  # Adam normalises the L2 gradient to 1
    adamw = optim.make_optimizer(optimizer(name="adamw", weight_decay=0.01, decay_on="kernel$"), lambda _: 0.1)
    updates, _ = adamw.update(zero, adamw.init(params), params)
    np.testing.assert_allclose(updates["a/kernel"], [-0.01], rtol=1e-4)
    assert updates["a/bias"] == 0
    with refused(ConfigError, "unknown", "config.optimizer.name", '"adamww"', '"adamw"'):
        optim.make_optimizer(optimizer(name="adamww"), lambda _: 0.1)


def test_clipping():
    tx = optim.make_optimizer(optimizer(grad_clip_norm=1.0), lambda _: 1.0)
    state = tx.init({"a": jnp.zeros(2)})
    _, state = tx.update({"a": jnp.array([300.0, 400.0])}, state, {"a": jnp.zeros(2)})
    mu = optax.tree.get(state, "mu")["a"]
    np.testing.assert_allclose(mu, [0.06, 0.08], rtol=1e-5)


def test_frozen_parameters():
    params = {"a": {"kernel": jnp.ones((2, 3))}, "b": {"kernel": jnp.ones(4)}}
    trainable, frozen = optim.split_frozen(params, ("^a/",))
    assert list(trainable) == ["b/kernel"] and list(frozen) == ["a/kernel"]
    assert jax.tree.structure(optim.merge(trainable, frozen)) == jax.tree.structure(params)
    report = optim.freeze_report(params, ("^a/",))
    assert re.findall(r"\d+", report) == ["4", "10", "6", "1"] and "^a/" in report
    with refused(ConfigError, "unknown", "config.frozen", "'^c/'", "a, b"):
        optim.freeze_report(params, ("^c/",))
    with refused(ConfigError, "empty", "config.frozen"):
        optim.freeze_report(params, (".",))


def test_state_sharding_splits_large_arrays_only():
    mesh = sharding.make_mesh(data=2, fsdp=2)
    tree = {"large": jnp.zeros((512, 256)), "odd": jnp.zeros((257, 513)), "small": jnp.zeros((4, 4))}
    specs = jax.tree.map(lambda s: s.spec, sharding.state_sharding(tree, mesh))
    assert specs == {"large": P("fsdp", None), "odd": P(), "small": P()}
    assert sharding.make_mesh().shape == {"data": 4, "fsdp": 1}
    a_slice = [SimpleNamespace(id=i, process_index=host) for i, host in enumerate((0, 0, 1, 1, 1, 1, 0, 0))]
    assert [d.id for d in sharding.in_order_of_hosts(a_slice)] == [0, 1, 6, 7, 2, 3, 4, 5]
    with refused(ConfigError, "value", "config.mesh", "data=3", "fsdp=1", "4 device"):
        sharding.make_mesh(data=3)


def test_l2_and_rank():
    score, label = jnp.array([1.0, 2.0, 4.0]), jnp.array([1.0, 3.0, 2.0])
    assert float(parse_loss("l2")(score, label)) == pytest.approx((0 + 1 + 4) / 3)
    rank = parse_loss("rank")
    # Of the three pairs only (2.0, 4.0) is in the wrong order, by 2 points.
    assert float(rank(score, label)) == pytest.approx(2 / np.std([1.0, 2.0, 4.0]) / 3, rel=1e-5)
    assert float(rank(10 * score + 3, label)) == pytest.approx(float(rank(score, label)), rel=1e-5)
    assert float(rank(label, label)) == 0.0 and float(rank(score, jnp.ones(3))) == 0.0
    slope = jax.grad(rank)(score, label)
    assert slope[1] < 0 < slope[2]
    assert np.isfinite(jax.grad(rank)(jnp.ones(3), label)).all()


def test_learning_rate_multipliers():
    config = optimizer(lr_multipliers=(("^a/", 0.1), ("kernel", 0.0), ("^c/", 2.0)))
    params = {"a/kernel": jnp.ones(2), "b/kernel": jnp.ones(2), "b/bias": jnp.ones(2), "c/bias": jnp.ones(2)}
    tx = optim.make_optimizer(config, optax.constant_schedule(0.5))
    updates, _ = tx.update({p: jnp.ones(2) for p in params}, tx.init(params), params)
    got = {p: float(u[0]) for p, u in updates.items()}
    assert got == pytest.approx({"a/kernel": -0.05, "b/kernel": 0.0, "b/bias": -0.5, "c/bias": -1.0}, rel=1e-5)
    report = optim.lr_report(params, config.lr_multipliers)
    assert re.findall(r"[\d.]+", report) == ["0.1", "1", "0", "1", "2", "1"]
    assert re.findall(r"\((.*?)\)", report) == ["^a/", "kernel", "^c/"]
    with refused(ConfigError, "unknown", "config.optimizer.lr_multipliers", "'kernel'"):
        optim.lr_report({"a/kernel": 0}, (("a", 1.0), ("kernel", 2.0)))


def test_invalid_regular_expressions():
    params = {"a": {"kernel": jnp.ones(2)}}
    for key, use in {
        "frozen": lambda: optim.split_frozen(params, ("a", "[")),
        "optimizer.decay_on": lambda: optim.make_optimizer(optimizer(decay_on="["), optax.constant_schedule(0.5)),
        "optimizer.lr_multipliers": lambda: optim.lr_report({"a/kernel": 0}, (("[", 1.0),)),
    }.items():
        with refused(ConfigError, "value", f"config.{key}", "'['"):
            use()


def test_averaged_parameters():
    """The decay rises from 1/10, so that the start is soon forgotten."""
    ema = {"w": jnp.array(8.0)}
    for step, d in ((0, 0.1), (1, 2 / 11), (100, 0.9)):
        new = update_ema(ema, {"w": jnp.array(1.0)}, 0.9, jnp.array(step, jnp.int32))
        assert float(new["w"]) == pytest.approx(8 * d + 1 - d, rel=1e-6)
    variables = scoring_variables({"a": {"w": 1, "v": 2}}, {}, {"a/w": 5})
    assert variables == {"params": {"a": {"w": 5, "v": 2}}, "batch_stats": {}}


def test_accumulated_gradients_are_those_of_the_whole_batch():
    x, y = jnp.arange(12.0).reshape(12, 1) / 12, jnp.arange(12.0) / 3
    w = jnp.array([0.7])

    def gradients(batch_stats, batch, key):
        loss, grads = jax.value_and_grad(lambda w: jnp.square(batch["x"] @ w - batch["y"]).mean())(w)
        return loss, batch_stats + 1, grads

    batch = {"x": x, "y": y}
    whole = accumulate(gradients, 1, jnp.zeros(()), batch, jax.random.key(0))
    parts = jax.jit(lambda b: accumulate(gradients, 4, jnp.zeros(()), b, jax.random.key(0)))(batch)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-6)
    np.testing.assert_allclose(parts[2], whole[2], rtol=1e-6)
    assert float(parts[1]) == 4
