"""TID2013: counts, the mixture of cases in its names, 24 types of their own."""

import collections

import numpy as np
import pytest
from faulty import faulty
from owners_rows import owners_only
from refused import refused

from jaxiqa.datasets import checks, load
from jaxiqa.datasets.readers import tid2013
from jaxiqa.errors import DataError


@owners_only
def test_full_size(tree):
    d = load("tid2013", tree("tid2013"))
    mos = np.array([r.mos for r in d.records])
    assert len(d) == 3000 and d.higher_is_better and d.score_range == (0.0, 9.0)
    assert (mos.min(), mos.max()) == (0.24242, 7.2143) and abs(mos.mean() - 4.475) < 5e-4
    assert list(dict.fromkeys(r.reference for r in d.records)) == [f"I{i:02d}" for i in range(1, 26)]
    assert set(collections.Counter(r.reference for r in d.records).values()) == {120}
    first, last = d.records[0], d.records[-1]
    assert (first.id, first.mos, first.distortion, first.level) == ("i01_01_1.bmp", 5.5143, "gaussian_noise", 1)
    assert (last.id, last.reference, last.distortion, last.level) == ("i25_24_5.bmp", "I25", "sparse_sampling", 5)


def test_every_type_has_a_name_of_its_own(tree):
    count = collections.Counter(r.distortion for r in load("tid2013", tree("tid2013")).records)
    assert len(count) == len(tid2013.DISTORTIONS) == 24 and set(count.values()) == {125}


def test_names_are_compared_without_case(tree):
    by_id = {r.id: r.path.split("/")[-1] for r in load("tid2013", tree("tid2013")).records}
    assert by_id["i01_01_1.bmp"] == "i01_01_1.bmp"  # I01_01_1.bmp in the list
    assert by_id["i03_02_1.bmp"] == "I03_02_1.bmp"  # i03_02_1.bmp in the list
    assert by_id["i07_05_2.bmp"] == "I07_05_2.BMP"
    assert by_id["i25_05_2.bmp"] == "i25_05_2.bmp"


def test_piece(shared):
    d = load("tid2013", shared / "data/official_samples/TID2013", allow_partial=True)
    assert [(r.id, r.mos, r.reference, r.distortion, r.level) for r in d.records] == [
        ("i01_01_5.bmp", 3.86486, "I01", "gaussian_noise", 5),
        ("i03_01_1.bmp", 5.76923, "I03", "gaussian_noise", 1),
        ("i04_03_4.bmp", 3.425, "I04", "spatially_correlated_noise", 4),
        ("i04_08_1.bmp", 6.30952, "I04", "gaussian_blur", 1),
        ("i04_08_2.bmp", 5.92683, "I04", "gaussian_blur", 2),
        ("i04_08_3.bmp", 5.38095, "I04", "gaussian_blur", 3),
        ("i04_08_4.bmp", 4.375, "I04", "gaussian_blur", 4),
    ]


def test_bad_rows(tree, tmp_path):
    (tmp_path / "distorted_images").symlink_to(tree("tid2013") / "distorted_images")
    lines = (tree("tid2013") / "mos_with_names.txt").read_text().splitlines()
    lines[0] = "9.5 i01_01_1.bmp"
    lines[1] = "5.0 i01_25_1.bmp"
    lines[2] = "5.0"
    lines[4] = lines[3].upper()
    (tmp_path / "mos_with_names.txt").write_text("\n".join(lines))
    expected = {
        checks.outside(0, 9): ["mos_with_names.txt:1 9.5"],
        "I25_24_5.bmp": ["mos_with_names.txt:2 i01_25_1.bmp"],
        "2 words": ["mos_with_names.txt:3 has 1"],
        checks.REPEATED_ROWS: ["mos_with_names.txt:5 I01_01_4.BMP"],
        checks.NO_ROWS: ["i01_01_2.bmp", "i01_01_3.bmp", "i01_01_5.bmp"],
    }
    with faulty(tmp_path, expected):
        load("tid2013", tmp_path)


def test_two_files_of_one_name(tree):
    twin = tree("tid2013") / "distorted_images/I01_01_1.bmp"
    twin.touch()
    try:
        images = ["distorted_images/I01_01_1.bmp and distorted_images/i01_01_1.bmp"]
        with faulty(tree("tid2013"), {checks.SAME_NAMES: images}):
            load("tid2013", tree("tid2013"))
    finally:
        twin.unlink()


def write_piece(root, ending, inside="distorted_images"):
    (root / inside).mkdir(parents=True)
    for name in ("i01_01_1", "I01_01_2", "i02_03_4"):
        (root / inside / f"{name}{ending}").touch()
    (root / "mos_with_names.txt").write_text("5.5 I01_01_1.bmp\n5.1 i01_01_2.BMP\n3.2 I02_03_4.bmp\n")
    return root


@pytest.mark.parametrize("ending", [".png", ".TIF"])
def test_images_converted_without_loss(tmp_path, capsys, ending):
    d = load("tid2013", write_piece(tmp_path, ending), allow_partial=True)
    assert [(r.id, r.mos) for r in d.records] == [("i01_01_1.bmp", 5.5), ("i01_01_2.bmp", 5.1), ("i02_03_4.bmp", 3.2)]
    assert d.records[1].path == str(tmp_path / f"distorted_images/I01_01_2{ending}")
    assert f"3 images are {ending.lower()} for .bmp" in capsys.readouterr().out


def test_a_lossy_copy_is_not_the_rated_image(tmp_path):
    places = [f"distorted_images/{have}.jpg for {name}.bmp" for have, name in
              (("i01_01_1", "i01_01_1"), ("I01_01_2", "i01_01_2"), ("i02_03_4", "i02_03_4"))]  # fmt: skip
    with faulty(write_piece(tmp_path, ".jpg"), {checks.LOSSY_COPIES: set(places)}):
        load("tid2013", tmp_path)
    with faulty(tmp_path, {checks.LOSSY_COPIES: 3}):
        load("tid2013", tmp_path, allow_partial=True)


@pytest.mark.parametrize("inside", ["Distorted_Images", "tid2013/distorted_images", "more/Distorted_Images"])
def test_a_folder_in_another_case_or_place(tmp_path, capsys, inside):
    d = load("tid2013", write_piece(tmp_path, ".bmp", inside), allow_partial=True)
    assert d.records[0].path == str(tmp_path / inside / "i01_01_1.bmp")
    assert d.records[2].path == str(tmp_path / inside / "i02_03_4.bmp")
    assert f"{inside} for distorted_images" in capsys.readouterr().out


def test_images_of_another_dataset_in_the_folder_are_not_taken(tmp_path):
    write_piece(tmp_path, ".bmp", "tid2008/distorted_images")
    (tmp_path / "tid2008/mos_with_names.txt").write_text("5.5 I01_01_1.bmp\n")
    with refused(DataError, "not_found", tmp_path / "distorted_images"):
        load("tid2013", tmp_path, allow_partial=True)


def test_no_row_has_an_image(tmp_path):
    write_piece(tmp_path, ".bmp")
    (tmp_path / "mos_with_names.txt").write_text("5.5 I25_01_1.bmp\n")
    with refused(DataError, "empty", tmp_path, "1 rows", "3 images"):
        load("tid2013", tmp_path, allow_partial=True)
