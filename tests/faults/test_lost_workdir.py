"""A run whose workdir another one has taken stops, and writes nothing more."""

import json
import time

import pytest
from etils import epath
from small_state import META, make_state
from tiny_run import make_config

from jaxiqa.errors import WorkdirInUse
from jaxiqa.train import train
from jaxiqa.training import distributed, lock, storage
from jaxiqa.training.checkpoint import Checkpoints
from jaxiqa.training.step_folders import find_steps

OTHER = {**lock._about_us(), "host": "elsewhere", "pid": 7, "token": "another"}
TAKEN = r"was taken over by process 7 on elsewhere since .* \(was this run suspended"


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(lock, "_BEAT_SECONDS", 0.05)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def take_away(workdir) -> None:
    storage.write(epath.Path(workdir) / "lock", json.dumps(OTHER))
    wait_for(lambda: lock._lost)


def test_it_is_told_when_it_asks(tmp_path):
    with pytest.raises(WorkdirInUse, match=TAKEN), lock.hold(tmp_path):
        lock.check()
        take_away(tmp_path)
        lock.check()
        raise AssertionError("it goes on")
    assert json.loads((tmp_path / "lock").read_text()) == OTHER
    lock.check()  # which is of no concern to the next run of this process


def test_it_is_told_at_the_end(tmp_path):
    with pytest.raises(WorkdirInUse, match=TAKEN), lock.hold(tmp_path):
        take_away(tmp_path)


def test_a_lock_that_was_removed_is_written_again(tmp_path):
    with lock.hold(tmp_path):
        (tmp_path / "lock").unlink()
        wait_for((tmp_path / "lock").exists)


def test_it_saves_nothing_more(tmp_path):
    with pytest.raises(WorkdirInUse, match=TAKEN), lock.hold(tmp_path), Checkpoints(tmp_path, META) as checkpoints:
        checkpoints.save(2, make_state(2))
        take_away(tmp_path)
        checkpoints.save(4, make_state(4))
    assert [one.step for one in find_steps(epath.Path(tmp_path))] == [2]


@pytest.mark.slow
def test_training_stops(pictures, tmp_path, monkeypatch):
    seen, stop_at = [], distributed.stop_at

    def meanwhile(step, received):
        seen.append(step)
        if step == 5:  # at which nothing is saved
            take_away(tmp_path)
        return stop_at(step, received)

    monkeypatch.setattr(distributed, "stop_at", meanwhile)
    workdir = epath.Path(tmp_path)
    with pytest.raises(WorkdirInUse, match=TAKEN), lock.hold(workdir):
        train(make_config(pictures), workdir)
    assert seen == list(range(6))
