"""The folder of a run and its config.json: files that cannot be written, and files that were cut off."""

import errno
import json
import os
import subprocess
import sys

import ml_collections
import pytest
from etils import epath
from refused import refused

from jaxiqa.config import default_config
from jaxiqa.errors import ConfigError, DiskFull
from jaxiqa.runs.bucket import errors_as_oserror, files_of
from jaxiqa.runs.log import MetricLog, curve
from jaxiqa.runs.run import Run
from jaxiqa.runs.workdir import open_workdir, save_config
from jaxiqa.runs.workdir_lease import WorkdirLease

CONFIG = ml_collections.ConfigDict({"seed": 1})
FULL = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG]


def failing(error: Exception):
    def fail(*_, **__):
        raise error

    return fail


def hold(workdir) -> None:
    with WorkdirLease(workdir):
        pass


def test_a_kill_leaves_the_config_as_it_was(tmp_path, monkeypatch):
    save_config(CONFIG, "abc", epath.Path(tmp_path), None)
    before = (tmp_path / "config.json").read_text()
    monkeypatch.setattr("os.replace", failing(KeyboardInterrupt()))  # the last thing that a write does
    with pytest.raises(KeyboardInterrupt):
        save_config(ml_collections.ConfigDict({"seed": 2}), "abc", epath.Path(tmp_path), None)
    assert (tmp_path / "config.json").read_text() == before
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.parametrize("text", ["", '{\n "seed": 1,\n "opt', "[]"])
def test_a_config_that_was_cut_off_is_refused(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with refused(ConfigError, "damaged", path, str(path), "remove"):
        save_config(CONFIG, "abc", epath.Path(tmp_path), 4)
    path.unlink()
    save_config(CONFIG, "abc", epath.Path(tmp_path), 4)
    assert '"seed": 1' in path.read_text()


def test_a_run_of_an_older_version_resumes_with_the_defaults_of_newer_keys(tmp_path):
    config, path = default_config("quality"), tmp_path / "config.json"
    config.init.vgfe = ""
    save_config(config, "abc", epath.Path(tmp_path), None)
    old = json.loads(path.read_text())
    for key in ("flip_horizontal", "flip_vertical", "crop", "frozen", "ema", "init"):
        del old[key]
    path.write_text(json.dumps(old))
    save_config(config, "abc", epath.Path(tmp_path), 4)
    assert json.loads(path.read_text()) == {**config.to_dict(), "frozen": [], "split_fingerprint": "abc"} | {
        "optimizer": {**config.optimizer, "lr_multipliers": []},
        "schedule": {**config.schedule, "drops": []},
    }
    path.write_text(json.dumps(old))
    config.flip_vertical = False
    with refused(ConfigError, "changed", tmp_path, "flip_vertical", "True", "False", "--workdir") as refusal:
        save_config(config, "abc", epath.Path(tmp_path), 4, override=True)
    assert "--override" not in str(refusal.value)


def test_data_that_moved_may_be_resumed(tmp_path):
    """Other files of the run compare the fingerprints of the data."""
    config = default_config("quality")
    save_config(config, "abc", epath.Path(tmp_path), None)
    config.dataset.data_dir, config.split.file = "/scratch/job2", "/scratch/job2/split.json"
    save_config(config, "abc", epath.Path(tmp_path), 2)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["dataset"]["data_dir"] == "/scratch/job2"
    assert saved["changes"][0]["changed"]["dataset.data_dir"] == ["", "/scratch/job2"]
    config.dataset.name = "folder"
    with refused(ConfigError, "changed", tmp_path, "dataset.name"):
        save_config(config, "abc", epath.Path(tmp_path), 4)


def test_what_a_resumed_run_may_change(tmp_path):
    config = default_config("quality")
    save_config(config, "abc", epath.Path(tmp_path), None)
    config.log_every, config.mesh.fsdp = "1 steps", 2
    save_config(config, "abc", epath.Path(tmp_path), 2)
    config.loss = "l2"
    with refused(ConfigError, "changed", tmp_path, "loss", "'l1'", "'l2'", "--override"):
        save_config(config, "abc", epath.Path(tmp_path), 4)
    save_config(config, "abc", epath.Path(tmp_path), 4, override=True)
    changes = json.loads((tmp_path / "config.json").read_text())["changes"]
    assert [change["step"] for change in changes] == [2, 4] and changes[1]["changed"] == {"loss": ["l1", "l2"]}


@pytest.mark.parametrize("number", FULL)
def test_no_room_for_the_lock_is_a_full_disk(tmp_path, monkeypatch, number):
    monkeypatch.setattr("filelock._marker.write_all", failing(OSError(number, os.strerror(number))))
    with refused(DiskFull, "disk_full", "", str(tmp_path), os.strerror(number)):
        hold(tmp_path)
    assert not list(tmp_path.iterdir()) and DiskFull.exit_code == 75


def test_no_room_for_the_name_of_its_owner_leaves_no_lease(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.open", failing(OSError(errno.ENOSPC, "No space left on device")))
    with refused(DiskFull, "disk_full", "", str(tmp_path)):
        hold(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", FULL)
def test_no_room_for_the_log_is_a_full_disk(tmp_path, monkeypatch, number):
    monkeypatch.setattr("etils.epath.gpath.PosixGPath.open", failing(OSError(number, os.strerror(number))))
    with refused(DiskFull, "disk_full", "", str(tmp_path), os.strerror(number)):
        open_workdir(epath.Path(tmp_path))


@pytest.mark.parametrize("error", [OSError("a sentence"), ValueError("a sentence")])  # gcsfs raises both
@pytest.mark.parametrize("start", [hold, open_workdir])
def test_errors_without_a_number_are_reported(bucket, store, monkeypatch, start, error):
    monkeypatch.setattr(store, "makedirs", failing(error))
    with refused(ConfigError, "unwritable", "--workdir", "gs://runs/mine", "(a sentence)"):
        start(bucket)


def test_an_error_without_a_text_is_named_by_its_class():
    with pytest.raises(OSError, match="TimeoutError"), errors_as_oserror():
        raise Exception from TimeoutError()


@pytest.mark.parametrize("start", [hold, open_workdir, files_of])
def test_a_bucket_without_gcsfs_is_one_line(monkeypatch, start):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with refused(ConfigError, "package", "gcsfs", "gs://runs/mine", "pip install gcsfs"):
        start(epath.Path("gs://runs/mine"))


def test_the_lease_needs_no_hard_links(tmp_path, monkeypatch):
    """As on SMB and some FUSE file systems; also if the run that held it was killed."""
    monkeypatch.setattr("os.link", failing(OSError(errno.EPERM, "Operation not permitted")))
    killed = f"import os\nfrom {WorkdirLease.__module__} import WorkdirLease\nlease = WorkdirLease({str(tmp_path)!r})\n"
    subprocess.run([sys.executable, "-c", f"{killed}lease.__enter__()\nos.kill(os.getpid(), 9)"])
    assert os.listdir(tmp_path) == ["lease"]
    hold(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "encoding"), [("b\udcff", "utf-8"), ("w\udcc3\udcb6rk", "ascii"), ("wÃ¶rk", "latin-1")]
)
def test_a_folder_whose_name_is_another_in_utf8_is_refused(monkeypatch, name, encoding):
    monkeypatch.setattr("os.fsencode", lambda path: os.fspath(path).encode(encoding, "surrogateescape"))
    with refused(ConfigError, "value", name, ascii(name), "-X utf8"):
        files_of(name)
    assert files_of("work").workdir.name == "work"


def test_a_workdir_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Run("~/mine").workdir == epath.Path(tmp_path / "mine")


def test_a_value_that_is_not_finite_is_null_in_every_file_of_a_run(tmp_path, capsys):
    log = MetricLog(tmp_path, 0, 2, 1)
    log.write(1, val_srcc=float("nan"), val_rmse=0.5)
    log.write(2, val_srcc=0.25, val_rmse=float("inf"))
    log.close()
    log = MetricLog(tmp_path, 2, 2, 1)  # a resumed run writes the lines again
    log.close()
    assert curve(tmp_path, "val_srcc")[2] == [(2, 0.25)] and curve(tmp_path, "val_rmse")[2] == [(1, 0.5)]
    config = ml_collections.ConfigDict({"seed": float("inf")})
    save_config(config, "abc", epath.Path(tmp_path), None)
    save_config(config, "abc", epath.Path(tmp_path), 4)
    for name in ("metrics.jsonl", "config.json"):
        text = (tmp_path / name).read_text()
        assert "null" in text and "NaN" not in text and "Infinity" not in text
