"""CID2013: realigned scores, scenes that several cameras took, and what splits keep together."""

import collections

import pytest
from faulty import faulty
from owners_rows import owners_only
from refused import refused

from jaxiqa.datasets import checks, load
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import ConfigError, DataError

TABLE = "CID2013 data - version 12112014.xlsx"


@owners_only
def test_full_size(tree):
    d = load("cid2013", tree("cid2013"))
    first = d.records[0]
    assert (first.id, first.mos, first.reference) == ("IS_I_C01_D01.jpg", 3.34364303351907, "IS_I_C01")
    assert first.path == str(tree("cid2013") / "IS1/co1/IS_I_C01_D01.jpg")
    scenes = collections.Counter(r.reference for r in d.records)
    assert set(scenes.values()) == {12, 13, 14}
    assert d.scale.to_score01(d.records[0].mos) == pytest.approx(0.0334364)


def test_what_splits_keep_together(tree):
    sets = load("cid2013", tree("cid2013"), unit="image_set")
    count = collections.Counter(r.reference for r in sets.records)
    assert count == {"IS_I": 84, "IS_II": 78, "IS_III": 78, "IS_IV": 78, "IS_V": 72, "IS_VI": 84}
    s = make_split(sets)
    assert [len({sets.records[i].reference for i in p}) for p in (s.train, s.val, s.test)] == [4, 1, 1]
    pictures = load("cid2013", tree("cid2013"), unit="picture")
    s = make_split(pictures, selection="legacy")
    assert (len(s.train), len(s.test), s.name) == (379, 95, "80/20 by image")
    assert len({load("cid2013", tree("cid2013")).fingerprint, sets.fingerprint, pictures.fingerprint}) == 1
    with refused(ConfigError, "value", "unit", "scene", "image_set", "picture", "'camera'"):
        load("cid2013", tree("cid2013"), unit="camera")


def test_bad_rows(tree, tmp_path, workbook):
    for folder in tree("cid2013").glob("IS*"):
        (tmp_path / folder.name).symlink_to(folder)
    rows = [["Source_ID", "Realigned MOS"], ["IS_I_C01_D01", -10.5], ["IS_VII_C01_D01", 3], ["IS_I_C01_D02", 3]]
    workbook(tmp_path / TABLE, {"CID2013 MOS": [*rows, rows[-1]]})
    expected = {
        checks.outside(-10, 100): [f"{TABLE}:2 -10.5"],
        "IS_I_C01_D01": [f"{TABLE}:3 'IS_VII_C01_D01'"],
        checks.REPEATED_ROWS: [f"{TABLE}:5 IS_I_C01_D02.jpg"],
        checks.EXTRA_IMAGES: 472,
        checks.WRONG_COUNTS: ["2 rows instead of 474"],
    }
    with faulty(tmp_path, expected):
        load("cid2013", tmp_path)
    workbook(tmp_path / TABLE, {"About": rows})
    with refused(DataError, "not_found", tmp_path / TABLE, "'CID2013 MOS'", "About"):
        load("cid2013", tmp_path)
