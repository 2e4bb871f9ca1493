"""NaN and infinite losses: the error names the step and its images, and earlier checkpoints stay (R11; F24, F25)."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath
from refused import refused
from tiny_run import CNNIQA, make_config

from jaxiqa.errors import NonFiniteError
from jaxiqa.inputs import pipeline
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.runs.log import MetricLog, read_metrics
from jaxiqa.tasks.quality import quality_loss
from jaxiqa.train import train
from jaxiqa.training import optim
from jaxiqa.training.state import TrainState
from jaxiqa.training.step import make_train_step


@pytest.mark.slow
def test_the_step_and_its_pictures_are_named(trained_cnniqa, pictures, tmp_path, monkeypatch):
    """A label that is no number comes in step 4; lines are due each fifth step, checkpoints each second."""
    batches, poisoned = pipeline.train_batches, {}

    def with_a_bad_label(*arguments, start=0, **options):
        for number, batch in enumerate(batches(*arguments, start=start, **options), start):
            if number == 3:
                poisoned["index"] = int(batch["index"][2])
                batch["label"][2] = np.nan
            yield batch

    monkeypatch.setattr("jaxiqa.tasks.data.train_batches", with_a_bad_label)
    changes = {"log_every": "5 steps", "save_every": "2 steps", "eval_every": "1000 steps"}
    workdir = epath.Path(tmp_path)
    with refused(NonFiniteError, "non_finite", "", "step 4", "nan", str(workdir / "nonfinite_4.json")) as error:
        train(make_config(pictures, CNNIQA, **changes), workdir)
    assert error.value.exit_code == 5 and error.value.step == 4
    found = json.loads((workdir / "nonfinite_4.json").read_text())
    assert found["step"] == 4 and len(found["batch"]) == 8
    (bad,) = [row for row in found["batch"] if row["label"] == "nan"]
    assert (pictures / bad["id"]).exists()
    assert Saved(workdir).step == 2 and not [line for line in read_metrics(workdir) if line["step"] > 2]
    monkeypatch.undo()  # the label is mended
    train(make_config(pictures, CNNIQA, **{**changes, "log_every": "1 steps"}), workdir)
    lines = [
        [line["loss"] for line in read_metrics(w) if line.get("loss") and line["step"] > 2]
        for w in (workdir, trained_cnniqa)
    ]
    assert lines[0] == lines[1] and len(lines[0]) == 4


class Linear(nn.Module):
    """A model with statistics, small enough to be compiled in a second."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(1)(x)[:, 0], {}


def setting():
    """step(nonfinite, largest), a state of `Linear`, and a batch."""
    model, batch = Linear(), {"image": jnp.ones((4, 3)), "label": jnp.arange(4.0)}
    tx = optax.adam(0.1)
    variables = model.init(jax.random.key(0), batch["image"])
    trainable, _ = optim.split_frozen(variables["params"], ())
    state = TrainState.create(variables, tx, trainable, with_ema=True)
    loss = lambda score, label: jnp.square(score - label).mean()  # noqa: E731

    loss_of = quality_loss(model, loss, lambda b: b["image"])

    def step(nonfinite, largest):
        skip = {"skip_nonfinite": nonfinite, "skip_above": largest}
        one = jax.jit(make_train_step(loss_of, tx, lambda _: 0.1, ema=0.9, **skip))
        return lambda state, batch: one(state, batch, jax.random.key(0))

    return step, state, batch


@pytest.mark.parametrize(
    ("bad", "value", "how"),
    [
        ("image", jnp.nan, (True, 0.0)),
        ("label", jnp.nan, (True, 0.0)),
        ("label", 1e6, (False, 100.0)),
        ("label", jnp.inf, (True, 100.0)),
    ],
)
def test_a_step_that_is_skipped_changes_nothing_but_the_step(bad, value, how):
    step, state, batch = setting()
    skipping_step, plain = step(*how), step(False, 0.0)
    after, metrics = skipping_step(state, batch | {bad: batch[bad].at[0].set(value)})
    assert metrics["skipped"] == 1.0 and int(after.step) == 1
    jax.tree.map(np.testing.assert_array_equal, after.replace(step=state.step), state)
    good, metrics = skipping_step(state, batch)
    assert metrics["skipped"] == 0.0
    same, metrics = plain(state, batch)
    assert "skipped" not in metrics
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), good, same)


