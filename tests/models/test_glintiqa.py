"""GlintIQA: sizes, taps, the re-reading of memory, nearly uniform attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxiqa.models import create_model
from jaxiqa.models.blocks.progressive_integration import ChannelSelfAttention, reread


def shapes_of(model, size):
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return variables["params"], jax.eval_shape(model.apply, variables, images)[1]


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def test_sizes():
    """The numbers of parameters equal those of the public code without the ViT's unused blocks."""
    params, out = shapes_of(create_model("glintiqa"), 224)
    assert count(params) == 41_201_877
    assert count(params["vgfe"]) == 18_115_968
    assert count(params["clfe"]["backbone"]) == 8_543_296
    assert count({k: v for k, v in params["clfe"].items() if k != "backbone"}) == 2_753_664
    assert count(params["local_cwsa"]) == count(params["cwsa4"]) == 116_228
    assert count(params["local_projection"]) == 442_752
    assert count([params[f"siem{s}"] for s in (1, 2, 3, 4)]) == 10_616_832
    assert count(params["quality_head"]) == 148_225
    assert [x.shape for x in out["vgfe"]] == [(2, 196, 384)] * 4
    assert [x.shape for x in out["clfe"]] == [(2, 196, 384)] * 3


def test_reread():
    """Z[c, n] = Y[f mod C, floor(f / C)], f = c N + n."""
    C, N = 5, 3
    y = np.arange(C * N, dtype=np.float32).reshape(1, C, N)
    z = np.asarray(reread(y))
    for c in range(C):
        for n in range(N):
            f = c * N + n
            assert z[0, c, n] == y[0, f % C, f // C]


def test_attention_is_nearly_uniform():
    """Weights of a row differ by at most exp(2 / sqrt(N)): the output stays near the mean of V over channels."""
    N = 16
    x = np.random.default_rng(0).standard_normal((1, 12, N)).astype(np.float32)
    layer = ChannelSelfAttention(layout="plain", dropout=0.0)
    variables = layer.init(jax.random.key(0), x, False)
    p = variables["params"]
    # Undo the rest of the layer: out - x is LayerNorm(A V) with unit scale and zero bias.
    normed = np.asarray(layer.apply(variables, x, False)) - x
    v = x @ p["v"]["kernel"] + np.asarray(p["v"]["bias"]).reshape(1, 1, N)
    mean = v.mean(1, keepdims=True)
    expected = (mean - mean.mean(-1, keepdims=True)) / mean.std(-1, keepdims=True)
    similarity = (normed * expected).sum(-1) / np.linalg.norm(normed, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert similarity.min() > 0.9


def test_layouts_differ_and_others_are_refused():
    x = np.random.default_rng(0).standard_normal((1, 6, 4)).astype(np.float32)
    layers = {layout: ChannelSelfAttention(layout=layout, dropout=0.0) for layout in ("reference", "plain")}
    variables = layers["plain"].init(jax.random.key(0), x, False)
    a, b = (layer.apply(variables, x, False) for layer in layers.values())
    assert np.abs(a - b).max() > 0.01
    with pytest.raises(ValueError, match="reference, plain"):
        ChannelSelfAttention(layout="fixed").init(jax.random.key(0), x, False)
