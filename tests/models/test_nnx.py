"""The code of the manual's NNX model (docs/nnx.md) runs."""

import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from programs import ROOT

from jaxiqa.inputs.transforms import images_of
from jaxiqa.models import create_model
from jaxiqa.tasks.quality import quality_loss
from jaxiqa.training.losses import parse_loss
from jaxiqa.training.state import make_init
from jaxiqa.training.step import make_train_step


@pytest.fixture
def module(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "nnx.md").read_text(), re.DOTALL)
    (tmp_path / "nnxlab").mkdir()
    (tmp_path / "nnxlab" / "net.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield "nnxlab.net"
    for name in [name for name in sys.modules if name.partition(".")[0] == "nnxlab"]:
        del sys.modules[name]


def test_it_trains_and_scores(module):
    model, tx = create_model(module, width=8), optax.adam(1e-2)
    state = make_init(model, model.crop_size, tx, ())(jax.random.key(0), {})
    assert set(state.batch_stats["features"]["norm"]) == {"mean", "var"}
    rng = np.random.default_rng(0)
    sigma = np.linspace(5, 60, 8)
    images = np.clip(rng.normal(128, sigma[:, None, None, None], (8, 64, 64, 3)), 0, 255).astype(np.uint8)
    batch = {"image": jnp.asarray(images), "label": jnp.linspace(1, 0, 8), "index": jnp.arange(8)}
    loss = quality_loss(model, parse_loss("l2"), images_of(model))
    step = jax.jit(make_train_step(loss, tx, lambda _: 1e-2))
    before, losses = state.batch_stats, []
    for _ in range(30):
        state, metrics = step(state, batch, jax.random.key(1))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.3 * losses[0]
    moved = jax.tree.map(lambda a, b: np.any(a != b), before, state.batch_stats)
    assert all(jax.tree.leaves(moved))
    _, metrics = step(state, batch, jax.random.key(1))
    assert metrics["loss"] != step(state, batch, jax.random.key(2))[1]["loss"]  # dropout
    score_B, out = model.apply(state.variables, images_of(model)(batch), train=False)
    assert score_B.shape == (8,) and score_B.dtype == jnp.float32 and out["pooled"].shape == (8, 8)
    half = create_model(module, width=8, dtype=jnp.bfloat16)
    low_B, _ = half.apply(state.variables, images_of(half)(batch), train=False)
    np.testing.assert_allclose(low_B, score_B, atol=0.05)
