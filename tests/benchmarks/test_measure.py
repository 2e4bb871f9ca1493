"""What benchmarks share: counts of arithmetic, turns, and files of results."""

import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refused import refused

from jaxiqa.benchmarks.forward import outputs_of, random_variables
from jaxiqa.benchmarks.measure import Ceilings, Ledger, Times, arithmetic, race
from jaxiqa.errors import DataError
from jaxiqa.models import create_model
from jaxiqa.models.blocks.layers import Conv
from jaxiqa.models.blocks.lka import depthwise, grouped
from jaxiqa.training import optim


def of(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def repeated(x, y):
    return jax.lax.scan(lambda carry, _: (carry @ y, None), x, None, length=5)[0]


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (jnp.matmul, [(3, 4), (4, 5)], 2 * 3 * 4 * 5),
        (lambda x, y: jnp.einsum("bij,bjk->bik", x, y), [(7, 3, 4), (7, 4, 5)], 7 * 2 * 3 * 4 * 5),
        (repeated, [(3, 4), (4, 4)], 5 * 2 * 3 * 4 * 4),
        (lambda x, y: (x @ y, x)[1], [(3, 4), (4, 5)], 0),  # the result does not need it
        (jax.grad(lambda x, y: (x @ y).sum(), (0, 1)), [(3, 4), (4, 5)], 2 * 2 * 3 * 4 * 5),
        (lambda x, y: grouped(x, y, 1), [(2, 8, 9, 6), (3, 3, 1, 6)], 2 * 2 * 8 * 9 * 6 * 9),
        (jax.grad(lambda x, y: grouped(x, y, 1).sum(), (0, 1)), [(2, 8, 9, 6), (3, 3, 1, 6)],
         2 * 2 * 2 * 8 * 9 * 6 * 9),
        (lambda x, y: depthwise(x, y, 1), [(2, 8, 9, 6), (3, 3, 1, 6)], 2 * 2 * 8 * 9 * 6 * 9),  # as by its definition
        (lambda x, y: Conv(256, 3, 1, 1, False).apply({"params": {"kernel": y}}, x), [(2, 8, 9, 256), (3, 3, 256, 256)],
         2 * 2 * 8 * 9 * 256 * 256 * 9),
    ],
)  # fmt: skip
def test_arithmetic(function, shapes, expected):
    assert arithmetic(function, *(of(*shape) for shape in shapes)) == expected


def test_a_frozen_prefix_has_no_backward_pass():
    """Of a ResNet of which the last stage is trained, only that stage and the classifier are passed backwards."""
    model = create_model("resnet", "test")
    variables, images = random_variables(model), of(2, 64, 64, 3)

    def passes(*frozen):
        trainable, held = optim.split_frozen(variables["params"], frozen)

        def loss(trainable, images):
            return outputs_of(model, {**variables, "params": optim.merge(trainable, held)}, images).sum()

        forward = arithmetic(loss, trainable, images)
        return forward, arithmetic(jax.value_and_grad(loss), trainable, images) - forward

    _, backward = passes(r"^(conv1|bn1|layer[123]_\d+)/")
    size, width, inner = 2 * 2 * 2, 64, 128  # positions of the last stage in a batch, its width, and its inputs
    first, shortcut = 2 * 4 * size * inner * width, 2 * size * inner * 4 * width
    others = 2 * size * width * width * 9 + 2 * size * width * 4 * width + 2 * 2 * 4 * width * 10
    assert backward == first + shortcut + 2 * others  # gradients of kernels; of inputs, but not of the stage's own
    forward, backward = passes()
    stem = 2 * 2 * 32 * 32 * 8 * 7 * 7 * 3  # images have no gradient
    assert backward == 2 * forward - stem


def test_the_ceiling_of_what_is_slower():
    ceiling = Ceilings(flops=100.0, bytes=10.0)
    assert (ceiling.seconds(50.0, 1.0), ceiling.seconds(50.0, 20.0)) == (0.5, 2.0)


def test_calls_take_turns_and_may_report_their_own_time():
    order = []

    def call(name, seconds=None):
        order.append(name)
        time.sleep(0.002)
        return seconds

    times = race({"a": functools.partial(call, "a"), "b": functools.partial(call, "b", 7.0)}, 3)
    assert order == ["a", "b"] * 4 and times["b"] == Times(7.0, 7.0)
    assert 0.002 <= times["a"].least <= times["a"].median < 2


def test_results_are_kept_and_compared(tmp_path, capsys):
    path = str(tmp_path / "rows.json")
    for subject in ("one", "two", "one"):
        ledger = Ledger(subject, path)
        ledger.add("first", Times(0.5, 0.25), images_per_s=np.float32(8.0))
        ledger.close()
    found = json.loads((tmp_path / "rows.json").read_text())
    assert sorted(row["subject"] for row in found["rows"]) == ["one", "two"]
    assert found["rows"][0] == {
        "subject": "two", "case": "first", "median_s": 0.5, "least_s": 0.25, "images_per_s": 8.0
    }  # fmt: skip
    assert {"jaxiqa", "jax", "device", "cores", "load"} <= found["about"].keys()
    capsys.readouterr()
    Ledger("one", compare=path).add("first", Times(0.2, 0.125))
    assert "2.00x of before" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", '{"rows": [{}]}', '{"rows": [1]}'])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "rows.json").write_text(text)
    for arguments in ({"compare": str(tmp_path / "rows.json")}, {"output": str(tmp_path / "rows.json")}):
        with refused(DataError, "format", tmp_path / "rows.json"):
            Ledger("one", **arguments)
    with refused(DataError, "not_found", tmp_path / "none.json"):
        Ledger("one", compare=str(tmp_path / "none.json"))
