"""Spread of ratings: read if the owners publish it, converted to the scale of the labels, kept in prepared sets."""

import csv
import dataclasses

import numpy as np
import pytest
import scipy.io
from faulty import faulty
from owners_rows import owners_only
from refused import refused

from jaxiqa.datasets import checks, default_options, load, prepared
from jaxiqa.datasets.readers import koniq10k
from jaxiqa.errors import ConfigError, DataError


def test_koniq10k(tree, labels):
    rows = {row.name: row for row in labels("koniq10k")}
    for official in (True, False):
        dataset = load("koniq10k", tree("koniq10k"), official_split=official)
        assert dataset.categories == koniq10k.CATEGORIES == (-1.41, 26.41, 54.23, 82.05, 109.87)
        for record in dataset.records:
            row = rows[record.id]
            assert record.std == pytest.approx(27.82 * row.std)
            assert record.histogram == pytest.approx([n / sum(row.votes) for n in row.votes], abs=1e-9)


def test_kadid10k(tree, labels):
    stds = {row.name: row.std for row in labels("kadid10k")}
    records = load("kadid10k", tree("kadid10k")).records
    # The table has variances with three decimals.
    np.testing.assert_allclose([r.std**2 for r in records], [stds[r.id] ** 2 for r in records], atol=6e-4)
    assert records[0].histogram == ()


@owners_only
@pytest.mark.parametrize(
    ("column", "power"),
    [("std", 1), ("var", 1), ("std", 2)],  # copies hold deviations or variances under either name
)
def test_kadid10k_copies(tree, tmp_path, column, power):
    source = tree("kadid10k")
    rows = [line.split(",") for line in (source / "dmos.csv").read_text().splitlines()[1:]]
    lines = [f"{name},{ref},{mos},{float(var) ** (power / 2)!r}" for name, ref, mos, var in rows]
    (tmp_path / "dmos.csv").write_text("\n".join([f"dist_img,ref_img,dmos,{column}", *lines]))
    copies, own = (load("kadid10k", folder, labels_only=True).records for folder in (tmp_path, source))
    np.testing.assert_allclose([r.std for r in copies], [r.std for r in own], atol=1e-9)


def copy_of(tree, tmp_path, *folders):
    """A folder with other label files and the same images."""
    for folder in folders:
        (tmp_path / folder).symlink_to(tree / folder)
    return tmp_path


def test_tid2013(tree, labels, tmp_path):
    folder = tree("tid2013")
    stds = {row.name.lower(): float(f"{row.std:.5f}") for row in labels("tid2013")}
    assert {r.id: r.std for r in load("tid2013", folder).records} == stds
    copy = copy_of(folder, tmp_path, "distorted_images", "mos_with_names.txt")
    assert all(r.std is None for r in load("tid2013", copy).records)
    (copy / "mos_std.txt").write_text("0.1\n" * 5)
    with faulty(copy, {checks.WRONG_COUNTS: ["5 lines in mos_std.txt instead of 3,000"]}):
        load("tid2013", copy)


def test_livec(tree, labels, tmp_path):
    folder = tree("livec")
    stds = {row.name: row.std for row in labels("livec")[7:]}
    assert {r.id: r.std for r in load("livec", folder).records} == stds
    (tmp_path / "Data").mkdir()
    copy = copy_of(folder, tmp_path, "Images", "Data/AllImages_release.mat", "Data/AllMOS_release.mat")
    assert all(r.std is None for r in load("livec", copy).records)
    scipy.io.savemat(copy / "Data/AllStdDev_release.mat", {"AllStdDev_release": np.ones((1, 5))})
    with faulty(copy, {checks.WRONG_COUNTS: ["5 deviations in AllStdDev_release.mat instead of 1,169"]}):
        load("livec", copy)


def test_owners_who_give_none(tree):
    for name in ("spaq", "flive"):
        assert all(r.std is None and r.histogram == () for r in load(name, tree(name)).records)


def test_folders_of_real_ratings(shared):
    for name, scale in (("tub_acr", (1, 5)), ("agiqa3k", (0, 5))):
        folder = shared / "data/mos" / name
        with open(folder / "index.csv", newline="") as file:
            stds = [float(row["std"]) for row in csv.DictReader(file)]
        assert [r.std for r in load("folder", folder, score_range=scale, std_column="std").records] == stds
        assert all(r.std is None for r in load("folder", folder, score_range=scale).records)


ROWS = "path,mos,sd,bad,fair,good\na.png,2,0.5,10,20,10\nb.png,4,0,0,0.25,0.75\n"
HISTOGRAM = {"histogram_columns": ("bad", "fair", "good"), "categories": (1, 3, 5)}


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "mine"
    home.mkdir()
    for name in ("a.png", "b.png"):
        (home / name).write_bytes(b"\x89PNG")
    (home / "index.csv").write_text(ROWS)
    return home


def test_a_folder_by_column(folder):
    dataset = load("folder", folder, std_column="sd", **HISTOGRAM)
    assert [(r.std, r.histogram) for r in dataset.records] == [(0.5, (0.25, 0.5, 0.25)), (0.0, (0.0, 0.25, 0.75))]
    assert dataset.categories == (1.0, 3.0, 5.0)
    assert dataset.fingerprint == load("folder", folder).fingerprint  # the labelled set is the same


def test_a_folder_that_does_not_have_them(folder):
    for options in (
        {"histogram_columns": ("bad", "fair")},
        {"categories": (1, 5)},
        {"histogram_columns": ("bad",), "categories": (1,)},
        {"histogram_columns": ("bad", "good"), "categories": (1, 1)},
    ):
        with refused(ConfigError, "conflict", "categories", repr(tuple(options.get("categories", ())))):
            load("folder", folder, **options)
    with refused(DataError, "missing", folder / "index.csv", "'std'"):
        load("folder", folder, std_column="std")
    of_std, of_histogram = ("-0.5,1,1,1", ",1,1,1", "nan,1,1,1", "x,1,1,1"), ("1,0,0,0", "1,-1,1,1", "1,,1,1")
    for kind, wrong in [*(("sd", row) for row in of_std), *(("histogram", row) for row in of_histogram)]:
        (folder / "index.csv").write_text(ROWS + f"a2.png,2,{wrong}\n")
        (folder / "a2.png").touch()
        with faulty(folder, {kind: 1}):
            load("folder", folder, std_column="sd", **HISTOGRAM)


def test_prepared_sets_keep_them(folder):
    for options in ({}, {"std_column": "sd"}, {"std_column": "sd", **HISTOGRAM}):
        dataset = load("folder", folder, **options)
        paths = [r.path for r in dataset.records]
        text = prepared.to_json(dataset, paths, ["a.png", "b.png"])
        again = prepared.from_json(text, "/set")
        assert [dataclasses.replace(r, path="") for r in again.records] == [
            dataclasses.replace(r, path="") for r in dataset.records
        ]
        assert again.categories == dataset.categories
        assert prepared.has_spread(dataset) == bool(options) == ("spread" in text)
    assert {"std_column", "categories"} <= default_options("folder").keys()
