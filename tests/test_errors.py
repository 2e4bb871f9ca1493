"""Hints for an unknown word, exit codes, and the error of a full disk."""

import errno
import os
import pathlib
import re

import pytest
from refused import refused

from jaxiqa.errors import CODES, CheckpointError, DiskFull, Stopped, exit_code_of, full_disk, suggest


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("jpg", 'did you mean "jpeg"?'),
        ("jpeg200", 'did you mean "jpeg2000"?'),
        ("blur", "choose one of: jpeg, jpeg2000"),
        ("", "choose one of: jpeg, jpeg2000"),
    ],
)
def test_suggest(word, hint):
    assert suggest(word, {"jpeg": 1, "jpeg2000": 2}) == suggest(word, iter(["jpeg", "jpeg2000"])) == hint


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckpointError("damaged"), 4),
        (Stopped("at step 3", 15), 143),
        (KeyboardInterrupt(), 130),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), 2),
        (RuntimeError("of another kind"), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 75),
        (FileNotFoundError(errno.ENOENT, "No such file"), 1),
    ],
)
def test_exit_codes(error, code):
    assert exit_code_of(error) == code


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk(number):
    with refused(DiskFull, "disk_full", "", "report.json", os.strerror(number)) as error, full_disk("report.json"):
        raise OSError(number, os.strerror(number))
    assert error.value.exit_code == 75


def test_a_full_disk_names_the_file_that_the_system_names():
    with refused(DiskFull, "disk_full", "", "a.png") as error, full_disk("folder"):
        raise OSError(errno.ENOSPC, "No space left on device", "a.png")
    assert "folder" not in str(error.value)


def test_other_errors_of_the_system_are_not_changed():
    with pytest.raises(PermissionError), full_disk("report.json"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_the_manual_explains_every_code():
    manual = (pathlib.Path(__file__).resolve().parent.parent / "docs" / "operations.md").read_text()
    assert re.findall(r"^\| `(\w+)` \| (.+) \|$", manual, re.M)[: len(CODES)] == list(CODES.items())
