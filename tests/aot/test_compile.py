"""The description of a compiled program, the largest batch that fits, names of TPU chips and slices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refused import refused

from jaxiqa.aot import topology
from jaxiqa.aot.compile import DoesNotFit, compile_ahead, describe, largest_that_fits, sweep
from jaxiqa.aot.topology import CHIPS, GIB
from jaxiqa.errors import ConfigError
from jaxiqa.training import sharding
from jaxiqa.training.state import jit_once
from jaxiqa.training.step import jit_step


def test_a_step_compiled_for_this_computer():
    mesh = sharding.make_mesh()

    def step(state, batch):
        loss, grad = jax.value_and_grad(lambda w: jnp.square(batch["x"] @ w).mean())(state["w"])
        return {"w": state["w"] - grad, "frozen": state["frozen"]}, {"loss": loss}

    shapes = {"w": jnp.zeros((64, 128)), "frozen": jnp.zeros((32, 32))}
    shardings = sharding.state_sharding(shapes, mesh)
    state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
    batch = {"x": jax.ShapeDtypeStruct((256, 64), np.float32, sharding=sharding.batch_sharding(mesh))}
    compiled, seconds = compile_ahead(jit_step(step, shardings, mesh), state, batch)
    found = describe(compiled, GIB)
    memory = found["memory"]
    assert seconds > 0
    assert memory["arguments"] == 4 * (64 * 128 + 32 * 32 + 64 * 64)  # the batch in quarters
    assert memory["aliased"] == 4 * (64 * 128 + 32 * 32) and found["donated"] > 0.99
    assert (
        memory["used"]
        == memory["arguments"] + memory["outputs"] - memory["aliased"] + memory["temporaries"] + (memory["code"])
    )
    assert memory["available"] == GIB
    products = 2 * 2 * 64 * 64 * 128  # forward and the weights' gradient, of a quarter of the batch
    assert products <= found["flops"] < 1.1 * products
    assert describe(compiled, GIB, parts=2)["flops"] == 2 * found["flops"]


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. Exceeded by 4.75G",
            20.5,
        ),
        (
            "RESOURCE_EXHAUSTED: the total memory required for HLO temporaries (1.5T) exceeds available HBM (15.75G).",
            1536,
        ),
    ],
)
def test_no_room(message, needed):
    class Refused:
        def lower(self):
            raise jax.errors.JaxRuntimeError(message)

    with refused(DoesNotFit, "memory", "config.batch_size", f"{needed:.2f} GiB", "15.75 GiB") as refusal:
        compile_ahead(Refused())
    assert refusal.value.needed == needed * GIB and refusal.value.exit_code == 2
    message = "INTERNAL: something else"
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        compile_ahead(Refused())


@pytest.mark.parametrize("start", [1, 32, 100, 5000])
@pytest.mark.parametrize(("limit", "unit"), [(1, 1), (37, 1), (96, 4), (1000, 8)])
def test_the_largest_that_fits(start, limit, unit):
    limit = max(limit, unit)
    tried = []

    def fits(n):
        assert n % unit == 0 and n not in tried
        tried.append(n)
        return n <= limit

    found = largest_that_fits(fits, start, unit)
    assert found in tried and found <= limit < found + max(unit, found // 8) + unit
    assert len(tried) < 18


def test_a_sweep_reports_each_try(capsys):
    def compiled(per_chip):
        if per_chip > 11:
            raise DoesNotFit(per_chip * GIB, 11 * GIB)
        return {"memory": {"used": per_chip * GIB}, "compile_seconds": 60.4, "batch_per_chip": per_chip}

    assert sweep(compiled, 4, 1)["batch_per_chip"] == 11
    lines = capsys.readouterr().out.splitlines()
    fits = {line.split()[0]: "60 s" in line and "not" not in line for line in lines}
    assert fits == {"4": True, "8": True, "16": False, "12": False, "10": True, "11": True} and len(lines) == 6
    assert all(f"{float(number):.2f} GiB" in line for number, line in zip(fits, lines, strict=True))
    with refused(DoesNotFit, "memory", None, "12.00 GiB"):
        sweep(compiled, 24, 12)


def test_chips():
    """The usable memory of a chip is a little less than in its data sheet."""
    for name, sheet in (("v4", 32), ("v5e", 16), ("v5p", 96), ("v6e", 32)):
        assert 0.95 * sheet < CHIPS[name].hbm / GIB < sheet


@pytest.mark.parametrize("name", ["v5e", "v5e:4", "v5e:4x4x4", "v5p:4x4", "v5e:0x4", "v3:2x2", "v5e:axb", "4x4", ""])
def test_names_that_are_not_a_slice(name):
    with refused(ConfigError, "unknown", "--topology", f'"{name}"', "v5e:4x4"):
        topology.slice_devices(name)


def test_no_compiler(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with refused(ConfigError, "package", "libtpu", "pip install", "[tpu]"):
        topology.slice_devices("v5e:4x4")
    assert topology.parse_slice("v5p:4x4x8") == (CHIPS["v5p"], (4, 4, 8))


def test_jit_once_compiles_for_the_devices_of_the_shardings():
    mesh = sharding.make_mesh()
    made = jit_once(lambda: jnp.arange(8.0), out_shardings={"x": sharding.batch_sharding(mesh)}["x"])()
    np.testing.assert_array_equal(made, np.arange(8))
    assert made.sharding == sharding.batch_sharding(mesh)
