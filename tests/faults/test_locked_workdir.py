"""Two runs in one workdir: the second one writes nothing (R5; F12, F13)."""

import json
import os
import signal
import subprocess
import time

import pytest

from jaxiqa.errors import ConfigError, WorkdirInUse
from jaxiqa.training import lock


@pytest.fixture
def holder(tmp_path):
    """Another process, whose lock is in tmp_path."""
    process = subprocess.Popen(["sleep", "60"])
    about = {**lock._about_us(), "pid": process.pid, "started": lock._started(process.pid), "token": "another"}
    (tmp_path / "lock").write_text(json.dumps(about))
    yield process
    process.kill()
    process.wait()


def take(workdir) -> None:
    with lock.hold(workdir):
        pass


def change(workdir, **changes) -> None:
    """What another process would have written into the lock."""
    path = workdir / "lock"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_second_run_is_refused_and_writes_nothing(tmp_path, holder):
    before = {p.name: p.stat().st_mtime_ns for p in [tmp_path, *tmp_path.iterdir()]}
    for _ in range(10):
        with pytest.raises(WorkdirInUse, match=rf"in use by process {holder.pid} on .* since .* UTC; wait for it"):
            take(tmp_path)
    assert {p.name: p.stat().st_mtime_ns for p in [tmp_path, *tmp_path.iterdir()]} == before
    assert WorkdirInUse.exit_code == 6


def test_the_lock_of_a_killed_run_is_taken_over(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    take(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lock, "_BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock, "_SILENT_SECONDS", 0.5)


@pytest.mark.parametrize(
    ("changes", "shortest", "longest"),
    [
        ({"started": "1"}, 0, 0.05),  # its number belongs to another process by now
        ({"boot": "another start of this machine"}, 0.3, 0.6),
        ({"boot": "another start of this machine", "beat": 0.0}, 0.075, 0.3),
        ({"namespace": "pid:[1]", "started": "1"}, 0.3, 0.6),  # a container, where the number is another process's
        ({"namespace": "pid:[1]", "beat": 0.0}, 0.075, 0.3),
        ({"namespace": "", "boot": "", "started": "1"}, 0.3, 0.6),  # a machine that tells neither
        ({"host": "elsewhere"}, 0.3, 0.6),
        ({"host": "elsewhere", "beat": 0.0}, 0.075, 0.3),
        ({"host": "elsewhere", "beat": 4e9}, 0.5, 0.6),  # a clock of the future
    ],
)
def test_who_is_dead(tmp_path, holder, monkeypatch, quick, changes, shortest, longest):
    """By the clock of a test whose only work is to sleep: a run that cannot be looked at is waited for."""
    now = time.monotonic()
    clock = [0.0]
    monkeypatch.setattr(lock.time, "monotonic", lambda: now + clock[0])
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: clock.append(clock.pop() + seconds))
    change(tmp_path, **changes)
    take(tmp_path)
    assert shortest <= round(clock[0], 6) <= longest


@pytest.mark.parametrize("beat", [None, 0.0, 4e9])
def test_one_that_renews_its_lock_lives_whatever_its_clock_says(tmp_path, holder, monkeypatch, quick, beat):
    change(tmp_path, host="elsewhere", **({} if beat is None else {"beat": beat}))
    monkeypatch.setattr(lock.time, "sleep", lambda _: change(tmp_path, beat=1.0))
    with pytest.raises(WorkdirInUse, match=r"in use by .* on elsewhere .*remove .*lock"):
        take(tmp_path)


def test_a_lock_of_an_older_version_goes_by_its_beat(tmp_path, holder, monkeypatch, quick):
    about = json.loads((tmp_path / "lock").read_text())
    del about["namespace"]
    (tmp_path / "lock").write_text(json.dumps({**about, "started": "1"}))
    monkeypatch.setattr(lock.time, "sleep", lambda _: change(tmp_path, beat=1.0))
    with pytest.raises(WorkdirInUse):
        take(tmp_path)


def test_it_is_renewed_and_removed_whatever_happens(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_BEAT_SECONDS", 0.05)
    path = tmp_path / "new" / "lock"
    with pytest.raises(KeyboardInterrupt), lock.hold(tmp_path / "new"):
        first = json.loads(path.read_text())["beat"]
        deadline = time.monotonic() + 10
        while json.loads(path.read_text())["beat"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        raise KeyboardInterrupt
    assert not list(path.parent.iterdir())


def test_a_lock_that_is_no_json_is_of_no_run(tmp_path):
    (tmp_path / "lock").write_text("{")
    take(tmp_path)


def test_a_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--workdir .*file/w cannot be written \(.*\); name another folder"):
        take(tmp_path / "file" / "w")
