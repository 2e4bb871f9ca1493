"""Functions of JAX as ONNX graphs: each form of an operation, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refused import refused

from jaxiqa.errors import ConfigError
from jaxiqa.exporting.onnx_graph import to_model

pytest.importorskip("onnx", reason="the extra `export` is not installed")
ort = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

SIDES = (6, 8, 3)
_RNG = np.random.default_rng(0)
KERNEL = _RNG.standard_normal((3, 2, 3, 4)).astype(np.float32)
DEEP = _RNG.standard_normal((3, 3, 1, 6)).astype(np.float32)
TABLE = _RNG.standard_normal((5, 8, 3)).astype(np.float32)

FUNCTIONS = {
    "a place and a part": lambda x: x[:, 2, 1:-1, 0],
    "every second row and column": lambda x: x[:, ::2, 1::3],
    "the same rows twice": lambda x: x[:, jnp.array([4, 0, 4])],
    "backwards": lambda x: x[:, ::-1, :, ::-1],
    "edges repeated": lambda x: jnp.pad(x, ((0, 0), (2, 1), (0, 3), (0, 0)), mode="edge"),
    "edges mirrored": lambda x: jnp.pad(x, ((0, 0), (1, 1), (2, 0), (0, 0)), mode="symmetric"),
    "rows one by one": lambda x: sum(i * row for i, row in enumerate(jnp.unstack(x, axis=1))),
    "sorted": lambda x: jnp.sort(x, axis=2),
    "a token for each image": lambda x: jnp.concatenate(
        [jnp.broadcast_to(jnp.ones((1, 1, 8, 3)), (x.shape[0], 1, 8, 3)), x], axis=1
    ),
    "as many rows as images times rows": lambda x: (x.reshape(-1, 24) @ jnp.ones((24, 2))).reshape(x.shape[0], -1),
    "a product with a table of three axes": lambda x: jnp.einsum("bhwc,nwc->bhn", x, TABLE),
    "a product of images with themselves": lambda x: jnp.einsum("bhwc,bgwc->bwhg", x, x),
    "a convolution": lambda x: jax.lax.conv_general_dilated(
        x, KERNEL, (2, 1), ((1, 0), (0, 2)), rhs_dilation=(1, 2), dimension_numbers=("NHWC", "HWIO", "NHWC")
    ),
    "a convolution in groups": lambda x: jax.lax.conv_general_dilated(
        x, DEEP, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=3
    ),
    "halves to even": lambda x: jnp.round(x * 128),
    "powers": lambda x: x**8 + x**0.125 + jax.lax.rsqrt(x + 1) + jax.nn.gelu(x, approximate=False),
    "a choice": lambda x: jnp.where(x > 0.5, jnp.minimum(x, 0.75), -jnp.exp(x)),
    "statistics": lambda x: jnp.stack([x.max((1, 2)), x.min((1, 2)), x.mean((1, 2)), x.sum((1, 2))], axis=1),
    "what does not depend on the images": lambda x: jnp.zeros((x.shape[0], 2)) + jnp.arange(2.0)[None],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_graph_computes_what_jax_computes(name):
    """For batches of one and of three images by the same graph."""
    function = lambda x: (FUNCTIONS[name](x.astype(jnp.float32) / 256),)  # noqa: E731
    model = to_model(function, SIDES, "x", ("y",))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        x = np.random.default_rng(count).integers(0, 256, (count, *SIDES), np.uint8)
        (found,), (expected,) = session.run(None, {"x": x}), function(jnp.asarray(x))
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-5)


def test_weights_are_folded_and_equal_operations_are_written_once():
    def function(x):
        gain = jnp.full((1, 1, 1, 3), 2.0) * jax.lax.rsqrt(jnp.full((1, 1, 1, 3), 4.0))
        twice = [x.astype(jnp.float32) * gain for _ in range(2)]
        return (twice[0] + twice[1],)

    model = to_model(function, SIDES, "x", ("y",))
    assert [node.op_type for node in model.graph.node] == ["Cast", "Mul", "Add", "Identity"]
    assert len(model.graph.initializer) == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.cumsum(x, axis=1),
        lambda x: jnp.sin(x),
        lambda x: jax.lax.fori_loop(0, 2, lambda _, y: y * 2, x),
        lambda x: x[:, jnp.int32(x[0, 0, 0, 0])],
    ],
)
def test_other_operations_are_refused(function):
    with refused(ConfigError, "unknown", "--format"):
        to_model(lambda x: (function(x.astype(jnp.float32)),), SIDES, "x", ("y",))
