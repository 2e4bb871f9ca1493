"""SPAQ: scores from a workbook whose sheet has no known name."""

from faulty import faulty
from owners_rows import owners_only
from refused import refused

from jaxiqa.datasets import checks, load
from jaxiqa.errors import DataError

TABLE = "MOS and Image attribute scores.xlsx"
HEADER = ["Image name", "MOS", "Brightness"]


@owners_only
def test_full_size(tree):
    d = load("spaq", tree("spaq"))
    first, last = d.records[0], d.records[-1]
    assert (first.id, first.mos, first.reference) == ("00001.jpg", 48.86, "")
    assert (last.id, last.mos, last.path) == ("11125.jpg", 10.8, str(tree("spaq") / "TestImage/11125.jpg"))


def test_the_table_may_lie_beside_the_pictures(tree, tmp_path):
    (tmp_path / "TestImage").symlink_to(tree("spaq") / "TestImage")
    (tmp_path / TABLE).symlink_to(tree("spaq") / "Annotations" / TABLE)
    assert load("spaq", tmp_path).fingerprint == load("spaq", tree("spaq")).fingerprint


def test_bad_rows(tmp_path, workbook):
    (tmp_path / "TestImage").mkdir()
    for i in range(1, 5):
        (tmp_path / f"TestImage/0000{i}.jpg").touch()
    rows = [["00001.jpg", 101, 3], ["00002.jpg", "", 3], ["00003.jpg", 50.5, 3], ["00003.jpg", 50.5, 3], ["", "", 7]]
    workbook(tmp_path / TABLE, {"any": [HEADER, *rows]})
    expected = {
        checks.outside(0, 100): [f"{TABLE}:2 101"],
        checks.EMPTY_LABELS: [f"{TABLE}:3"],
        checks.REPEATED_ROWS: [f"{TABLE}:5 00003.jpg"],
        checks.EXTRA_IMAGES: ["TestImage/00004.jpg"],
        checks.WRONG_COUNTS: ["3 rows instead of 11,125"],
    }
    with faulty(tmp_path, expected):
        load("spaq", tmp_path)


def test_the_table_of_something_else(tmp_path, workbook):
    (tmp_path / "TestImage").mkdir()
    workbook(tmp_path / TABLE, {"any": [["Image name", "Animal", "Cityscape"]]})
    with refused(DataError, "missing", tmp_path / TABLE, "first sheet", "Image name, MOS"):
        load("spaq", tmp_path)
