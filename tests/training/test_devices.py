"""The devices of a process: a platform that is not there, and a process that was forked."""

import os

import jax
import pytest
from refused import refused

from jaxiqa.errors import ConfigError
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.runs.run import Run
from jaxiqa.training import sharding

USES = {
    "mesh": lambda folder: sharding.make_mesh(),
    "checkpoint": Saved,
    "run": Run,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    "error", [RuntimeError("Unable to initialize backend 'tpu': no (set JAX_P)"), AssertionError()]
)
def test_a_platform_that_is_not_there_damages_nothing(tmp_path, monkeypatch, use, error):
    def fail():
        raise error

    monkeypatch.setattr(jax, "local_devices", fail)
    with refused(ConfigError, "conflict", "JAX_PLATFORMS", "cpu"):
        USES[use](tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("use", USES)
def test_a_process_that_was_forked_from_one_that_used_jax(tmp_path, monkeypatch, use):
    parent = os.getpid()
    sharding.local_devices()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with refused(ConfigError, "conflict", "fork", str(parent), '"spawn"'):
        USES[use](tmp_path)
    monkeypatch.undo()
    assert sharding.local_devices() == jax.local_devices()
