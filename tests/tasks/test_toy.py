"""A third task is one small class. The loop trains, saves, stops and resumes it."""

import itertools
import json
import signal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict
from refused import refused

from jaxiqa.errors import ConfigError, NonFiniteError, Stopped, WorkdirInUse
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.runs.log import read_metrics
from jaxiqa.runs.run import Run
from jaxiqa.training import sharding
from jaxiqa.training.loop import Task, abstract_arguments, fit, make_plan


class Brightness(nn.Module):
    """The score is a linear function of the pixels."""

    @nn.compact
    def __call__(self, x_BHWC):
        return nn.Dense(1)(x_BHWC.reshape(len(x_BHWC), -1))[:, 0]


def images(number: int, count: int = 8) -> np.ndarray:
    return np.random.default_rng(number).random((count, 4, 4, 3), np.float32)


class Toy(Task):
    best_by, crop_size, model = "closeness", 4, Brightness()

    def loss(self, params, batch_stats, batch, key):
        return jnp.square(self.model.apply({"params": params}, batch["x"]) - batch["y"]).mean(), batch_stats

    def open(self):
        return 80

    def batches(self, start):
        return ({"x": images(k), "y": images(k).mean((1, 2, 3))} for k in itertools.count(start))

    def evaluate(self, variables, part="val"):
        x = images(10_000 if part == "val" else 10_001)
        found = np.asarray(self.model.apply({"params": variables["params"]}, x))
        return {"closeness": -float(np.square(found - x.mean((1, 2, 3))).mean())}


def make_config(**changes) -> ConfigDict:
    config = ConfigDict({"model": {"name": "toy", "variant": "only"}, "seed": 0, "batch_size": 8, "total": "2 epochs"})
    config.update({"log_every": "1 steps", "eval_every": "50 percent", "save_every": "4 steps"})
    config.update({"mesh": {"data": -1, "fsdp": 1}, "skip_nonfinite": False})
    config.optimizer = {"name": "adam", "learning_rate": 0.05, "weight_decay": 0.0, "decay_on": "", "b1": 0.9}
    config.optimizer.update({"b2": 0.999, "eps": 1e-8, "grad_clip_norm": 0.0, "grad_skip_norm": 0.0})
    config.optimizer.lr_multipliers = ()
    config.schedule = {"name": "constant", "warmup": "0 steps"}
    config.update(changes)
    return config.lock()


def train(folder, task=Toy, override=False, **changes) -> dict[str, float]:
    config = make_config(**changes)
    with Run(folder, override) as run:
        return fit(run, task(config, sharding.make_mesh(**config.mesh)))


def losses(folder) -> list[float]:
    return [line["loss"] for line in read_metrics(folder) if "loss" in line]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    return folder, train(folder)


def test_it_trains_and_saves(unbroken):
    folder, scores = unbroken
    assert len(losses(folder)) == 20 and losses(folder)[-1] < losses(folder)[0] / 4
    evaluated = {line["step"]: line["closeness"] for line in read_metrics(folder) if "closeness" in line}
    assert evaluated.keys() == {10, 20}
    saved = Saved(folder)
    assert saved.step == max(evaluated, key=evaluated.get) and saved.meta.config["total"] == "2 epochs"
    assert scores.keys() == {"closeness"} and scores["closeness"] < 0
    assert json.loads((folder / "ledger.json").read_text())["step_recompiled"] == 0


def test_two_steps_at_most_are_under_way(tmp_path, monkeypatch):
    """A signal has to wait for all of them."""

    class Slow(Toy):
        def loss(self, params, batch_stats, batch, key):
            loss, batch_stats = super().loss(params, batch_stats, batch, key)
            busy = jax.lax.fori_loop(0, 100, lambda _, x: x @ x, jnp.eye(256))
            return loss * busy[0, 0], batch_stats

    compiled_together, started = Run.compiled_together, []

    def watched(run, step):
        step_on = compiled_together(run, step)

        def start(*arguments):
            assert all(loss.is_ready() for loss in started[:-1])
            state, metrics = step_on(*arguments)
            started.append(metrics["loss"])
            return state, metrics

        return start

    monkeypatch.setattr(Run, "compiled_together", watched)
    train(tmp_path, Slow, log_every="10 steps")
    assert len(started) == 20


