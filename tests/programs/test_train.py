"""The training program on a tiny folder: what it writes, resuming, refusals."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from etils import epath
from PIL import Image

from jaxiqa.errors import ConfigError, DataError, NonFiniteError
from jaxiqa.train import train
from jaxiqa.training import sharding
from jaxiqa.training.logging import read_metrics

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "configs" / "glintiqa_folder.py"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """15 noise pictures of 5 contents; the score says how strong the noise is."""
    folder, rng = tmp_path_factory.mktemp("rated"), np.random.default_rng(0)
    with open(folder / "index.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "mos", "content"])
        for i in range(15):
            sigma = 10 + 20 * (i % 3)
            image = np.clip(rng.normal(128, sigma, (70, 80, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / f"{i}.png")
            rows.writerow([f"{i}.png", 4.5 - i % 3, f"content{i // 3}"])
    return folder


def options(pictures, **changes):
    """The changes that make configs/glintiqa_folder.py train on the fixture."""
    return {
        "dataset.data_dir": str(pictures),
        "dataset.group_column": "content",
        "batch_size": 8,
        "total": "6 steps",
        "log_every": "1 steps",
        "eval_every": "3 steps",
        "save_every": "2 steps",
        "eval_batch_size": 16,
        **changes,
    }


def make_config(pictures, **changes):
    namespace: dict = {}
    exec(compile(FOLDER.read_text(), FOLDER, "exec"), namespace)
    config = namespace["get_config"]()
    config.update_from_flattened_dict(options(pictures, **changes))
    return config.lock()


def program(workdir, pictures, **changes):
    """The same as a command line, in a process with as many devices as this one."""
    command = [sys.executable, "-m", "jaxiqa.train", "--config", str(FOLDER), "--workdir", str(workdir)]
    command += [f"--config.{key}={value}" for key, value in options(pictures, **changes).items()]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "4"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def losses(workdir) -> dict[int, str]:
    """Loss by step as hexadecimal floats; every step once."""
    lines = [line for line in read_metrics(workdir) if "loss" in line]
    assert len({line["step"] for line in lines}) == len(lines)
    return {line["step"]: float(line["loss"]).hex() for line in lines}


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):
    """The workdir and the test scores of an unbroken run."""
    workdir = epath.Path(tmp_path_factory.mktemp("unbroken"))
    return workdir, train(make_config(pictures), workdir)


def test_what_a_run_leaves(finished):
    workdir, metrics = finished
    assert sorted(losses(workdir)) == [1, 2, 3, 4, 5, 6]
    report = json.loads((workdir / "report.json").read_text())
    assert report["n"] == 3 and report["selection"] == "val" and report["crops"] == "grid" and report["step"] in (3, 6)
    assert report["rmse"] == metrics["rmse"] > 0
    with open(workdir / "predictions_test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and len({row["reference"] for row in rows}) == 1
    for row in rows:  # the scale of the scores: 1..5 is 0..100
        assert float(row["native"]) == pytest.approx(1 + 4 * float(row["score"]) / 100)
    for name in ("loss_curve.png", "scatter_test.png", "contact_sheet_test.png", "config.json"):
        assert (workdir / name).stat().length > 1000
    assert any((workdir / "tensorboard").iterdir())
    evaluated = [line["step"] for line in read_metrics(workdir) if "val_srcc" in line]
    assert evaluated == [3, 6]


def test_a_finished_run_stays_as_it_is(finished, pictures):
    workdir, metrics = finished
    before = (workdir / "metrics.jsonl").read_text()
    assert train(make_config(pictures), workdir) == pytest.approx(metrics, nan_ok=True)
    assert (workdir / "metrics.jsonl").read_text() == before


def test_another_config_is_refused_in_the_same_workdir(finished, pictures):
    workdir, _ = finished
    with pytest.raises(ConfigError, match=r"loss: 'huber\+0.5\*plcc' there, 'l1' now\); use another --workdir"):
        train(make_config(pictures, loss="l1"), workdir)


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 4])
def test_sigkill_and_the_same_command_again(finished, pictures, tmp_path, after):
    """Killed at any moment after some step: the logged losses equal those of the unbroken run bit for bit."""
    first = program(tmp_path, pictures)
    try:
        while len([m for m in read_metrics(tmp_path) if "loss" in m]) < after and first.poll() is None:
            time.sleep(0.01)
    finally:
        first.kill()
        first.communicate()
    again = program(tmp_path, pictures)
    output, _ = again.communicate(timeout=600)
    assert again.returncode == 0, output
    assert losses(tmp_path) == losses(finished[0])


@pytest.mark.slow
def test_sigterm_saves_and_says_143(finished, pictures, tmp_path):
    first = program(tmp_path, pictures, save_every="1000 steps", eval_every="1000 steps")
    while not losses(tmp_path) and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGTERM)
    output, _ = first.communicate(timeout=600)
    assert first.returncode == 143, output
    assert "the same command goes on from there" in output and "Traceback" not in output
    train(make_config(pictures, save_every="1000 steps", eval_every="1000 steps"), epath.Path(tmp_path))
    assert losses(tmp_path) == losses(finished[0])


@pytest.mark.slow
def test_fsdp_gives_the_same_losses(finished, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(sharding, "MIN_SHARDED_SIZE", 256)
    train(make_config(pictures, **{"mesh.data": 2, "mesh.fsdp": 2}), epath.Path(tmp_path))
    ours, unbroken = ([float.fromhex(x) for x in losses(w).values()] for w in (tmp_path, finished[0]))
    np.testing.assert_allclose(ours, unbroken, rtol=1e-3)
    np.testing.assert_allclose(ours[0], unbroken[0], rtol=1e-5)


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


def test_a_workdir_that_cannot_be_written(pictures, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--workdir .*file/w cannot be written .*; name another folder"):
        train(make_config(pictures), epath.Path(tmp_path / "file" / "w"))


def test_bad_data(pictures, tmp_path):
    with pytest.raises(DataError, match=r"index\.csv"):
        train(make_config(pictures, **{"dataset.data_dir": str(tmp_path)}), epath.Path(tmp_path / "w"))


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_run(pictures, tmp_path):
    with pytest.raises(NonFiniteError, match="the checkpoint before it is kept"):
        train(make_config(pictures, **{"optimizer.learning_rate": 1e30}), epath.Path(tmp_path))
