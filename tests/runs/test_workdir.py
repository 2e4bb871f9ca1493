"""The folder of a run and its config.json: what cannot be written, and what was cut off."""

import errno
import os

import ml_collections
import pytest
from etils import epath

from jaxiqa.errors import ConfigError, DiskFull
from jaxiqa.runs.bucket import errors_as_oserror, files_of
from jaxiqa.runs.lock import WorkdirLease
from jaxiqa.runs.workdir import open_workdir, save_config

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
    monkeypatch.setattr("pathlib.Path.replace", failing(KeyboardInterrupt()))  # just before the file is there
    with pytest.raises(KeyboardInterrupt):
        save_config(ml_collections.ConfigDict({"seed": 2}), "abc", epath.Path(tmp_path), None)
    assert (tmp_path / "config.json").read_text() == before
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.parametrize("text", ["", '{\n "seed": 1,\n "opt', "[]"])
def test_a_config_that_was_cut_is_one_line_that_says_how_to_go_on(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(
        ConfigError, match=r"config.json cannot be read \(.*\); put a copy of it back, or remove it: then"
    ):
        save_config(CONFIG, "abc", epath.Path(tmp_path), 4)
    path.unlink()
    save_config(CONFIG, "abc", epath.Path(tmp_path), 4)
    assert '"seed": 1' in path.read_text()


@pytest.mark.parametrize("number", FULL)
def test_no_room_for_the_lock_is_a_full_disk(tmp_path, monkeypatch, number):
    monkeypatch.setattr("filelock._marker.write_all", failing(OSError(number, os.strerror(number))))
    with pytest.raises(
        DiskFull, match=rf"cannot be written \({os.strerror(number)}\); make room, then the same command"
    ):
        hold(tmp_path)
    assert not list(tmp_path.iterdir()) and DiskFull.exit_code == 75


def test_no_room_for_who_holds_it_leaves_no_lease(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.open", failing(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(DiskFull, match="make room"):
        hold(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", FULL)
def test_no_room_for_the_log_is_a_full_disk(tmp_path, monkeypatch, number):
    monkeypatch.setattr("etils.epath.gpath.PosixGPath.open", failing(OSError(number, os.strerror(number))))
    with pytest.raises(DiskFull, match="make room"):
        open_workdir(epath.Path(tmp_path))


@pytest.mark.parametrize("error", [OSError("a sentence"), ValueError("a sentence")])  # both are of gcsfs
@pytest.mark.parametrize("start", [hold, open_workdir])
def test_errors_without_a_number_are_told(bucket, store, monkeypatch, start, error):
    monkeypatch.setattr(store, "makedirs", failing(error))
    with pytest.raises(ConfigError, match=r"--workdir gs://runs/mine cannot be written \(a sentence\); name another"):
        start(bucket)


def test_an_error_that_says_nothing_has_a_name():
    with pytest.raises(OSError, match="TimeoutError"), errors_as_oserror():
        raise Exception from TimeoutError()


@pytest.mark.parametrize("start", [hold, open_workdir, files_of])
def test_a_bucket_without_gcsfs_is_one_line(monkeypatch, start):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="gs://runs/mine: buckets need gcsfs: python -m pip install gcsfs"):
        start(epath.Path("gs://runs/mine"))
