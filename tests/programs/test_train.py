"""The training program on a tiny folder: what it writes, resuming, refusals."""

import csv
import json
import shutil
import signal
import time

import jax
import numpy as np
import pytest
from etils import epath
from flax import traverse_util
from programs import ROOT
from refused import refused
from tiny_run import CNNIQA, make_config, start_training, trained_config

from jaxiqa.errors import ConfigError, DataError
from jaxiqa.models import create_model
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.runs.log import read_metrics
from jaxiqa.scoring.scorer import Scorer
from jaxiqa.train import train
from jaxiqa.training import sharding
from jaxiqa.training.state import jit_once


def losses(workdir) -> dict[int, str]:
    """Loss by step as hexadecimal floats; every step once."""
    lines = [line for line in read_metrics(workdir) if "loss" in line]
    assert len({line["step"] for line in lines}) == len(lines)
    return {line["step"]: float(line["loss"]).hex() for line in lines}


@pytest.mark.slow
def test_a_model_of_two_scales(pictures, tmp_path):
    """It trains on pairs of crops, and is scored on five pairs of each image."""
    smoke = {"test_crops": "five", "total": "2 steps", "eval_every": "2 steps"}
    of_config = {"model.name": "arniqa", "model.variant": "test", "dataset.group_column": "content", "loss": "l2"}
    config = make_config(pictures, CNNIQA, **smoke | of_config)
    with config.unlocked():
        del config.model.dropout
    train(config, epath.Path(tmp_path))
    assert len(losses(tmp_path)) == 2
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["n"], report["crops"]) == (3, "five")
    scorer = Scorer(epath.Path(tmp_path))
    (found,) = scorer.stream([np.zeros((9, 9, 3), np.uint8)])
    assert found.crops == 5 and np.isfinite(found.output)


def test_what_a_run_leaves(trained):
    workdir, metrics = trained
    assert sorted(losses(workdir)) == [1, 2, 3, 4, 5, 6]
    report = json.loads((workdir / "report.json").read_text())
    assert report["split"].startswith("80/20 by reference") and len(report["split_fingerprint"]) == 12
    assert not report["plcc_logistic4"]["converged"]  # three images are too few for four parameters
    assert report["n"] == 3 and report["selection"] == "val" and report["crops"] == "grid" and report["step"] in (3, 6)
    assert report["rmse"] == metrics["rmse"] > 0
    with open(workdir / "predictions_test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and len({row["reference"] for row in rows}) == 1
    assert all(float(row["se"]) >= 0 for row in rows)
    for row in rows:  # native 1..5 is score 0..100
        assert float(row["native"]) == pytest.approx(1 + 4 * float(row["score"]) / 100)
    for name in ("loss_curve.png", "scatter_test.png", "contact_sheet_test.png", "config.json"):
        assert (workdir / name).stat().length > 1000
    assert any((workdir / "tensorboard").iterdir())
    evaluated = [line["step"] for line in read_metrics(workdir) if "val_srcc" in line]
    assert evaluated == [3, 6]


def test_a_stuck_run_says_so(trained, pictures, tmp_path, capsys):
    """The decay sets all weights to almost nothing, so all images score the same."""
    decay = {"optimizer.name": "adamw", "optimizer.learning_rate": 1e-3, "optimizer.weight_decay": 1e3}
    short = {"schedule.warmup": "0 steps", "total": "2 steps", "eval_every": "1 steps", "save_every": "2 steps"}
    train(trained_config(pictures, **decay, **short), epath.Path(tmp_path))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["warning"] == "uninformative" and report["spread"] < 0.01
    assert all(line["val_spread"] < 0.01 for line in read_metrics(tmp_path) if "val_spread" in line)
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: the scores of the test")]
    assert json.loads((trained[0] / "report.json").read_text())["spread"] > 0.05


def test_a_trained_run_stays_as_it_is(trained, pictures, tmp_path):
    workdir, metrics = epath.Path(shutil.copytree(trained[0], tmp_path / "w")), trained[1]
    before = (workdir / "metrics.jsonl").read_text()
    assert train(trained_config(pictures), workdir) == pytest.approx(metrics, nan_ok=True)
    assert (workdir / "metrics.jsonl").read_text() == before


def test_another_config_is_refused_in_the_same_workdir(trained, pictures, tmp_path):
    workdir = epath.Path(shutil.copytree(trained[0], tmp_path / "w"))
    with refused(ConfigError, "changed", workdir, "loss", "'huber+0.5*plcc'", "'l1'", "--workdir"):
        train(trained_config(pictures, loss="l1"), workdir)


@pytest.mark.slow
def test_sigkill_and_the_same_command_again(trained_glintiqa, pictures, tmp_path):
    """Killed after the fourth step, the resumed run logs the losses of an unbroken run, bit for bit."""
    run = start_training(tmp_path, pictures)
    try:
        while len([m for m in read_metrics(tmp_path) if "loss" in m]) < 4 and run.poll() is None:
            time.sleep(0.01)
    finally:
        run.kill()
        run.communicate()
    assert run.returncode == -signal.SIGKILL
    again = start_training(tmp_path, pictures)
    output, _ = again.communicate(timeout=600)
    assert again.returncode == 0, output
    assert losses(tmp_path) == losses(trained_glintiqa)


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_143(pictures, tmp_path):
    rarely = {"total": "40 steps", "save_every": "1000 steps", "eval_every": "1000 steps"}
    unbroken, workdir = (epath.Path(tmp_path / name) for name in ("unbroken", "stopped"))
    train(make_config(pictures, CNNIQA, **rarely), unbroken)
    first = start_training(workdir, pictures, CNNIQA, **rarely)
    while not losses(workdir) and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGTERM)
    output, _ = first.communicate(timeout=600)
    assert first.returncode == 143, output
    assert "Traceback" not in output and output.strip().splitlines()[-1].startswith("jaxiqa train: ")
    assert 0 < Saved(workdir).step < 40
    train(make_config(pictures, CNNIQA, **rarely), workdir)
    assert losses(workdir) == losses(unbroken) and len(losses(workdir)) == 40


