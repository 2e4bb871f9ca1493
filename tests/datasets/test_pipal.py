"""PIPAL: a label file per reference, groups and items in the names, Elo scores."""

import collections

from faulty import faulty
from owners_rows import owners_only

from jaxiqa.datasets import checks, load


@owners_only
def test_full_size(tree):
    d = load("pipal", tree("pipal"))
    first, last = d.records[0], d.records[-1]
    assert (first.id, first.mos, first.reference) == ("A0001_00_00.bmp", 1520.0648, "A0001")
    assert (last.id, last.mos, last.reference, last.distortion) == ("A0248_06_26.bmp", 1257.06, "A0248", "group_06")
    assert first.path == str(tree("pipal") / "Distortion_1/A0001_00_00.bmp")
    assert set(collections.Counter(r.reference for r in d.records).values()) == {116}
    groups = collections.Counter(r.distortion for r in d.records if r.reference == "A0024")
    assert list(groups.items()) == [(f"group_0{i}", n) for i, n in enumerate((12, 16, 10, 24, 13, 14, 27))]
    assert d.scale.to_score01(900) == 0 and d.scale.to_score01(1850) == 1


def test_pictures_in_one_folder(tree, tmp_path):
    (tmp_path / "Train_Label").symlink_to(tree("pipal") / "Train_Label")
    (tmp_path / "Dist_Imgs").mkdir()
    for r in load("pipal", tree("pipal")).records[:232]:
        (tmp_path / "Dist_Imgs" / r.id).touch()
    assert len(load("pipal", tmp_path, allow_partial=True)) == 232
    with faulty(tmp_path, {checks.MISSING_IMAGES: 22_968}):
        load("pipal", tmp_path)


def test_bad_rows(tmp_path):
    (tmp_path / "Train_Label").mkdir()
    (tmp_path / "Distortion_1").mkdir()
    lines = ["A0001_00_00.bmp,1520.0648", "A0001_00_12.bmp,1500", "A0002_00_01.bmp,1500", "A0001_00_02.bmp 1500"]
    lines += ["A0001_00_03.bmp,15.2", "A0001_00_00.bmp,1520.0648"]
    (tmp_path / "Train_Label/A0001.txt").write_text("\n".join(lines))
    expected = {
        "in A0001.txt": ["A0001.txt:2 A0001_00_12.bmp", "A0001.txt:3 A0002_00_01.bmp"],
        "2 words": ["A0001.txt:4 has 1"],
        checks.outside(900, 1850): ["A0001.txt:5 15.2"],
        checks.REPEATED_ROWS: ["A0001.txt:6 A0001_00_00.bmp"],
        checks.NO_ROWS: 114,
        checks.MISSING_IMAGES: 116,
        checks.WRONG_COUNTS: ["1 references instead of 200"],
    }
    with faulty(tmp_path, expected):
        load("pipal", tmp_path)
