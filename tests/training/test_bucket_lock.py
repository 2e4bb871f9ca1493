"""The lock of a workdir in a bucket, and of two that want it at once, there and on a disk."""

import json
import threading
import time

import pytest
from etils import epath

from jaxiqa.errors import ConfigError, WorkdirInUse
from jaxiqa.training import lock

SILENT = {**lock._about_us(), "host": "elsewhere", "token": "another", "beat": 0.0}


@pytest.fixture(params=["disk", "bucket"])
def workdir(request, tmp_path):
    return epath.Path(tmp_path / "w") if request.param == "disk" else request.getfixturevalue("bucket")


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(lock, "_BEAT_SECONDS", 0.05)


def leave(workdir, about: dict) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "lock").write_text(json.dumps(about))


def token(workdir) -> str:
    return json.loads((workdir / "lock").read_text())["token"]


def names(workdir) -> list[str]:
    return [path.name for path in workdir.iterdir()]


def wait_for(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_run_is_refused_and_the_first_one_renews_and_removes_its_lock(workdir):
    with lock.hold(workdir):
        first = (workdir / "lock").read_text()
        with pytest.raises(WorkdirInUse, match=r"w|mine is in use by process \d+ on"), lock.hold(workdir):
            raise AssertionError("two runs hold it")
        wait_for(lambda: (workdir / "lock").read_text() != first)
    assert not names(workdir)


@pytest.mark.parametrize("left", [None, SILENT], ids=["free", "of a dead run"])
def test_of_many_at_once_one_gets_it(workdir, left):
    if left:
        leave(workdir, left)
    start, end, got, refused = threading.Barrier(8), threading.Barrier(8), [], []

    def run():
        start.wait()
        try:
            with lock.hold(workdir):
                got.append(1)
                end.wait()
        except WorkdirInUse:
            refused.append(1)
            end.wait()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    assert not names(workdir)


def test_a_lock_that_came_after_a_look_is_not_written_over(workdir, monkeypatch):
    leave(workdir, {**lock._about_us(), "token": "quicker"})
    looks = [None]
    read = lock._read
    monkeypatch.setattr(lock, "_read", lambda path: looks.pop() if looks else read(path))
    with pytest.raises(WorkdirInUse), lock.hold(workdir):
        raise AssertionError("two runs hold it")
    assert token(workdir) == "quicker" and names(workdir) == ["lock"]


def test_who_was_slower_does_not_write_over_who_was_quicker(workdir, monkeypatch):
    """Both have found the same dead run; then the other one takes its workdir."""
    leave(workdir, SILENT)
    quicker, is_dead, looked = {**lock._about_us(), "token": "quicker"}, lock._is_dead, []

    def meanwhile(path, other):
        dead = is_dead(path, other)
        if not looked:
            looked.append(other)
            lock._take(path, quicker)
        return dead

    monkeypatch.setattr(lock, "_is_dead", meanwhile)
    with pytest.raises(WorkdirInUse), lock.hold(workdir):
        raise AssertionError("two runs hold it")
    assert token(workdir) == "quicker" and names(workdir) == ["lock"]


def test_one_that_died_as_it_took_over_bars_nobody(workdir):
    leave(workdir, SILENT)
    (workdir / "lock.another").write_text(json.dumps({**SILENT, "token": "died"}))
    with lock.hold(workdir):
        assert names(workdir) == ["lock"]


def test_a_lock_that_the_client_has_created_at_its_first_try_is_ours(bucket, store, monkeypatch):
    create = store.pipe_file

    def twice(path, value, mode="overwrite"):
        create(path, value, mode)
        if mode == "create":
            create(path, value, mode)

    monkeypatch.setattr(store, "pipe_file", twice)
    with lock.hold(bucket):
        assert names(bucket) == ["lock"]


def test_it_goes_on_being_renewed_after_a_bucket_was_out_of_reach(bucket, store):
    with lock.hold(bucket):
        store.reachable = False
        time.sleep(0.2)
        store.reachable = True
        before = (bucket / "lock").read_text()
        wait_for(lambda: (bucket / "lock").read_text() != before)
        store.reachable = False
    store.reachable = True
    assert names(bucket) == ["lock"]  # nobody could remove it


def test_a_bucket_that_cannot_be_reached(bucket, store):
    store.reachable = False
    with (
        pytest.raises(ConfigError, match=r"--workdir gs://runs/mine cannot be written \(no route to host\); name an"),
        lock.hold(bucket),
    ):
        pass
