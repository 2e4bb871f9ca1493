"""LIVE Challenge: the seven training images, and scores that stay with their images."""

import collections

import numpy as np
import scipy.io
from faulty import faulty
from owners_rows import owners_only
from refused import refused

from jaxiqa.datasets import checks, load
from jaxiqa.errors import DataError

TRAINING = [f"t{i}.bmp" for i in range(1, 8)]


def test_full_size(tree):
    d = load("livec", tree("livec"))
    mos = np.array([r.mos for r in d.records])
    assert len(d) == 1162 and d.higher_is_better and d.score_range == (0.0, 100.0)
    assert round(mos.min(), 2) == 3.42 and round(mos.max(), 2) == 92.43 and round(mos.mean(), 2) == 55.40
    assert collections.Counter(r.id.split(".")[1] for r in d.records) == {"JPG": 627, "bmp": 535}
    assert {(r.reference, r.distortion, r.level) for r in d.records} == {("", "", 0)}


@owners_only
def test_training_pictures_are_left_out_and_scores_stay_with_their_pictures(tree, shared):
    d = load("livec", tree("livec"))
    assert not {r.id for r in d.records} & set(TRAINING)
    lines = (shared / "data/labels/LIQE/clive_all.txt").read_text().splitlines()
    assert {f"Images/{r.id}": r.mos for r in d.records} == {n: float(m) for n, m, _ in map(str.split, lines)}


def test_training_pictures_among_the_others_are_no_extra_pictures(tree):
    copy = tree("livec") / "Images/t3.bmp"
    copy.touch()
    try:
        assert len(load("livec", tree("livec"))) == 1162
    finally:
        copy.unlink()


def test_piece(shared, tmp_path, livec_labels):
    folder = shared / "data/official_samples/LIVEC"
    rows = [line.split(",") for line in (folder / "mos.csv").read_text().split()[1:]]
    names, scores = [r[0] for r in rows], [float(r[1]) for r in rows]
    (tmp_path / "Images").symlink_to(folder / "Images")
    livec_labels(tmp_path, [*TRAINING, *names, "none.bmp"], [1.0] * 7 + [*scores, 2.0])
    d = load("livec", tmp_path, allow_partial=True)
    assert {r.id: r.mos for r in d.records} == {"1000.JPG": 56.5122, "188.bmp": 28.9595} | {
        "190.bmp": 31.7295,
        "60.bmp": 74.1833,
    }
    with faulty(tmp_path, {checks.MISSING_IMAGES: ["none.bmp"], checks.WRONG_COUNTS: ["5 rows instead of 1,162"]}):
        load("livec", tmp_path)


def test_bad_labels(tree, tmp_path, livec_labels):
    (tmp_path / "Images").symlink_to(tree("livec") / "Images")
    names = [*TRAINING, "a.bmp", "b.bmp", "b.bmp"]
    livec_labels(tmp_path, names, [50.0] * 7 + [float("nan"), 101.0, 3.0])
    expected = {
        checks.NON_FINITE_LABELS: ["AllMOS_release.mat entry 8 'nan'"],
        checks.outside(0, 100): ["AllMOS_release.mat entry 9 101.0"],
        checks.REPEATED_ROWS: ["AllImages_release.mat entry 10 b.bmp"],
        checks.MISSING_IMAGES: ["a.bmp", "b.bmp"],
        checks.EXTRA_IMAGES: 1162,
    }
    with faulty(tmp_path, expected):
        load("livec", tmp_path)


def test_label_files_that_do_not_belong_together(tree, tmp_path, livec_labels):
    (tmp_path / "Images").symlink_to(tree("livec") / "Images")
    livec_labels(tmp_path, ["100.bmp", "101.bmp"], [50.0])
    expected = {
        checks.WRONG_COUNTS: {"1 scores in AllMOS_release.mat instead of 2"},
        "t1.bmp to t7.bmp": ["AllImages_release.mat begins with 100.bmp"],
    }
    with faulty(tmp_path, expected):
        load("livec", tmp_path)


def test_matlab_files_that_cannot_be_read(tree, tmp_path, livec_labels):
    (tmp_path / "Images").symlink_to(tree("livec") / "Images")
    livec_labels(tmp_path, TRAINING, [1.0] * 7)
    file = tmp_path / "Data/AllMOS_release.mat"
    scipy.io.savemat(file, {"MOS": [1.0]})
    with refused(DataError, "missing", file, "AllMOS_release", "MOS"):
        load("livec", tmp_path)
    for content in (b"", b"<html>not found</html>" * 20, (tmp_path / "Data/AllImages_release.mat").read_bytes()[:300]):
        file.write_bytes(content)
        with refused(DataError, "format", file):
            load("livec", tmp_path)
    file.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n")
    with refused(DataError, "format", file, "7.3"):
        load("livec", tmp_path)
