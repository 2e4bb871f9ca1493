"""Files of a run whose workdir is a bucket, here a fake one (tests/runs/conftest.py)."""

import contextlib
import json

import ml_collections
import numpy as np
import pytest
from etils import epath
from refused import refused

from jaxiqa.errors import ConfigError, WorkdirInUse
from jaxiqa.evaluation.result_files import write_predictions
from jaxiqa.figures import report
from jaxiqa.files import write_json
from jaxiqa.runs.bucket import files_of
from jaxiqa.runs.log import MetricLog, read_metrics
from jaxiqa.runs.workdir import open_workdir, save_config


def some_steps(workdir, start: int, stop: int, saved: int) -> None:
    """What a run writes that pushes its files at step `saved` and ends at step `stop`."""
    config = ml_collections.ConfigDict({"seed": 1})
    open_workdir(workdir)
    with files_of(workdir).run_folder() as folder:
        save_config(config, "abc", folder.path, start or None)
        with contextlib.closing(MetricLog(folder.path, start, 10, 8)) as log:
            for step in range(start + 1, stop + 1):
                log.write(step, loss=1 / step)
                if step == saved:
                    folder.push()


def test_a_run_in_a_bucket(bucket):
    some_steps(bucket, 0, 4, 2)
    assert [line["step"] for line in read_metrics(bucket)] == [1, 2, 3, 4]
    some_steps(bucket, 2, 5, 3)  # resumed from its checkpoint
    assert read_metrics(bucket) == [{"step": step, "loss": 1 / step} for step in range(1, 6)]
    assert json.loads((bucket / "config.json").read_text()) == {"seed": 1, "split_fingerprint": "abc"}
    assert len(list((bucket / "tensorboard").iterdir())) == 2


def test_what_is_pushed_with_a_checkpoint_survives_a_kill(bucket):
    with files_of(bucket).run_folder() as folder, contextlib.closing(MetricLog(folder.path, 0, 10, 8)) as log:
        log.write(1, loss=1.0)
        folder.push()
        log.write(2, loss=0.5)
        assert [line["step"] for line in read_metrics(bucket)] == [1]


def test_a_bucket_that_is_out_of_reach_does_not_stop_a_run(bucket, store, capsys):
    with files_of(bucket).run_folder() as folder:
        (folder.path / "config.json").write_text("{}")
        store.reachable = False
        folder.push()
        store.reachable = True
    line = capsys.readouterr().out
    assert line.startswith("warning: gs://runs/mine/config.json ") and "no route to host" in line
    assert (bucket / "config.json").read_text() == "{}"


def test_the_last_push_must_succeed(bucket, store):
    with refused(ConfigError, "unwritable", "--workdir", "no route to host"), files_of(bucket).run_folder() as folder:
        (folder.path / "config.json").write_text("{}")
        store.reachable = False


def test_reports_in_a_bucket(bucket):
    report.loss_curve(bucket / "loss_curve.png", [1, 2], [1.0, 0.5])
    write_json(bucket / "report.json", {"srcc": np.float64(0.5)})
    write_predictions(bucket / "predictions.csv", [{"path": "a.png", "score": 1.0}])
    assert sorted(p.name for p in bucket.iterdir()) == ["loss_curve.png", "predictions.csv", "report.json"]
    assert (bucket / "loss_curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_local_workdir_is_written_directly(tmp_path):
    with files_of(tmp_path).run_folder() as folder:
        assert folder.path == epath.Path(tmp_path)
        folder.push()


def test_other_processes_write_nothing(bucket, tmp_path):
    for workdir in (bucket, tmp_path / "w"):
        with files_of(workdir).run_folder(first=False) as folder:
            (folder.path / "config.json").write_text("{}")
            folder.push()
        assert not epath.Path(workdir).exists() and not folder.path.exists()


def test_a_pulled_file_does_not_overwrite_a_newer_one(bucket):
    old = {"lease.7": "renewed now and then", "lock": "", "ledger.json": "{}", "config.json": "{}"}
    for name, text in old.items():
        (bucket / name).write_text(text)
    with files_of(bucket).run_folder() as folder:
        assert sorted(p.name for p in folder.path.iterdir()) == ["config.json", "ledger.json"]
        (bucket / "lease.7").write_text("renewed")
        (bucket / "ledger.json").write_text('{"steps": 1}')
        (folder.path / "config.json").write_text('{"seed": 1}')
        folder.push()
    there = {name: (bucket / name).read_text() for name in old}
    assert there == {**old, "lease.7": "renewed", "ledger.json": '{"steps": 1}', "config.json": '{"seed": 1}'}


def test_a_run_that_lost_its_workdir_pushes_nothing(bucket):
    with pytest.raises(WorkdirInUse), files_of(bucket).run_folder() as folder:
        (folder.path / "config.json").write_text("{}")
        raise WorkdirInUse("another run took it")
    assert not (bucket / "config.json").exists()


def test_a_run_that_failed_pushes_what_it_has(bucket):
    with pytest.raises(ZeroDivisionError), files_of(bucket).run_folder() as folder:
        (folder.path / "metrics.jsonl").write_text("{}\n")
        raise ZeroDivisionError
    assert (bucket / "metrics.jsonl").read_text() == "{}\n"


def test_a_bucket_that_cannot_be_read(bucket, store):
    (bucket / "config.json").write_text("{}")
    store.reachable = False
    with refused(ConfigError, "unreadable", "--workdir", "gs://runs/mine", "no route to host"):
        files_of(bucket).run_folder().__enter__()
