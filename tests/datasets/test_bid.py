"""BID: a workbook read by position, numbers with gaps, and the old format that is refused."""

import pytest
from faulty import faulty
from owners_rows import owners_only
from refused import refused

from jaxiqa.datasets import checks, load
from jaxiqa.errors import DataError


@owners_only
def test_full_size(tree):
    d = load("bid", tree("bid"))
    by_id = {r.id: r.mos for r in d.records}
    assert by_id["DatabaseImage0005.JPG"] == pytest.approx(4.200862, abs=1e-6)
    assert by_id["DatabaseImage0196.JPG"] == pytest.approx(0.796254, abs=1e-6)
    numbers = {int(name[13:17]) for name in by_id}
    assert set(range(1, 591)) - numbers == {2, 346, 413, 439}
    assert d.records[0].path == str(tree("bid") / "ImageDatabase/DatabaseImage0001.JPG")


def test_pictures_beside_the_workbook(tree, tmp_path):
    (tmp_path / "DatabaseGrades.xlsx").symlink_to(tree("bid") / "DatabaseGrades.xlsx")
    for r in load("bid", tree("bid")).records:
        (tmp_path / r.id).touch()
    assert load("bid", tmp_path).fingerprint == load("bid", tree("bid")).fingerprint


def test_the_old_format_is_refused_with_what_to_do(tree, tmp_path):
    (tmp_path / "ImageDatabase").symlink_to(tree("bid") / "ImageDatabase")
    (tmp_path / "DatabaseGrades.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    with refused(DataError, "format", tmp_path / "DatabaseGrades.xls", "DatabaseGrades.xlsx"):
        load("bid", tmp_path)
    (tmp_path / "DatabaseGrades.xls").rename(tmp_path / "DatabaseGrades.xlsx")
    with refused(DataError, "format", tmp_path / "DatabaseGrades.xlsx"):
        load("bid", tmp_path)


def test_bad_rows(tree, tmp_path, workbook):
    (tmp_path / "ImageDatabase").symlink_to(tree("bid") / "ImageDatabase")
    rows = [["Image Number", "Average Subjective Grade"], [1, 5.5], ["two", 3], [4.0, 3], [4, 3], ["", ""], ["", 2]]
    workbook(tmp_path / "DatabaseGrades.xlsx", {"Plan1": rows})
    expected = {
        checks.outside(0, 5): ["DatabaseGrades.xlsx:2 5.5"],
        checks.incomplete_rows("the number of an image"): ["DatabaseGrades.xlsx:3 'two'", "DatabaseGrades.xlsx:7 ''"],
        checks.REPEATED_ROWS: ["DatabaseGrades.xlsx:5 DatabaseImage0004.JPG"],
        checks.EXTRA_IMAGES: 584,
        checks.WRONG_COUNTS: ["2 rows instead of 586"],
    }
    with faulty(tmp_path, expected):
        load("bid", tmp_path)
