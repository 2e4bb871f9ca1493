"""Checkpoints: which steps stay, and which of them is read."""

import numpy as np
import pytest

from jaxiqa.errors import CheckpointError
from jaxiqa.training.checkpoint import Checkpoints, Saved


def save(workdir, srcc_of_steps):
    with Checkpoints(workdir, {"of": "a test"}) as checkpoints:
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
    assert saved.step == read and saved.meta == {"of": "a test"}


def test_another_step_on_request(tmp_path):
    save(tmp_path, {0: 0.9, 1: 0.2, 2: 0.1, 3: 0.3})
    assert Saved(tmp_path, 2).step == 2
    with pytest.raises(CheckpointError, match="has no step 1; it has 0, 2, 3"):  # neither the best nor the two latest
        Saved(tmp_path, 1)
