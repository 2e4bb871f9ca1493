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
from tiny_run import make_config, start_training

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


def test_what_a_run_leaves(trained):
    workdir, metrics = trained
    assert sorted(losses(workdir)) == [1, 2, 3, 4, 5, 6]
    report = json.loads((workdir / "report.json").read_text())
    assert report["split"].startswith("80/20 by reference") and len(report["split_fingerprint"]) == 12
    assert not report["plcc_logistic4"]["converged"]  # three pictures are too few for four parameters
    assert report["n"] == 3 and report["selection"] == "val" and report["crops"] == "grid" and report["step"] in (3, 6)
    assert report["rmse"] == metrics["rmse"] > 0
    with open(workdir / "predictions_test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and len({row["reference"] for row in rows}) == 1
    assert all(float(row["se"]) >= 0 for row in rows)
    for row in rows:  # the scale of the scores: 1..5 is 0..100
        assert float(row["native"]) == pytest.approx(1 + 4 * float(row["score"]) / 100)
    for name in ("loss_curve.png", "scatter_test.png", "contact_sheet_test.png", "config.json"):
        assert (workdir / name).stat().length > 1000
    assert any((workdir / "tensorboard").iterdir())
    evaluated = [line["step"] for line in read_metrics(workdir) if "val_srcc" in line]
    assert evaluated == [3, 6]


def test_a_trained_run_stays_as_it_is(trained, pictures, tmp_path):
    workdir, metrics = epath.Path(shutil.copytree(trained[0], tmp_path / "w")), trained[1]
    before = (workdir / "metrics.jsonl").read_text()
    assert train(make_config(pictures), workdir) == pytest.approx(metrics, nan_ok=True)
    assert (workdir / "metrics.jsonl").read_text() == before


def test_another_config_is_refused_in_the_same_workdir(trained, pictures, tmp_path):
    workdir = epath.Path(shutil.copytree(trained[0], tmp_path / "w"))
    with pytest.raises(ConfigError, match=r"loss: 'huber\+0.5\*plcc' there, 'l1' now\); use another --workdir"):
        train(make_config(pictures, loss="l1"), workdir)


@pytest.mark.slow
def test_sigkill_and_the_same_command_again(trained, pictures, tmp_path):
    """Killed after the fourth step: the logged losses equal the unbroken run's bit for bit."""
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
    assert losses(tmp_path) == losses(trained[0])


@pytest.mark.slow
def test_sigterm_saves_and_says_143(trained, pictures, tmp_path):
    first = start_training(tmp_path, pictures, save_every="1000 steps", eval_every="1000 steps")
    while not losses(tmp_path) and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGTERM)
    output, _ = first.communicate(timeout=600)
    assert first.returncode == 143, output
    assert "the same command resumes" in output and "Traceback" not in output
    train(make_config(pictures, save_every="1000 steps", eval_every="1000 steps"), epath.Path(tmp_path))
    assert losses(tmp_path) == losses(trained[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 6}, "batch_size=6 does not divide over 4 device.*take 4 or 8"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"labels": "mos"}, 'labels="mos" must be one of score01, native'),
        ({"loss": "l3"}, 'no loss "l3"'),
        ({"model.name": "glintqa"}, 'did you mean "glintiqa"'),
        ({"test_crops": "random"}, "random:25"),
        ({"total": "3 moons"}, "config.total"),
        ({"frozen": ("^vgf/",)}, "matches no parameter"),
        ({"mesh.data": 3}, "config.mesh"),
        ({"split.selection": "test"}, "selection"),
        ({"optimizer.learning_rate": -1.0}, "learning_rate"),
    ],
)
def test_impossible_configs(pictures, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        train(make_config(pictures, **changes), epath.Path(tmp_path))


def never(*_, **__):
    raise AssertionError("pictures were looked for before the config was")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total": "soon"}, 'config.total: "soon" is no duration'),
        ({"log_every": "0 steps"}, 'config.log_every: "0 steps" must be above 0'),
        ({"schedule.warmup": "3 moons"}, "config.schedule.warmup"),
        ({"schedule.drops": ("half",)}, "config.schedule.drops"),
        ({"schedule.name": "cosin"}, 'did you mean "cosine"'),
        ({"optimizer.name": "sgd"}, "config.optimizer.name"),
        ({"optimizer.decay_on": "("}, "config.optimizer.decay_on"),
        ({"frozen": ("(",)}, "config.frozen"),
        ({"loss": "l3"}, "config.loss"),
        ({"test_crops": "random"}, "config.test_crops"),
        ({"optimizer.grad_clip_norm": -1.0}, "config.optimizer.grad_clip_norm"),
    ],
)
def test_what_needs_no_pictures_is_refused_before_them(pictures, tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr("jaxiqa.datasets.load", never)
    with pytest.raises(ConfigError, match=message):
        train(make_config(pictures, **changes), epath.Path(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule.warmup": "9 epochs"}, "steps of warm-up do not fit a run of 6"),
        ({"frozen": ("^vgf/",)}, "matches no parameter"),
        ({"test_crops": "whole"}, "this model scores crops of 64 pixels"),
    ],
)
def test_what_needs_the_model_or_counts_is_refused_before_rendering(pictures, tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr("jaxiqa.tasks.data.render", never)
    with pytest.raises(ConfigError, match=message):
        train(make_config(pictures, **changes), epath.Path(tmp_path))


def test_a_workdir_that_cannot_be_written(pictures, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--workdir .*file/w cannot be written .*; name another folder"):
        train(make_config(pictures), epath.Path(tmp_path / "file" / "w"))


def test_bad_data(pictures, tmp_path):
    with pytest.raises(DataError, match=r"index\.csv"):
        train(make_config(pictures, **{"dataset.data_dir": str(tmp_path)}), epath.Path(tmp_path / "w"))


@pytest.mark.slow
def test_ema_multipliers_accumulation(pictures, tmp_path, capsys, monkeypatch):
    """On a mesh that shards the state: averaged parameters score, and one multiplier stops a part from moving."""
    changes = {
        "mesh.data": 2,
        "mesh.fsdp": 2,
        "ema": 0.9,
        "accumulate": 2,
        "loss": "l1+plcc+rank",
        "labels": "native",
        "optimizer.lr_multipliers": (("^vgfe/", 0.0), ("bias$", 0.5)),
    }
    workdir = epath.Path(tmp_path)
    monkeypatch.setattr(sharding, "MIN_SHARDED_SIZE", 256)  # the test variant has no large arrays
    train(make_config(pictures, **changes), workdir)
    assert "learning rate: 0 x for" in capsys.readouterr().out
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = Saved(workdir, 6).load(("params", "ema"), device)
    flat = traverse_util.flatten_dict(state["params"], sep="/")
    model = create_model("glintiqa", "test")
    start = jit_once(model.init)(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))["params"]
    for path, value in traverse_util.flatten_dict(start, sep="/").items():
        moved = np.abs(np.asarray(value) - np.asarray(flat[path])).max()
        assert (moved < 1e-7) == path.startswith("vgfe/"), path
    assert set(state["ema"]) == set(flat)
    difference = max(float(np.abs(np.asarray(state["ema"][p]) - np.asarray(flat[p])).max()) for p in flat)
    assert 0 < difference < 0.05
    scored = Scorer(workdir).variables["params"]  # the best step; both have an average
    chosen = Saved(workdir).load(("ema",), device)["ema"]
    np.testing.assert_array_equal(scored["quality_head"]["fc2"]["kernel"], chosen["quality_head/fc2/kernel"])
    assert Scorer(workdir).card.labels == "native"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 3}, "config.accumulate=3 must be 1 or more and divide config.batch_size=8"),
        ({"ema": 1.0}, "config.ema=1.0 must be 0"),
        ({"optimizer.lr_multipliers": (("no such", 0.1),)}, "'no such' matches no trainable parameter"),
        ({"optimizer.lr_multipliers": (("vgfe", "x"),)}, r'is no \("regular expression", factor >= 0\)'),
    ],
)
def test_impossible_conveniences(pictures, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        train(make_config(pictures, **changes), epath.Path(tmp_path))