@pytest.mark.parametrize(
    ("changes", "code", "key", "names"),
    [
        ({"batch_size": 6}, "value", "config.batch_size", ("6", "4 or 8")),
        ({"batch_size": 0}, "value", "config.batch_size", ("0", "4")),
        ({"labels": "mos"}, "value", "config.labels", ('"mos"', "score01, native")),
        ({"loss": "l3"}, "unknown", "config.loss", ('"l3"',)),
        ({"model.name": "glintqa"}, "unknown", "model", ('"glintqa"', '"glintiqa"')),
        ({"test_crops": "random"}, "value", "crops", ("config.test_crops", "random:25")),
        ({"total": "3 moons"}, "value", "config.total", ('"3 moons"',)),
        ({"frozen": ("^vgf/",)}, "unknown", "config.frozen", ("^vgf/", "vgfe")),
        ({"mesh.data": 3}, "value", "config.mesh", ("data=3", "4")),
        ({"split.selection": "test"}, "value", "config.split.selection", ('"test"', "val, legacy")),
        ({"optimizer.learning_rate": -1.0}, "value", "config.optimizer.learning_rate", ("-1.0",)),
    ],
)
def test_impossible_configs(pictures, tmp_path, changes, code, key, names):
    with refused(ConfigError, code, key, *names):
        train(make_config(pictures, **changes), epath.Path(tmp_path))


def never(*_, **__):
    raise AssertionError("images were searched before the config was checked")


@pytest.mark.parametrize(
    ("changes", "code", "key", "name"),
    [
        ({"total": "soon"}, "value", "config.total", '"soon"'),
        ({"log_every": "0 steps"}, "value", "config.log_every", '"0 steps"'),
        ({"schedule.warmup": "3 moons"}, "value", "config.schedule.warmup", '"3 moons"'),
        ({"schedule.drops": ("half",)}, "value", "config.schedule.drops", '"half"'),
        ({"schedule.name": "cosin"}, "unknown", "config.schedule.name", '"cosine"'),
        ({"optimizer.name": "sgd"}, "unknown", "config.optimizer.name", '"sgd"'),
        ({"optimizer.decay_on": "("}, "value", "config.optimizer.decay_on", "'('"),
        ({"frozen": ("(",)}, "value", "config.frozen", "'('"),
        ({"loss": "l3"}, "unknown", "config.loss", '"l3"'),
        ({"test_crops": "random"}, "value", "crops", "random:25"),
        ({"optimizer.grad_clip_norm": -1.0}, "value", "config.optimizer.grad_clip_norm", "-1.0"),
    ],
)
def test_errors_of_the_config_alone_come_before_images_are_read(
    pictures, tmp_path, monkeypatch, changes, code, key, name
):
    monkeypatch.setattr("jaxiqa.datasets.load", never)
    with refused(ConfigError, code, key, name):
        train(make_config(pictures, **changes), epath.Path(tmp_path))