def test_what_is_no_number_is_not_skipped_as_a_spike():
    """It ends the run, unless skip_nonfinite says otherwise."""
    step, state, batch = setting()
    after, metrics = step(False, 100.0)(state, batch | {"label": batch["label"].at[0].set(jnp.nan)})
    assert metrics["skipped"] == 0.0 and np.isnan(metrics["loss"])
    assert not all(np.isfinite(x).all() for x in jax.tree.leaves(after.params))


@pytest.mark.slow
def test_a_spike_of_the_loss_in_a_run(pictures, tmp_path, monkeypatch):
    """The loss times a million, once: the step before it and those after it are as ever, and the log counts it."""
    batches = pipeline.train_batches

    def with_a_spike(*arguments, start=0, **options):
        for number, batch in enumerate(batches(*arguments, start=start, **options), start):
            batch["label"] *= 1e6 if number == 3 else 1
            yield batch

    monkeypatch.setattr("jaxiqa.tasks.data.train_batches", with_a_spike)
    workdir = epath.Path(tmp_path)
    train(make_config(pictures, CNNIQA, **{"optimizer.grad_skip_norm": 1e4, "loss": "l2"}), workdir)
    lines = [line for line in read_metrics(workdir) if "loss" in line]
    assert [line.get("skipped") for line in lines] == [None, None, None, 1, None, None]
    assert lines[3]["grad_norm"] > 1e4 > max(line["grad_norm"] for line in lines if "skipped" not in line)
    assert lines[3]["loss"] > 1e9 and all(line["loss"] < 100 for line in lines[4:])
    ledger = json.loads((workdir / "ledger.json").read_text())
    assert ledger["skipped_steps"] == 1 and ledger["step_recompiled"] == 0


def test_the_log_counts_what_was_skipped(tmp_path):
    log = MetricLog(tmp_path, 0, 6, 1)
    for step in range(1, 7):
        bad = step in (2, 3, 6)
        metrics = {"loss": np.nan if bad else 1.0, "learning_rate": 0.1, "grad_norm": np.inf if bad else 2.0}
        log.write_step((step, metrics | {"skipped": float(bad)}), 2)
    log.close()
    assert log.skipped == 3
    lines = read_metrics(tmp_path)
    assert [line.get("skipped") for line in lines] == [1, 1, 1]
    assert [line.get("loss") for line in lines] == [None, 1.0, None]
    again = MetricLog(tmp_path, 4, 6, 1)
    assert again.skipped == 2
    again.close()


def test_steps_between_two_lines_are_looked_at(tmp_path):
    log = MetricLog(tmp_path, 0, 100, 1)
    for step in range(1, 10):
        log.write_step((step, {"loss": np.inf if step == 4 else 1.0, "learning_rate": 0.1, "grad_norm": 1.0}), 10)
    with refused(NonFiniteError, "non_finite", "", "step 4", "loss inf"):
        log.write_step((10, {"loss": 1.0, "learning_rate": 0.1, "grad_norm": 1.0}), 10)
    log.close()


def test_a_log_that_cannot_be_written_loses_no_line(tmp_path, capsys):
    log = MetricLog(tmp_path, 0, 3, 1)
    flush, tries = log._file.flush, iter([OSError(28, "No space left on device")] * 2)

    class Full:
        """A disk with room from the third try on."""

        def __getattr__(self, name):
            return getattr(file, name)

        def flush(self):
            for error in tries:
                raise error
            flush()

    file, log._file = log._file, Full()
    for step in (1, 2, 3):
        log.write(step, loss=float(step))
    assert capsys.readouterr().out.count("(No space left on device)") == 1
    assert [line["loss"] for line in read_metrics(tmp_path)] == [1.0, 2.0, 3.0]
    log.close()
