"""Files that are written completely or not at all."""

import errno
import os

import pytest
from refused import refused

from jaxiqa.errors import DiskFull
from jaxiqa.files import writing


def test_a_file_appears_when_it_is_complete(tmp_path):
    with writing(tmp_path / "a.csv", "w", encoding="utf-8") as file:
        file.write("é")
        assert os.listdir(tmp_path) == [f"a.csv.{os.getpid()}.tmp"]
    assert os.listdir(tmp_path) == ["a.csv"] and (tmp_path / "a.csv").read_text("utf-8") == "é"


@pytest.mark.parametrize("error", [ValueError("no"), OSError(errno.ENOSPC, "No space left on device")])
def test_a_failed_write_keeps_the_old_file(tmp_path, error):
    (tmp_path / "a").write_bytes(b"old")
    full = isinstance(error, OSError)
    with (
        refused(DiskFull, "disk_full") if full else pytest.raises(ValueError, match="no"),
        writing(tmp_path / "a") as file,
    ):
        file.write(b"new")
        raise error
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"
