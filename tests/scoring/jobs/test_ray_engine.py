"""The engine on Ray Data, embedded: the scores of one process, also if an actor is killed in the middle."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from refused import refused

from jaxiqa.errors import ConfigError
from jaxiqa.scoring.jobs import ray_engine
from tests.load.job import ROOT, rows, score, write_checkpoint, write_images


def actors_of(pid: int) -> list[int]:
    """Processes below a program that hold an actor of the model."""
    parents, titles = {}, {}
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            titles[int(path.name)] = (path / "cmdline").read_text()
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue

    def is_below(one):
        while one := parents.get(one, 0):
            if one == pid:
                return True
        return False

    return [one for one, title in titles.items() if "MapWorker" in title and is_below(one)]


@pytest.mark.slow
def test_an_actor_that_is_killed_loses_nothing(tmp_path):
    pytest.importorskip("ray.data", reason="the extra `ray` is not installed")
    write_images(tmp_path, 1000)
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    score(tmp_path / "images", checkpoint, tmp_path / "whole", "--shard_size=125")
    command = [sys.executable, "-m", "jaxiqa", "score", "--checkpoint", checkpoint, "--engine=ray"]
    command += ["--shard_size=125", "--output", tmp_path / "ray", tmp_path / "images"]
    killed = 0
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
        while child.poll() is None:
            if not killed and list((tmp_path / "ray").glob("part-*")):
                for pid in actors_of(child.pid):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            time.sleep(0.1)
        text = child.stderr.read()
    assert child.returncode == 0 and "scored 990, refused 10" in text, text
    assert killed == 1 and "Ray: 1 node(s), 1 actor(s)" in text
    found, expected = rows(tmp_path / "ray"), rows(tmp_path / "whole")
    assert found["path"].equals(expected["path"]) and found["reason"].equals(expected["reason"])
    for name in ("score", "percentile"):
        ours, theirs = (np.array(table[name].to_pylist(), float) for table in (found, expected))
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    number = len(list((tmp_path / "ray").glob("part-*")))
    assert number == 8 and pq.read_schema(tmp_path / "ray" / "part-000000.parquet").metadata[b"jaxiqa"]


def test_ray_is_named_if_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with refused(ConfigError, "package", "--engine"):
        ray_engine.connect(None)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"CPU": 16.0}, (2, {})),
        ({"CPU": 16.0, "GPU": 8.0}, (8, {"num_gpus": 1})),
        ({"CPU": 16.0, "TPU": 4.0}, (4, {"resources": {"TPU": 1}})),
    ],
)
def test_one_actor_for_each_device_or_node_of_cpus(resources, expected):
    assert ray_engine._devices(resources, 2) == expected
