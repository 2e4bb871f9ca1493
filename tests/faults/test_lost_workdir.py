"""A run whose workdir another one has taken stops, and writes nothing more."""

import json
import os
import time

import pytest
from etils import epath
from refused import refused
from small_state import META, make_state
from tiny_run import CNNIQA, make_config

from jaxiqa.errors import WorkdirInUse
from jaxiqa.runs import workdir_lease
from jaxiqa.runs.checkpoint import Checkpoints
from jaxiqa.runs.run import Run
from jaxiqa.runs.saved_steps import find_steps
from jaxiqa.runs.workdir_lease import WorkdirLease
from jaxiqa.train import train

OTHER = {**workdir_lease._about_us(), "host": "elsewhere", "pid": 7, "token": "another"}
TAKEN = ("in_use", "", "taken over", "process 7 on elsewhere", OTHER["since"])


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(workdir_lease, "_BEAT_SECONDS", 0.05)
    monkeypatch.setattr(workdir_lease, "_MOMENT", 0.05)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def take_away(workdir) -> None:
    """What another run does that has seen no renewal for two minutes."""
    (workdir / "aside").write_text(f"filelock/2\npid=7\nhost=elsewhere\nabout={json.dumps(OTHER)}\n")
    os.replace(workdir / "aside", workdir / "lease")


def holder(workdir) -> dict:
    return json.loads((workdir / "lease").read_text().partition("about=")[2])


def test_it_is_told_when_it_asks(tmp_path):
    with refused(WorkdirInUse, *TAKEN), WorkdirLease(tmp_path) as lease:
        lease.check()
        take_away(tmp_path)
        wait_for(lambda: lease._claim.is_lost)
        lease.check()
        raise AssertionError("it goes on")
    assert holder(tmp_path) == OTHER


def test_one_that_was_suspended_is_told_when_it_wakes(tmp_path, monkeypatch):
    """Before the thread that renews its lease has noticed."""
    monkeypatch.setattr(workdir_lease, "_BEAT_SECONDS", 100.0)
    with refused(WorkdirInUse, *TAKEN), WorkdirLease(tmp_path) as lease:
        take_away(tmp_path)
        now = time.time()
        monkeypatch.setattr(workdir_lease.time, "time", lambda: now + 101.0)
        assert not lease._claim.is_lost
        lease.check()


def test_a_takeover_that_garbles_the_name_of_the_owner_is_no_loss(tmp_path):
    """Two runs that take over one lease may move it for a moment, so that the line about the owner is lost."""
    with WorkdirLease(tmp_path) as lease:
        text = (tmp_path / "lease").read_text().partition("about=")[0]
        (tmp_path / "lease").write_text(text)
        assert not lease._claim.loss()


def test_each_step_may_ask(tmp_path, monkeypatch):
    """The disk is asked once in a beat."""
    looks, loss = [], workdir_lease._OnDisk.loss
    monkeypatch.setattr(workdir_lease, "_BEAT_SECONDS", 30.0)
    monkeypatch.setattr(workdir_lease._OnDisk, "loss", lambda self: looks.append(1) or loss(self))
    with WorkdirLease(tmp_path) as lease:
        now = time.time()
        for seconds in range(100):
            monkeypatch.setattr(workdir_lease.time, "time", lambda seconds=seconds: now + seconds)
            lease.check()
        assert len(looks) == 3


def test_one_that_was_asleep_waits_until_it_is_renewed(tmp_path, monkeypatch):
    """Before, another run may take what has expired right after a look at it."""
    monkeypatch.setattr(workdir_lease, "_MOMENT", 0.5)
    with WorkdirLease(tmp_path) as lease:
        now, renewed = time.time(), os.stat(tmp_path / "lease").st_mtime_ns
        monkeypatch.setattr(workdir_lease.time, "time", lambda: now + 120.0)
        lease.check()
        assert os.stat(tmp_path / "lease").st_mtime_ns > renewed


def test_it_is_told_at_the_end(tmp_path):
    with refused(WorkdirInUse, *TAKEN), WorkdirLease(tmp_path):
        take_away(tmp_path)
    assert holder(tmp_path) == OTHER


def test_an_error_of_the_run_is_not_hidden(tmp_path):
    with pytest.raises(ZeroDivisionError), WorkdirLease(tmp_path):
        take_away(tmp_path)
        raise ZeroDivisionError


def test_a_lease_that_was_removed_is_lost(tmp_path):
    with refused(WorkdirInUse, "in_use", "", str(tmp_path / "lease"), "removed"), WorkdirLease(tmp_path) as lease:
        (tmp_path / "lease").unlink()
        wait_for(lambda: lease._claim.is_lost)
        lease.check()


def test_a_disk_that_goes_away_for_two_minutes_is_lost(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(workdir_lease, "_LEASE_SECONDS", 0.3)
    with refused(WorkdirInUse, "in_use", "", str(tmp_path / "lease"), "renewed"), WorkdirLease(tmp_path) as lease:
        with monkeypatch.context() as patch:
            patch.setattr("filelock._lease.touch", fail)
            lease.check()
            wait_for(lambda: lease._claim.is_lost)
        lease.check()


def test_it_saves_nothing_more(tmp_path):
    with (
        refused(WorkdirInUse, *TAKEN),
        WorkdirLease(tmp_path) as lease,
        Checkpoints(tmp_path, META, check=lease.check) as checkpoints,
    ):
        checkpoints.save(2, make_state(2))
        take_away(tmp_path)
        wait_for(lambda: lease._claim.is_lost)
        checkpoints.save(4, make_state(4))
    assert [one.step for one in find_steps(epath.Path(tmp_path))] == [2]


@pytest.mark.slow
def test_training_stops(pictures, tmp_path, monkeypatch):
    seen, stop_at = [], Run.stop_at

    def meanwhile(run, step):
        seen.append(step)
        if step == 5:  # at which nothing is saved
            take_away(tmp_path)
            wait_for(lambda: run._lease._claim.is_lost)
        return stop_at(run, step)

    monkeypatch.setattr(Run, "stop_at", meanwhile)
    with refused(WorkdirInUse, *TAKEN):
        train(make_config(pictures, CNNIQA), epath.Path(tmp_path))
    assert seen == list(range(6))
