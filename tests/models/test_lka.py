"""Depthwise convolutions: each form gives the same numbers as XLA's grouped convolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxiqa.benchmarks import lka as benchmark
from jaxiqa.models.blocks import lka

# H, W, C, K, dilation: VAN's three, odd and oblong maps, one channel, maps smaller than the distance of outer taps.
SIZES = [
    (14, 14, 8, 7, 3),
    (14, 14, 8, 5, 1),
    (14, 14, 8, 3, 1),
    (13, 9, 5, 7, 3),
    (7, 7, 6, 7, 3),
    (5, 12, 3, 7, 3),
    (2, 2, 4, 7, 3),
    (1, 1, 2, 7, 3),
    (4, 6, 1, 3, 2),
]


def arrays(H, W, C, K, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(s), dtype) for s in ((2, H, W, C), (K, K, 1, C), (2, H, W, C))]


def output_and_gradients(form, dilation, x, kernel, g):
    y, pull = jax.vjp(lambda x, kernel: form(x, kernel, dilation), x, kernel)
    return y, *pull(g)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equal_to_the_grouped_convolution(size):
    """Output and both gradients, to 1e-5 of their magnitude."""
    *shape, dilation = size
    values = arrays(*shape)
    with jax.default_matmul_precision("highest"):
        ours, theirs = (
            jax.jit(functools.partial(output_and_gradients, form, dilation))(*values)
            for form in (lka.depthwise, lka.grouped)
        )
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=1e-5 * float(np.abs(b).max()))


@pytest.mark.parametrize("name", benchmark.FORMS)
@pytest.mark.parametrize("size", [(14, 14, 8, 7, 3), (13, 9, 5, 7, 3), (14, 14, 8, 5, 1)], ids=str)
def test_forms_that_race(name, size):
    *shape, dilation = size
    values = arrays(*shape)
    ours, theirs = (
        output_and_gradients(f, dilation, *values) for f in (benchmark.FORMS[name], lka.grouped)
    )  # fmt: skip
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * float(np.abs(b).max()))


def test_bfloat16_adds_up_in_fp32():
    """The result is rounded once, so it is within half a unit of bfloat16 of the exact one."""
    x, kernel, g = arrays(9, 9, 4, 7, jnp.bfloat16)
    exact = output_and_gradients(lka.grouped, 3, *(a.astype(jnp.float32) for a in (x, kernel, g)))
    for a, b in zip(output_and_gradients(lka.depthwise, 3, x, kernel, g), exact, strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=2**-8, atol=1e-4)


def test_other_platforms_get_the_grouped_convolution():
    """The program for a TPU has one convolution and no loop over taps; the program for a CPU has no convolution."""
    x, kernel, _ = arrays(14, 14, 8, 7)
    lower = jax.jit(lambda x, kernel: lka.depthwise(x, kernel, 3)).trace(x, kernel).lower
    texts = {platform: lower(lowering_platforms=(platform,)).as_text() for platform in ("cpu", "tpu", "cuda")}
    assert "stablehlo.convolution" not in texts.pop("cpu")
    assert all(text.count("stablehlo.convolution") == 1 for text in texts.values())


def test_gradient_keeps_one_product_in_memory():
    """49 taps do not need 49 maps: the temporaries of a backward pass are a few times the input."""
    x, kernel, g = arrays(28, 28, 16, 7)
    step = jax.jit(functools.partial(output_and_gradients, lka.depthwise, 3))
    memory = step.lower(x, kernel, g).compile().memory_analysis()
    assert memory.temp_size_in_bytes <= 8 * x.nbytes
