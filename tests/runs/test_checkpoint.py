"""Checkpoints: which steps are kept, and which one is read."""

import numpy as np
import pytest
from refused import refused

from jaxiqa.errors import CheckpointError
from jaxiqa.runs.checkpoint import Checkpoints, Saved
from jaxiqa.runs.checkpoint_meta import FORMAT, CheckpointMeta
from jaxiqa.training.checkpoint import save_once


def save(workdir, srcc_of_steps):
    with Checkpoints(workdir, CheckpointMeta(config={"of": "a test"})) as checkpoints:
        for step, srcc in srcc_of_steps.items():
            checkpoints.save(step, {"params": {"w": np.full(3, step, np.float32)}}, srcc and {"srcc": srcc})


@pytest.mark.parametrize(
    ("srcc_of_steps", "read"),
    [
        ({0: 0.9, 1: 0.2}, 0),
        ({0: 0.2, 1: 0.9, 2: 0.5}, 1),
        ({0: None, 3: None}, 3),
        ({0: None}, 0),
    ],
)
def test_the_best_step_is_read_and_without_evaluations_the_latest(tmp_path, srcc_of_steps, read):
    save(tmp_path, srcc_of_steps)
    saved = Saved(tmp_path)
    assert saved.step == read and saved.meta == CheckpointMeta(config={"of": "a test"})


def test_another_step_on_request(tmp_path):
    save(tmp_path, {0: 0.9, 1: 0.2, 2: 0.1, 3: 0.3})
    assert Saved(tmp_path, 2).step == 2
    with refused(CheckpointError, "not_found", tmp_path, "step 1", "0, 2, 3"):  # neither the best nor the two latest
        Saved(tmp_path, 1)


def test_a_checkpoint_of_a_newer_version_is_refused(tmp_path):
    with Checkpoints(tmp_path, CheckpointMeta(jaxiqa="9.9", format=FORMAT + 1)) as checkpoints:
        checkpoints.save(0, {"params": {"w": np.zeros(3, np.float32)}})
    with refused(CheckpointError, "format", tmp_path / "checkpoints" / "0", "jaxiqa 9.9") as refusal:
        Saved(tmp_path)
    assert refusal.value.exit_code == 4


def test_the_place_of_save_once_in_0_1_0(tmp_path):
    save_once(str(tmp_path), {"params": {"w": np.ones(3, np.float32)}}, {"card": {"labels": "native"}})
    saved = Saved(tmp_path)
    assert saved.meta.card == {"labels": "native"} and saved.meta.format == CheckpointMeta().format


def test_what_is_stored_beside_the_arrays_of_0_1_0():
    old = CheckpointMeta.from_dict({"card": {"labels": "native"}, "split": "abc", "jaxiqa": "0.1.0"}, "there")
    assert (old.format, old.jaxiqa, old.split, old.pretrained) == (0, "0.1.0", "abc", {})
    assert CheckpointMeta.from_dict(CheckpointMeta(split="x").to_dict(), "there") == CheckpointMeta(split="x")
