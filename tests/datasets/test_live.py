"""LIVE: realigned scores, undistorted copies, and scores that stay with their images."""

import collections
import csv

import numpy as np
import scipy.io
from faulty import faulty
from owners_rows import owners_only
from refused import refused

from jaxiqa.datasets import checks, load
from jaxiqa.errors import DataError


def copy_of(root, tmp_path, skip=()):
    for path in root.iterdir():
        if path.name not in skip:
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


def test_full_size(tree):
    d = load("live", tree("live"))
    dmos = np.array([r.mos for r in d.records])
    assert len(d) == 779 and not d.higher_is_better and d.score_range == (0.0, 100.0)
    assert round(dmos.min(), 3) == -2.640 and round(dmos.max(), 3) == 111.775 and round(dmos.mean(), 2) == 48.58
    count = collections.Counter(r.distortion for r in d.records)
    assert count == {"jp2k": 169, "jpeg": 175, "wn": 145, "gblur": 145, "fastfading": 145}
    references = list(dict.fromkeys(r.reference for r in d.records))
    assert len(references) == 29 and references == sorted(references)
    assert {r.level for r in d.records} == {0}


@owners_only
def test_scores_and_references_stay_with_their_pictures(tree, shared):
    d = load("live", tree("live"))
    with open(shared / "data/labels/icbcbicc_IQA-Dataset/LIVE.txt") as f:
        rows = list(csv.DictReader(f))
    assert {f"LIVE/{r.id}": (r.mos, f"LIVE/refimgs/{r.reference}.bmp", r.distortion) for r in d.records} == {
        row["dis_img_path"]: (float(row["score"]), row["ref_img_path"], row["dis_type"]) for row in rows
    }
    assert all(r.path == str(tree("live") / r.id) for r in d.records)


@owners_only
def test_lower_is_better(tree, shared):
    d = load("live", tree("live"))
    lines = (shared / "data/labels/LIQE/live_all.txt").read_text().splitlines()
    flipped = {name: float(mos) for name, mos, _ in map(str.split, lines)}  # that list is higher-better
    ours = [d.scale.to_score01(r.mos) for r in d.records]
    assert np.corrcoef(ours, [flipped[r.id] for r in d.records])[0, 1] > 0.999


def test_the_scores_before_realignment_are_not_taken(tree, tmp_path):
    root = copy_of(tree("live"), tmp_path, skip=("dmos_realigned.mat",))
    with refused(DataError, "not_found", root / "dmos_realigned.mat", "a link of its own"):
        load("live", root)
    (root / "dmos_realigned.mat").symlink_to(root / "dmos.mat")
    with refused(DataError, "missing", root / "dmos_realigned.mat", "dmos_new", "dmos, orgs"):
        load("live", root)


def test_folder_named_blur(tree, tmp_path):
    root = copy_of(tree("live"), tmp_path, skip=("gblur",))
    (root / "blur").symlink_to(tree("live") / "gblur")
    d = load("live", root)
    assert d.fingerprint == load("live", tree("live")).fingerprint
    assert {r.path.split("/")[-2] for r in d.records if r.distortion == "gblur"} == {"blur"}


def test_partial(tree, tmp_path):
    root = copy_of(tree("live"), tmp_path, skip=("jp2k", "jpeg", "gblur", "wn"))
    d = load("live", root, allow_partial=True)
    assert {r.distortion for r in d.records} == {"fastfading"} and len(d) == 145
    whole = {r.id: r.mos for r in load("live", tree("live")).records}
    assert all(whole[r.id] == r.mos for r in d.records)
    with faulty(root, {checks.MISSING_IMAGES: 634}):
        load("live", root)


def test_bad_labels(tree, tmp_path):
    root = copy_of(tree("live"), tmp_path, skip=("dmos_realigned.mat",))
    good = scipy.io.loadmat(tree("live") / "dmos_realigned.mat")
    bad = {"dmos_new": good["dmos_new"].copy(), "orgs": good["orgs"]}
    entries = np.flatnonzero(good["orgs"][0] == 0)[:2]
    bad["dmos_new"][0, entries] = np.nan, 250.0
    scipy.io.savemat(root / "dmos_realigned.mat", bad)
    expected = {
        checks.NON_FINITE_LABELS: [f"dmos_realigned.mat entry {entries[0] + 1} 'nan'"],
        checks.outside(-10, 120): [f"dmos_realigned.mat entry {entries[1] + 1} 250.0"],
    }
    with faulty(root, expected):
        load("live", root)

    scipy.io.savemat(root / "dmos_realigned.mat", {k: v[:, :779] for k, v in bad.items()})
    with faulty(root, {checks.WRONG_COUNTS: {"779 scores in dmos_realigned.mat instead of 982"}}):
        load("live", root)