def test_it_stops_and_resumes(unbroken, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Stopped) as stopped:
        patch.setattr(Run, "stop_at", lambda _, step: 15 if step == 7 else None)
        train(tmp_path)
    assert stopped.value.exit_code == 143 and Saved(tmp_path, 7).step == 7
    assert train(tmp_path) == unbroken[1] and losses(tmp_path) == losses(unbroken[0])


def test_a_run_that_is_cut_short_before_its_first_evaluation(tmp_path, monkeypatch):
    """It ends with the latest step."""
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Run, "stop_at", lambda _, step: 15 if step == 7 else None)
        train(tmp_path)
    scores = train(tmp_path, override=True, total="7 steps")
    state = Saved(tmp_path, 7).load(("params", "batch_stats"), jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    assert scores == Toy(make_config(), sharding.make_mesh(-1, 1)).evaluate(state, "test")


def test_a_run_that_lost_its_workdir_leaves_the_ledger_to_the_other(tmp_path, monkeypatch):
    def lose(*_):
        raise WorkdirInUse("taken over")

    monkeypatch.setattr(Run, "save", lose)
    with pytest.raises(WorkdirInUse):
        train(tmp_path)
    assert not (tmp_path / "ledger.json").exists()


def test_the_loop_freezes_averages_and_accumulates(tmp_path):
    train(tmp_path, frozen=("bias$",), ema=0.9, accumulate=2, skip_nonfinite=True)
    state = Saved(tmp_path, 20).load(("params", "ema"), jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    assert np.all(state["params"]["Dense_0"]["bias"] == 0) and state["ema"].keys() == {"Dense_0/kernel"}
    assert not np.array_equal(state["ema"]["Dense_0/kernel"], state["params"]["Dense_0"]["kernel"])


def test_a_signal_ends_the_test_of_the_best_step_at_once(tmp_path):
    """Nothing is left to save, so the signal handlers are those from before the loop."""
    seen = {}

    class Asked(Toy):
        def evaluate(self, variables, part="val"):
            seen[part] = signal.getsignal(signal.SIGTERM)
            return super().evaluate(variables, part)

    train(tmp_path, Asked)
    assert seen["test"] == signal.getsignal(signal.SIGTERM) != seen["val"]


def test_override(tmp_path):
    train(tmp_path)
    longer = {"total": "3 epochs"}
    with refused(ConfigError, "changed", tmp_path, "total", "--override"):
        train(tmp_path, **longer)
    train(tmp_path, override=True, **longer)
    assert len(losses(tmp_path)) == 30


def test_data_are_checked_before_the_config_of_a_resumed_run(tmp_path):
    class Changed(Toy):
        def check_data(self, folder):
            raise ConfigError(f"{folder}: other data", code="changed", key="data")

    train(tmp_path, Changed)  # a new run has no data to compare with
    with refused(ConfigError, "changed", "data"):
        train(tmp_path, Changed, total="3 epochs")


def test_a_bad_batch_is_named(tmp_path):
    class Bad(Toy):
        def batches(self, start):
            for number, batch in enumerate(super().batches(start), start):
                yield batch if number != 5 else batch | {"y": np.full(8, np.nan, np.float32)}

        def rows(self, step):
            return [{"id": f"batch {step - 1}"}]

    with refused(NonFiniteError, "non_finite", "", "step 6", str(tmp_path / "nonfinite_6.json")) as error:
        train(tmp_path, Bad)
    assert error.value.exit_code == 5 and error.value.step == 6
    assert json.loads((tmp_path / "nonfinite_6.json").read_text())["batch"] == [{"id": "batch 5"}]


def test_its_step_compiles_without_data():
    class Shaped(Toy):
        def batch_spec(self):
            return {"x": ((4, 4, 3), jnp.float32), "y": ((), jnp.float32)}

    config = make_config()
    task = Shaped(config, sharding.make_mesh(**config.mesh))
    plan = make_plan(task, 80)
    compiled = plan.step.lower(*abstract_arguments(task, plan)).compile()
    assert plan.total == 20 and compiled.memory_analysis().alias_size_in_bytes > 0


def test_a_second_run_in_the_workdir_is_refused(tmp_path):
    with Run(epath.Path(tmp_path)), refused(WorkdirInUse, "in_use", "", str(tmp_path)) as refusal:
        train(tmp_path)
    assert refusal.value.exit_code == 6