@pytest.mark.parametrize(
    ("changes", "code", "key", "name"),
    [
        ({"schedule.warmup": "9 epochs"}, "conflict", "config.schedule.warmup", "6"),
        ({"frozen": ("^vgf/",)}, "unknown", "config.frozen", "^vgf/"),
        ({"test_crops": "whole"}, "conflict", "crops", "64 pixels"),
    ],
)
def test_errors_of_the_model_and_of_counts_come_before_images_are_rendered(
    pictures, tmp_path, monkeypatch, changes, code, key, name
):
    monkeypatch.setattr("jaxiqa.tasks.data.render", never)
    with refused(ConfigError, code, key, name):
        train(make_config(pictures, **changes), epath.Path(tmp_path))


def test_a_workdir_that_cannot_be_written(pictures, tmp_path):
    (tmp_path / "file").write_text("")
    with refused(ConfigError, "unwritable", "--workdir", str(tmp_path / "file" / "w")):
        train(make_config(pictures), epath.Path(tmp_path / "file" / "w"))


def test_bad_data(pictures, tmp_path):
    with refused(DataError, "not_found", None, str(tmp_path), "index.csv"):
        train(make_config(pictures, **{"dataset.data_dir": str(tmp_path)}), epath.Path(tmp_path / "w"))


@pytest.mark.slow
def test_ema_multipliers_accumulation(pictures, tmp_path, capsys, monkeypatch):
    """On a mesh that shards the state. Averaged parameters score; a multiplier of 0 keeps a part as it is."""
    changes = {
        "mesh.data": 2,
        "mesh.fsdp": 2,
        "ema": 0.9,
        "accumulate": 2,
        "loss": "l1+plcc+rank",
        "labels": "native",
        "optimizer.lr_multipliers": (("^fc1/", 0.0), ("bias$", 0.5)),
    }
    workdir = epath.Path(tmp_path)
    monkeypatch.setattr(sharding, "MIN_SHARDED_SIZE", 256)  # CNNIQA has no large arrays
    train(make_config(pictures, CNNIQA, **changes), workdir)
    assert "learning rate: 0 x" in capsys.readouterr().out
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = Saved(workdir, 6).load(("params", "ema"), device)
    flat = traverse_util.flatten_dict(state["params"], sep="/")
    model = create_model("cnniqa")
    start = jit_once(model.init)(jax.random.key(0), np.zeros((1, 33, 33, 3), np.float32))["params"]
    for path, value in traverse_util.flatten_dict(start, sep="/").items():
        moved = np.abs(np.asarray(value) - np.asarray(flat[path])).max()
        assert (moved < 1e-7) == path.startswith("fc1/"), path
    assert set(state["ema"]) == set(flat)
    difference = max(float(np.abs(np.asarray(state["ema"][p]) - np.asarray(flat[p])).max()) for p in flat)
    assert 0 < difference < 0.05
    scored = Scorer(workdir).variables["params"]  # of the best step
    chosen = Saved(workdir).load(("ema",), device)["ema"]
    np.testing.assert_array_equal(scored["fc2"]["kernel"], chosen["fc2/kernel"])
    assert Scorer(workdir).card.labels == "native"


@pytest.mark.parametrize(
    ("changes", "code", "key", "names"),
    [
        ({"accumulate": 3}, "value", "config.accumulate", ("config.accumulate=3", "config.batch_size=8")),
        ({"ema": 1.0}, "value", "config.ema", ("1.0",)),
        ({"optimizer.lr_multipliers": (("no such", 0.1),)}, "unknown", "config.optimizer.lr_multipliers", ("no such",)),
        ({"optimizer.lr_multipliers": (("vgfe", "x"),)}, "value", "config.optimizer.lr_multipliers", ("'x'",)),
    ],
)
def test_impossible_values_of_options(pictures, tmp_path, changes, code, key, names):
    with refused(ConfigError, code, key, *names):
        train(make_config(pictures, **changes), epath.Path(tmp_path))


@pytest.mark.slow
def test_a_run_starts_from_the_weights_that_ship(ready_stand_in, pictures, tmp_path):
    """The workdir records their name and their digest."""
    short = {"model.variant": "test", "total": "1 steps", "eval_every": "1 steps", "test_crops": "auto:4"}
    train(make_config(pictures, ROOT / "configs" / "compact_folder.py", **short), epath.Path(tmp_path))
    about = json.loads((tmp_path / "init.json").read_text())
    assert about == {"model": {"checkpoint": "ready", "step": 0, "sha256": Saved("ready").digest()}}
    assert json.loads((tmp_path / "config.json").read_text())["init"]["model"] == "ready"
    assert Saved(tmp_path).meta.card["scale"] == {"lo": 1.0, "hi": 5.0, "higher_is_better": True}
