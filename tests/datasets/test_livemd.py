"""LIVE Multiply Distorted: two parts with images of the same names, references that both share."""

import collections
import csv

import numpy as np
import pytest
import scipy.io
from faulty import faulty
from owners_rows import owners_only

from jaxiqa.datasets import checks, load


@owners_only
def test_scores_stay_with_their_pictures(tree, shared):
    d = load("livemd", tree("livemd"))
    with open(shared / "data/labels/icbcbicc_IQA-Dataset/LIVE_MD.txt") as f:
        rows = list(csv.DictReader(f))
    assert {r.id: (r.mos, r.reference) for r in d.records} == {
        "/".join(row["dis_img_path"].split("/")[-2:]): (
            float(row["score"]),
            row["ref_img_path"].split("/")[-1].removesuffix(".bmp"),
        )
        for row in rows
    }
    assert d.listed == ["/".join(row["dis_img_path"].split("/")[-2:]) for row in rows]


def test_types_and_levels(tree):
    d = load("livemd", tree("livemd"))
    assert collections.Counter((r.distortion, r.level) for r in d.records) == {
        **{("blur", level): 30 for level in (1, 2, 3)},
        **{(type_, level): 15 for type_ in ("jpeg", "noise") for level in (1, 2, 3)},
        ("blur_jpeg", 0): 135,
        ("blur_noise", 0): 135,
    }


def test_pictures_of_one_name_have_scores_of_their_own(tree):
    d = load("livemd", tree("livemd"))
    by_id, reference = {r.id: r for r in d.records}, d.records[0].reference
    first, second = by_id[f"blurjpeg/{reference}_blur1.bmp"], by_id[f"blurnoise/{reference}_blur1.bmp"]
    assert first.mos != second.mos and first.reference == second.reference == reference
    assert first.path == str(tree("livemd") / f"Part 1/blurjpeg/{reference}_blur1.bmp")
    assert second.path == str(tree("livemd") / f"Part 2/blurnoise/{reference}_blur1.bmp")


def test_references_are_in_order_and_units_of_both_parts(tree):
    references = [r.reference for r in load("livemd", tree("livemd")).records]
    assert references == sorted(references) and set(collections.Counter(references).values()) == {30}


@pytest.mark.parametrize("spelling", ["Part_{}", "Part{}"])
def test_other_spellings(tree, tmp_path, spelling):
    for number in (1, 2):
        (tmp_path / spelling.format(number)).symlink_to(tree("livemd") / f"Part {number}")
    assert load("livemd", tmp_path).fingerprint == load("livemd", tree("livemd")).fingerprint


def test_bad_labels(tree, tmp_path):
    (tmp_path / "Part 1").symlink_to(tree("livemd") / "Part 1")
    home = tmp_path / "Part 2"
    home.mkdir()
    (home / "blurnoise").symlink_to(tree("livemd") / "Part 2/blurnoise")
    scores = scipy.io.loadmat(tree("livemd") / "Part 2/Scores.mat")["DMOSscores"]
    names = scipy.io.loadmat(tree("livemd") / "Part 2/Imagelists.mat")["distimgs"]
    scores[0, 0], scores[0, 1] = np.nan, 101
    twice = names[5, 0].item()
    names[4, 0], names[6, 0] = np.array(["babygirl_jpeg1.bmp"]), names[5, 0]
    scipy.io.savemat(home / "Scores.mat", {"DMOSscores": scores[:, :224]})
    scipy.io.savemat(home / "Imagelists.mat", {"distimgs": names})
    expected = {
        checks.NON_FINITE_LABELS: ["Part 2/Scores.mat entry 1 'nan'"],
        checks.outside(0, 100): ["Part 2/Scores.mat entry 2 101.0"],
        "blur1_noise1.bmp": ["Part 2/Imagelists.mat entry 5 babygirl_jpeg1.bmp"],
        checks.REPEATED_ROWS: [f"Part 2/Imagelists.mat entry 7 {twice}"],
        checks.WRONG_COUNTS: {"224 scores in Part 2/Scores.mat instead of 225"},
    }
    with faulty(tmp_path, expected):
        load("livemd", tmp_path)
