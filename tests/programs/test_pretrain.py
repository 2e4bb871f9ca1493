"""Contrastive pretraining on a few pictures: what it writes, resuming, one loss on any number of devices, refusals."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image
from tiny_run import ROOT

from jaxiqa.errors import ConfigError, DataError
from jaxiqa.evaluation.probe import Probe
from jaxiqa.pretrain import pretrain, split_pictures
from jaxiqa.training.checkpoint import Saved
from jaxiqa.training.logging import MetricLog, read_metrics

CONFIG = ROOT / "configs" / "dan_folder.py"


def make_config(pictures, **changes):
    namespace: dict = {}
    exec(compile(CONFIG.read_text(), CONFIG, "exec"), namespace)
    config = namespace["get_config"]("smoke")
    config.update_from_flattened_dict({"pictures": str(pictures), **changes})
    return config.lock()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """Twelve smooth pictures."""
    folder = tmp_path_factory.mktemp("pristine")
    rng = np.random.default_rng(0)
    for i in range(12):
        small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
        small.resize((128, 96), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def pretrained(pristine, tmp_path_factory):
    workdir = epath.Path(tmp_path_factory.mktemp("dan"))
    return workdir, pretrain(make_config(pristine), workdir)


def losses(workdir):
    return {line["step"]: float(line["loss"]).hex() for line in read_metrics(workdir) if "loss" in line}


@pytest.mark.slow
def test_what_a_run_leaves(pretrained):
    workdir, accuracy = pretrained
    assert sorted(losses(workdir)) == [1, 2, 3, 4]
    first = read_metrics(workdir)[0]
    assert first["step"] == 0 and 0 <= first["untrained_val_accuracy"] <= 1
    assert [line["step"] for line in read_metrics(workdir) if "probe_accuracy" in line] == [2, 4]
    report = json.loads((workdir / "report.json").read_text())
    assert report["probe_accuracy"] == accuracy["test"]
    assert report["untrained_accuracy"] == first["untrained_test_accuracy"]
    assert np.sum(report["confusion"]) == 25 and report["label_mode"] == "type_level"
    probe = Probe.load(workdir / f"probe_{report['step']}.npz")
    assert probe.weight.shape == (256, 25) and probe.classes[0] == "pristine"
    for name in ("loss_curve.png", "confusion_matrix.png"):
        assert (workdir / name).stat().length > 5000
    saved = Saved(workdir)
    assert saved.step == report["step"] and saved.meta["pretrained"]["crop_size"] == 64


@pytest.mark.slow
def test_a_broken_run_goes_on_with_the_same_losses(pretrained, pristine, tmp_path, monkeypatch):
    write_step = MetricLog.write_step

    def broken(self, last, *arguments, **options):
        if last is not None and last[0] == 3:
            raise RuntimeError("the power went")
        write_step(self, last, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MetricLog, "write_step", broken)
        with pytest.raises(RuntimeError, match="the power went"):
            pretrain(make_config(pristine), epath.Path(tmp_path))
    assert Saved(tmp_path).step == 2
    accuracy = pretrain(make_config(pristine), epath.Path(tmp_path))
    assert losses(tmp_path) == losses(pretrained[0]) and accuracy == pretrained[1]


@pytest.mark.slow
def test_the_loss_is_the_same_on_one_two_and_four_devices(pristine, tmp_path):
    """Also with instances for labels; the similarities are over the global batch."""
    code = (
        "import sys, pathlib; sys.path.insert(0, 'tests/helpers'); sys.path.insert(0, 'tests/programs')\n"
        "from etils import epath; import test_pretrain as t\n"
        "t.pretrain(t.make_config(sys.argv[1], total='2 steps', **eval(sys.argv[3])), epath.Path(sys.argv[2]))"
    )
    for changes in ({}, {"label_mode": "instance"}):
        found = {}
        for devices in (1, 2, 4):
            workdir = tmp_path / f"{len(changes)}_{devices}"
            subprocess.run(
                [sys.executable, "-c", code, str(pristine), str(workdir), repr(changes)],
                cwd=ROOT,
                env={**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)},
                check=True,
                capture_output=True,
            )
            found[devices] = [line["loss"] for line in read_metrics(workdir) if "loss" in line]
        for devices in (2, 4):
            np.testing.assert_allclose(found[devices], found[1], rtol=1e-5)


def test_probe_pictures_are_never_trained_on(pristine):
    train, held_out = split_pictures(str(pristine), 4)
    assert len(train) == 8 and len(held_out) == 4
    assert not {r.id for r in train} & {r.id for r in held_out}
    again = split_pictures(os.path.relpath(pristine), 4)
    assert [r.id for r in again[0]] == [r.id for r in train]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pictures": ""}, "config.pictures is empty"),
        ({"probe_pictures": 12}, "leave some of the 12 pictures"),
        ({"probe_pictures": 3}, "must be 4 or more"),
        ({"label_mode": "types"}, 'label_mode="types" must be one of type_level, type, instance'),
        ({"batch_size": 18}, "multiple of 4"),
        ({"batch_size": 12, "label_mode": "instance"}, "multiple of 8"),
        ({"eval_batch_size": 3}, "eval_batch_size=3 must be a multiple of 4"),
        ({"temperature": 0.0}, "temperature"),
        ({"model.name": "glintiqa"}, "must be a backbone with four stages"),
        ({"model.name": "resnet5"}, 'did you mean "resnet50"'),
        ({"dtype": "float16"}, "dtype"),
        ({"schedule.name": "cosin"}, 'did you mean "cosine"'),
    ],
)
def test_impossible_configs(pristine, tmp_path, changes, message):
    assert jax.device_count() == 4
    with pytest.raises(ConfigError, match=message):
        pretrain(make_config(**{"pictures": pristine, **changes}), epath.Path(tmp_path))


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(DataError, match="no picture in this folder"):
        pretrain(make_config(tmp_path), epath.Path(tmp_path / "w"))
