"""Checkpoints of a run whose workdir is a bucket. The bucket is a fake, without Google's driver of TensorStore."""

import os
import pathlib

from refused import refused
from small_state import META, damage, files_of, make_state, same, shapes_of

from jaxiqa.errors import CheckpointError
from jaxiqa.runs.checkpoint import Checkpoints, Saved
from jaxiqa.runs.saved_steps import find_steps


def test_they_are_looked_for_in_the_bucket_and_not_on_the_disk(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Checkpoints(bucket, META) as checkpoints:
        assert checkpoints.read_latest_step() is None
    with refused(CheckpointError, "not_found", "gs://runs/mine", "finished step"):
        Saved("gs://runs/mine")
    assert os.listdir(tmp_path) == ["buckets"]


def test_a_run_resumes_from_them(bucket):
    with Checkpoints(bucket, META) as checkpoints:
        for step in (2, 4, 6):
            checkpoints.save(step, make_state(step), {"srcc": 1 / step})
        checkpoints.wait()
    assert sorted(p.name for p in (bucket / "checkpoints").iterdir()) == [
        "2",
        "4",
        "6",
    ]  # the best one and the latest two
    with Checkpoints(bucket, META) as checkpoints:
        step, state = checkpoints.resume(shapes_of(make_state(0)))
    assert step == 6 and same(state, make_state(6))


def test_one_is_read_for_scoring(bucket):
    with Checkpoints(bucket, META) as checkpoints:
        checkpoints.save(2, make_state(2))
        checkpoints.wait()
    for path in (bucket, bucket / "checkpoints" / "2"):
        saved = Saved(path)
        assert (str(saved.workdir), saved.step, saved.meta) == ("gs://runs/mine", 2, META)


def test_a_damaged_one_is_marked_and_the_one_before_it_used(bucket, store):
    with Checkpoints(bucket, META) as checkpoints:
        for step in (2, 4):
            checkpoints.save(step, make_state(step))
        checkpoints.wait()
    path = pathlib.Path(store.on_disk(bucket), "checkpoints", "4", files_of(store.on_disk(bucket), 4)[0])
    damage(path, f"flip {path.stat().st_size // 2}")
    with Checkpoints(bucket, META) as checkpoints:
        step, state = checkpoints.resume(shapes_of(make_state(0)))
    assert step == 2 and same(state, make_state(2))
    assert "conv/kernel" in (bucket / "quarantine" / "step_4").read_text()


def test_one_that_another_process_has_saved_is_found(bucket, store, monkeypatch):
    remembered, ls = {}, store.ls
    monkeypatch.setattr(store, "ls", lambda path, **how: remembered.setdefault(path, ls(path, **how)))
    monkeypatch.setattr(store, "invalidate_cache", remembered.clear)
    for step in (2, 4):
        folder = pathlib.Path(store.on_disk(bucket), "checkpoints", str(step))
        folder.mkdir(parents=True)
        (folder / "commit_success.txt").write_text("")
        assert [one.step for one in find_steps(bucket)][-1] == step
