"""How the time of a run is divided."""

import json
import time

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from jaxiqa.runs.timing import Timing


def test_parts_add_up(tmp_path, capsys):
    with Timing() as timing:

        @jax.jit
        def train_step(x):
            return x * 2

        timing.start_loop()
        for size in (3, 3, 4):  # compiled for 3, and again for 4
            with timing.timed("data"):
                time.sleep(0.05)
                batch = jnp.ones(size)
            train_step(batch)
            time.sleep(0.1)
        with timing.timed("save"):
            time.sleep(0.05)
        timing.write(epath.Path(tmp_path), skipped=2)
    found = json.loads((tmp_path / "ledger.json").read_text())
    assert found["steps"] == 3 and found["skipped_steps"] == 2 and found["step_recompiled"] == 1
    assert found["data_wait_seconds"] >= 0.15 and found["save_blocked_seconds"] >= 0.05
    assert found["evaluation_seconds"] == 0 and found["compile_seconds"] > 0 and found["peak_memory_bytes"] > 2**20
    assert 0.3 <= found["training_seconds"] < found["wall_seconds"]
    assert found["goodput"] == pytest.approx(found["training_seconds"] / found["wall_seconds"])
    parts = ("training", "data_wait", "save_blocked", "evaluation", "compile")
    # The rest is tracing, and the time before the loop.
    assert sum(found[f"{part}_seconds"] for part in parts) == pytest.approx(found["wall_seconds"], abs=0.1)
    out = capsys.readouterr().out
    assert out.startswith("3 steps") and "recompilations: 1" in out and out.splitlines()[-1].startswith("2 steps")


def test_it_does_not_count_other_runs():
    with Timing() as first:
        pass
    with Timing() as second:
        jax.jit(lambda x: x + 3)(jnp.ones(7))
    assert first.summary()["programs_compiled"] == 0 < second.summary()["programs_compiled"]
