"""The lease on a workdir in a bucket; two runs that want it at the same time, in a bucket and on a disk."""

import json
import os
import threading
import time

import pytest
from etils import epath
from refused import refused

from jaxiqa.errors import ConfigError, WorkdirInUse
from jaxiqa.runs import workdir_lease
from jaxiqa.runs.workdir_lease import WorkdirLease

SILENT = {**workdir_lease._about_us(), "host": "elsewhere", "token": "another", "beat": 0.0}
LIVING = {**workdir_lease._about_us(), "token": "quicker"}


@pytest.fixture(params=["disk", "bucket"])
def workdir(request, tmp_path):
    return epath.Path(tmp_path / "w") if request.param == "disk" else request.getfixturevalue("bucket")


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(workdir_lease, "_BEAT_SECONDS", 0.05)
    monkeypatch.setattr(workdir_lease, "_MOMENT", 0.05)


def leave(workdir, about: dict, name: str) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / name).write_text(json.dumps(about))


def names(workdir) -> list[str]:
    """The files of a workdir, without the file that the last owner of a bucket left."""
    return sorted(path.name for path in workdir.iterdir() if path.read_text() != "{}")


def wait_for(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_run_is_refused_and_the_first_one_renews_and_removes_its_lease(workdir):
    with WorkdirLease(workdir) as lease:
        renewed = lambda: lease._claim._read(*([1] if names(workdir) == ["lease.1"] else []))  # noqa: E731
        first = renewed()
        with refused(WorkdirInUse, "in_use", "", str(workdir), f"process {os.getpid()} on"), WorkdirLease(workdir):
            raise AssertionError("two runs hold it")
        wait_for(lambda: renewed() != first)
    assert not names(workdir)


@pytest.mark.parametrize("left", [None, "lock", "lease.3"])
def test_of_many_at_once_one_gets_it(workdir, left):
    """The workdir is free, or was of a dead run of either version; on a disk `lease.3` is any file."""
    if left:
        leave(workdir, SILENT, left)
    start, end, got, refused = threading.Barrier(8), threading.Barrier(8), [], []

    def run():
        start.wait()
        try:
            with WorkdirLease(workdir):
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
    assert names(workdir) == (["lease.3"] if left == "lease.3" and "://" not in str(workdir) else [])


def test_a_lease_that_came_after_a_look_is_not_overwritten(bucket, monkeypatch):
    leave(bucket, LIVING, "lease.1")
    looks, numbers = [{0}], workdir_lease._InBucket._numbers
    monkeypatch.setattr(workdir_lease._InBucket, "_numbers", lambda self: looks.pop() if looks else numbers(self))
    with pytest.raises(WorkdirInUse), WorkdirLease(bucket):
        raise AssertionError("two runs hold it")
    assert json.loads((bucket / "lease.1").read_text()) == LIVING and names(bucket) == ["lease.1"]


def test_the_slower_run_does_not_overwrite_the_lease_of_the_quicker(bucket, monkeypatch):
    """Both found the same dead run. The other one took its workdir first, and a third run has it by now."""
    leave(bucket, SILENT, "lease.1")
    wait, waited = workdir_lease._wait_for_death, []

    def meanwhile(path, read):
        other = wait(path, read)
        if path.name == "lease.1" and not waited:
            waited.append(path)
            path.unlink()
            leave(bucket, LIVING, "lease.3")
        return other

    monkeypatch.setattr(workdir_lease, "_wait_for_death", meanwhile)
    with pytest.raises(WorkdirInUse), WorkdirLease(bucket):
        raise AssertionError("two runs hold it")
    assert names(bucket) == ["lease.3"]


def test_numbers_go_on_and_dead_ones_are_removed(bucket):
    for number in (2, 9, 10):
        leave(bucket, SILENT, f"lease.{number}")
    leave(bucket, SILENT, "lease.yaml")  # is not a lease
    for number in (11, 12):
        with WorkdirLease(bucket):
            assert names(bucket) == [f"lease.{number}", "lease.yaml"]


def test_a_lease_that_the_client_has_created_at_its_first_try_is_ours(bucket, store, monkeypatch):
    create = store.pipe_file

    def twice(path, value, mode="overwrite"):
        create(path, value, mode)
        if mode == "create":
            create(path, value, mode)

    monkeypatch.setattr(store, "pipe_file", twice)
    with WorkdirLease(bucket):
        assert names(bucket) == ["lease.1"]


def test_one_that_was_suspended_knows_that_it_lost_a_bucket(bucket, monkeypatch):
    monkeypatch.setattr(workdir_lease, "_BEAT_SECONDS", 1000.0)  # its thread still sleeps
    taken_by = (f"process {LIVING['pid']} on {LIVING['host']}", LIVING["since"])
    with refused(WorkdirInUse, "in_use", "", "taken over", *taken_by), WorkdirLease(bucket) as lease:
        leave(bucket, LIVING, "lease.2")
        lease.check()  # the bucket is not read again so soon
        monkeypatch.setattr(workdir_lease, "_BEAT_SECONDS", 0.0)
        lease.check()
    assert names(bucket) == ["lease.1", "lease.2"]


def test_it_is_renewed_again_after_a_bucket_was_out_of_reach(bucket, store):
    with WorkdirLease(bucket) as lease:
        store.reachable = False
        time.sleep(0.2)
        lease.check()
        store.reachable = True
        before = (bucket / "lease.1").read_text()
        wait_for(lambda: (bucket / "lease.1").read_text() != before)
        store.reachable = False
    store.reachable = True
    assert names(bucket) == ["lease.1"]  # nobody could remove it


def test_a_bucket_that_cannot_be_reached(bucket, store):
    store.reachable = False
    with (
        refused(ConfigError, "unwritable", "--workdir", "gs://runs/mine", "no route to host"),
        WorkdirLease(bucket),
    ):
        pass
