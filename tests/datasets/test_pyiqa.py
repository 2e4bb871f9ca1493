"""Tables of pyiqa: read by headings and by position, with a scale that has to be given, and their split columns."""

import pytest
from faulty import faulty
from refused import refused

from jaxiqa.datasets import checks, load
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import ConfigError, DataError

SCALE = dict(score_range=(0, 100), higher_is_better=True)
ROWS = [("1.jpg", "3.5"), ("2.JPG", "4.25"), ("sub/3.png", "60"), ("4.jpg", "99"), ("5.jpg", "7"), ("6.jpg", "8")]


@pytest.fixture
def write(tmp_path):
    """write(header, rows, name) writes a table; every name of ROWS is an image in images/."""
    for name, _ in ROWS:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def table(header, rows, name="meta_info_XDataset.csv"):
        (tmp_path / name).write_text("\n".join([header, *(",".join(row) for row in rows)]))
        return tmp_path

    return table


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("img_name,mos", "{name},{mos}"),
        ("img_name/patch_name,mos,split", "{name},{mos},0"),
        ("img_path,score,official_split", "{name},{mos},train"),
        ("Image name,MOS,Brightness", "{name},{mos},50"),
        ("std,img_name,c1,mos", "0.5,{name},7,{mos}"),  # headings come before positions
        ("a,b,c", "{name},{mos},3"),
        ("a,b", "{name},{mos}"),
    ],
)
def test_pictures_and_labels(write, header, row):
    root = write(header, [[row.format(name=name, mos=mos)] for name, mos in ROWS])
    d = load("pyiqa", root, images="images", **SCALE)
    assert [(r.id, r.mos, r.reference) for r in d.records] == [(name, float(mos), "") for name, mos in ROWS]
    assert [r.path for r in d.records] == [str(root / "images" / name) for name, _ in ROWS]
    assert (d.name, d.score_range, d.higher_is_better, d.official_split) == ("pyiqa", (0, 100), True, None)


@pytest.mark.parametrize("header", ["ref_name,dist_name,dmos", "hq_name,dist_name,elo_score", "x,y,z"])
def test_references(write, header):
    root = write(header, [(f"refimgs/I{i // 2:02d}.BMP", name, mos, "0.1") for i, (name, mos) in enumerate(ROWS)])
    (root / "meta_info_XDataset.csv").write_text(
        (root / "meta_info_XDataset.csv").read_text().replace(header, header + ",std")
    )
    d = load("pyiqa", root, images="images", score_range=(0, 100), higher_is_better=False)
    assert [r.reference for r in d.records] == ["I00", "I00", "I01", "I01", "I02", "I02"]
    assert [r.mos for r in d.records] == [float(mos) for _, mos in ROWS] and not d.higher_is_better
    assert make_split(d).name == "80/20 by reference"


def test_the_scale_has_to_be_given(write):
    root = write("img_name,mos", ROWS)
    for options in ({}, {"score_range": (0, 100)}, {"higher_is_better": True}):
        with refused(ConfigError, "missing", "score_range", "meta_info_XDataset.csv", "higher_is_better"):
            load("pyiqa", root, images="images", **options)
    with refused(ConfigError, "value", "score_range", "pyiqa", "(1, 1)"):
        load("pyiqa", root, images="images", score_range=(1, 1), higher_is_better=True)


def test_several_tables(write):
    root = write("img_name,mos", ROWS)
    write("img_name,mos", ROWS[:3], "meta_info_YDataset.csv")
    with refused(ConfigError, "missing", "csv", "meta_info_XDataset.csv, meta_info_YDataset.csv"):
        load("pyiqa", root, images="images", **SCALE)
    assert len(load("pyiqa", root, csv="meta_info_YDataset.csv", images="images", **SCALE)) == 3


def test_split_columns(write):
    parts = ["train", "val", "train", "test", "training", "validation"]
    rows = [(*row, part, "01"[i % 2]) for i, (row, part) in enumerate(zip(ROWS, parts, strict=True))]
    root = write("img_name,mos,official_split,ratio802_seed123_split_01", rows)
    d = load("pyiqa", root, images="images", split_column="official_split", **SCALE)
    assert d.official_split == {"train": [0, 2, 4], "val": [1, 5], "test": [3]}
    s = make_split(d)
    assert (s.train, s.val, s.test, s.name) == ([0, 2, 4], [1, 5], [3], "official")

    two = load("pyiqa", root, images="images", split_column="ratio802_seed123_split_01", **SCALE)
    assert two.official_split == {"train": [0, 2, 4], "val": [1, 3, 5], "test": []}
    honest, legacy = make_split(two), make_split(two, selection="legacy")
    assert honest.test == legacy.test == legacy.val == [1, 3, 5] and legacy.train == [0, 2, 4]
    assert len(honest.val) == 1 and sorted(honest.train + honest.val) == [0, 2, 4]
    with refused(ConfigError, "unknown", "split_column", "'mos'", "official_split, ratio802_seed123_split_01"):
        load("pyiqa", root, images="images", split_column="mos", **SCALE)


def test_the_practice_pictures_of_live_challenge_are_left_out(write):
    practice = [(f"t{i}.bmp", "50", "train") for i in range(1, 8)]
    root = write(
        "img_name,mos,official_split", [*practice, *((*row, "train") for row in ROWS[:-1]), (*ROWS[-1], "test")]
    )
    d = load("pyiqa", root, images="images", split_column="official_split", **SCALE)
    assert [r.id for r in d.records] == [name for name, _ in ROWS]
    assert d.official_split == {"train": [0, 1, 2, 3, 4], "val": [], "test": [5]}


def test_bad_rows(write):
    rows = [("1.jpg", "101", "train"), ("../2.JPG", "5", "train"), ("0.jpg", "x", "none"), ("4.jpg", "5", "test")]
    root = write("img_name,mos,split", [*rows, rows[-1]])
    expected = {
        checks.outside(0, 100): ["meta_info_XDataset.csv:2 101"],
        "leave the folder": ["meta_info_XDataset.csv:3 '../2.JPG'"],
        checks.NO_NUMBERS: ["meta_info_XDataset.csv:4 'x'"],
        checks.MISSING_IMAGES: ["meta_info_XDataset.csv:4 0.jpg"],
        checks.REPEATED_ROWS: ["meta_info_XDataset.csv:6 4.jpg (as meta_info_XDataset.csv:5)"],
        "train, val or test": ["meta_info_XDataset.csv:4 'none'"],
    }
    with faulty(root, expected):
        load("pyiqa", root, images="images", split_column="split", **SCALE)
    write("img_name", [["1.jpg"]])
    with refused(DataError, "format", root / "meta_info_XDataset.csv", "one column"):
        load("pyiqa", root, images="images", **SCALE)
