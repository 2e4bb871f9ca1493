"""Two runs in one workdir: the second one writes nothing (R5; F12, F13). The first may be of version 0.1.0."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from refused import refused

from jaxiqa.errors import ConfigError, WorkdirInUse
from jaxiqa.runs import workdir_lease
from jaxiqa.runs.workdir_lease import WorkdirLease

FILES = ["lease", "lock"]  # of this version, and of 0.1.0


def take(workdir) -> None:
    with WorkdirLease(workdir):
        pass


def leave(path, about: dict) -> None:
    """What another process would have written."""
    container = "?pidns-1" if about.get("namespace") == "pid:[1]" else ""
    boot = (
        int(about["boot"].replace("-", ""), 16)
        if about["boot"] == workdir_lease._about_us()["boot"]
        else len(about["boot"])
    )
    start = boot << 64 | int(about["started"])
    who = f"pid={about['pid']}\nhost={about['host']}{container}\nstart={start}"
    lines = f"filelock/2\n{who}\nmode=lease\ntoken=a\nduration={workdir_lease._LEASE_SECONDS}\n"
    text = json.dumps(about)
    path.write_text(text if path.name == "lock" else f"{lines}about={text}\n")


@pytest.fixture(params=FILES)
def held(request, tmp_path):
    """The file of a run in another process, and the process."""
    process = subprocess.Popen(["sleep", "60"])
    about = {
        **workdir_lease._about_us(),
        "pid": process.pid,
        "started": workdir_lease._started(process.pid),
        "token": "another",
    }
    leave(tmp_path / request.param, about)
    yield tmp_path / request.param, process, about
    process.kill()
    process.wait()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(workdir_lease, "_BEAT_SECONDS", 0.05)
    monkeypatch.setattr(workdir_lease, "_LEASE_SECONDS", 0.5)
    monkeypatch.setattr(workdir_lease, "_MOMENT", 0.05)


def test_the_second_run_is_refused_and_writes_nothing(held):
    path, process, _ = held
    before = {p.name: p.stat().st_mtime_ns for p in [path.parent, *path.parent.iterdir()]}
    for _ in range(10):
        with refused(WorkdirInUse, "in_use", "", str(path.parent), f"process {process.pid} on", " UTC", "--workdir"):
            take(path.parent)
    assert {p.name: p.stat().st_mtime_ns for p in [path.parent, *path.parent.iterdir()]} == before
    assert WorkdirInUse.exit_code == 6


def test_the_lease_of_a_killed_run_is_taken_over_at_once(held):
    path, process, _ = held
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    began = time.monotonic()
    take(path.parent)
    assert time.monotonic() - began < 1 and not list(path.parent.iterdir())


def test_so_is_that_of_one_that_nobody_waits_for(held, quick):
    """A container whose first process does not reap its children."""
    path, process, _ = held
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    take(path.parent)
    assert not list(path.parent.iterdir())


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
def test_who_is_dead(held, monkeypatch, capsys, quick, changes, shortest, longest):
    """By the clock of a test whose only work is to sleep: a run that cannot be looked at is waited for."""
    path, _, about = held
    leave(path, about | changes)
    if path.name == "lease" and "beat" in changes:  # whose file says when it was renewed
        shortest, longest = 0.5, 0.6
    now = time.monotonic()
    clock = [0.0]
    monkeypatch.setattr(workdir_lease.time, "monotonic", lambda: now + clock[0])
    monkeypatch.setattr(workdir_lease.time, "sleep", lambda seconds: clock.append(clock.pop() + seconds))
    take(path.parent)
    assert shortest <= round(clock[0], 6) <= longest
    waits = re.findall(r"process \d+ on .* since .* UTC.* \d+ s", capsys.readouterr().out)
    assert len(waits) == bool(longest > 0.05)
    assert not list(path.parent.iterdir())


def test_a_disk_that_cannot_exchange_names(held, monkeypatch, quick):
    """NFS and SMB refuse what filelock takes a lease over with."""
    path, process, about = held
    monkeypatch.setattr("filelock._soft.exchange_names", lambda *_: False)
    monkeypatch.setattr("filelock._util.exchange_names", lambda *_: False)
    leave(path, about | {"host": "elsewhere"})
    take(path.parent)
    leave(path, about)
    with pytest.raises(WorkdirInUse):
        take(path.parent)
    process.kill()
    process.wait()
    take(path.parent)
    assert not list(path.parent.iterdir())


def test_a_disk_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with WorkdirLease(tmp_path), pytest.raises(WorkdirInUse):
        take(tmp_path)
    take(tmp_path)


@pytest.mark.parametrize("beat", [None, 0.0, 4e9])
def test_one_that_renews_its_lease_lives_whatever_its_clock_says(held, monkeypatch, quick, beat):
    path, _, about = held
    about = about | {"host": "elsewhere"} | ({} if beat is None else {"beat": beat})
    leave(path, about)
    monkeypatch.setattr(workdir_lease.time, "sleep", lambda _: leave(path, about | {"beat": 1.0}))
    with refused(WorkdirInUse, "in_use", "", " on elsewhere ", str(path)):
        take(path.parent)


@pytest.mark.parametrize("held", ["lock"], indirect=True)
def test_a_lock_of_an_older_version_goes_by_its_beat(held, monkeypatch, quick):
    path, _, about = held
    del about["namespace"]
    leave(path, about | {"started": "1"})
    monkeypatch.setattr(workdir_lease.time, "sleep", lambda _: leave(path, about | {"beat": 1.0}))
    with pytest.raises(WorkdirInUse):
        take(path.parent)


def test_it_is_renewed_and_removed_whatever_happens(tmp_path, quick):
    path = tmp_path / "new" / "lease"
    with pytest.raises(KeyboardInterrupt), WorkdirLease(tmp_path / "new"):
        first = path.stat().st_mtime_ns
        deadline = time.monotonic() + 10
        while path.stat().st_mtime_ns == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        raise KeyboardInterrupt
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("text", ["{", "[]", "[1]", '"pid"', "{}", "\0", ""])
def test_what_no_run_has_written_is_of_no_run(tmp_path, monkeypatch, name, text):
    monkeypatch.setattr(workdir_lease, "_BEAT_SECONDS", 2.0)
    monkeypatch.setattr(
        workdir_lease, "_LEASE_SECONDS", 2.5
    )  # filelock looks for two seconds whether it is being written
    (tmp_path / name).write_text(text)
    take(tmp_path)
    assert not list(tmp_path.iterdir())


def test_other_processes_of_a_run_leave_it_to_the_first(tmp_path):
    with WorkdirLease(tmp_path / "w", held=False) as lease:
        lease.check()
    assert not (tmp_path / "w").exists()


def test_a_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with refused(ConfigError, "unwritable", "--workdir", str(tmp_path / "file" / "w")):
        take(tmp_path / "file" / "w")
