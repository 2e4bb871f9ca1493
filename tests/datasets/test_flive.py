"""FLIVE: three folders, an official split in two files, and three images in no part of it."""

import collections

import pytest
from faulty import faulty
from owners_rows import owners_only
from refused import refused

from jaxiqa.datasets import checks, load
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import DataError

TABLES = ("labels_image.csv", "labels640.csv", "labels=640_padded.csv")


def copy_of(root, tmp_path, *tables):
    (tmp_path / "database").symlink_to(root / "database")
    for table in tables:
        (tmp_path / table).write_text((root / table).read_text())
    return tmp_path


@owners_only
def test_full_size(tree):
    d = load("flive", tree("flive"))
    folders = collections.Counter(r.id.split("/")[0] for r in d.records)
    assert folders == {"voc_emotic_ava": 38_808, "blur_dataset": 999, "EE371R": 3}
    first = d.records[0]
    assert (first.id, first.mos) == ("blur_dataset/motion0044.jpg", 75.44372347614072)
    assert first.path == str(tree("flive") / "database/blur_dataset/motion0044.jpg")
    assert {part: len(members) for part, members in d.official_split.items()} == {
        "train": 30_253,
        "val": 7_727,
        "test": 1_827,
    }


def test_the_three_of_ee371r_are_rated_but_in_no_part(tree, labels):
    d = load("flive", tree("flive"))
    s = make_split(d)
    assert (len(s.train), len(s.val), len(s.test), s.name) == (30_253, 7_727, 1_827, "official")
    left_out = [d.records[i] for i in sorted(set(range(len(d))) - {*s.train, *s.val, *s.test})]
    assert len(left_out) == 3
    assert {r.id: r.mos for r in left_out} == {
        row.name: row.mos for row in labels("flive") if row.name.startswith("EE371R/")
    }
    legacy = make_split(d, selection="legacy")
    assert (len(legacy.train), legacy.test) == (30_253 + 7_727, s.test)


@pytest.mark.slow
def test_random_splits_need_the_labels_only(tree, tmp_path):
    root = copy_of(tree("flive"), tmp_path, "labels_image.csv")
    with refused(DataError, "not_found", root / "labels=640_padded.csv", "official_split=False"):
        load("flive", root)
    d = load("flive", root, official_split=False)
    assert d.official_split is None and len(make_split(d, selection="legacy").train) == 31_848


@pytest.mark.slow
def test_folders_without_database(tree, tmp_path):
    for table in TABLES:
        (tmp_path / table).symlink_to(tree("flive") / table)
    for source in (tree("flive") / "database").iterdir():
        (tmp_path / source.name).symlink_to(source)
    assert load("flive", tmp_path).fingerprint == load("flive", tree("flive")).fingerprint


@pytest.mark.slow
def test_missing_pictures_are_refused_and_others_left_alone(tree, labels):
    lost = tree("flive") / "database" / labels("flive")[0].name
    lost.rename(lost.with_name("not_rated.jpg"))
    try:
        with faulty(tree("flive"), {checks.MISSING_IMAGES: [f"blur_dataset/{lost.name}"]}) as error:
            load("flive", tree("flive"))
        assert len(error.value.faults) == 1
        d = load("flive", tree("flive"), allow_partial=True)
        assert len(d) == 39_809 and {len(m) for m in d.official_split.values()} == {30_253, 7_727, 1_826}
    finally:
        lost.with_name("not_rated.jpg").rename(lost)


def test_piece(shared):
    d = load("flive", shared / "data/official_samples/FLIVE", official_split=False, allow_partial=True)
    assert {r.id: r.mos for r in d.records} == {
        "EE371R/rq59.jpg": 65.92692771874236,
        "EE371R/rq73.jpg": 75.05831225626429,
        "EE371R/rq85.jpg": 59.92469846969346,
    }
    folder = shared / "data/official_samples/FLIVE"
    with faulty(folder, {checks.WRONG_COUNTS: {"0 rows of voc_emotic_ava instead of 38,808"}}):
        load("flive", folder, official_split=False)


def test_a_split_that_does_not_fit(tree, tmp_path):
    root = copy_of(tree("flive"), tmp_path, *TABLES)
    tested = (root / "labels640.csv").read_text().splitlines()
    rest = (root / "labels=640_padded.csv").read_text().splitlines()
    rest[1] = rest[1].replace("True", "maybe")
    rest[2] = tested[1] + ",False"
    rest[3] = "voc_emotic_ava/nothing.jpg,50,False"
    (root / "labels=640_padded.csv").write_text("\n".join(rest))
    expected = {
        "is_valid": ["labels=640_padded.csv:2 'maybe'"],
        "labels_image.csv": ["labels=640_padded.csv:4 voc_emotic_ava/nothing.jpg"],
        "twice": [f"labels640.csv:2 {tested[1].split(',')[0]}"],
        checks.WRONG_COUNTS: {"7,724 rows of part val instead of 7,727"},
    }
    with faulty(root, expected):
        load("flive", root)
