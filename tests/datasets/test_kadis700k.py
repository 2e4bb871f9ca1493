"""KADIS-700k: pristine images without ratings, and the distortions that its table assigns to them."""

import math
import os

import pytest
from faulty import faulty
from refused import refused

from jaxiqa.datasets import checks, load
from jaxiqa.datasets.splits import make_split
from jaxiqa.distortions import DISTORTIONS
from jaxiqa.errors import ConfigError

NAMES = ["19-199047.png", "121-cc-774921.png", "audio-1791927.png"]


@pytest.fixture
def folder(tmp_path):
    lines = ["ref_im,dist_type_1,dist_type_2", f"{NAMES[0]},3,10", f"{NAMES[1]},25,1", f"{NAMES[2]},15,8"]
    (tmp_path / "kadis700k_ref_imgs.csv").write_text("\n".join(lines))
    (tmp_path / "ref_imgs").mkdir()
    for name in NAMES:
        (tmp_path / "ref_imgs" / name).touch()
    return tmp_path


def test_pristine_pictures(folder):
    d = load("kadis700k", folder, allow_partial=True)
    assert [r.id for r in d.records] == NAMES
    assert [r.path for r in d.records] == [str(folder / "ref_imgs" / name) for name in NAMES]
    assert {(r.reference, r.distortion, r.level, r.apply) for r in d.records} == {("", "", 0, None)}
    assert all(math.isnan(r.mos) for r in d.records) and not d.rated
    assert d.fingerprint == load("kadis", folder, allow_partial=True).fingerprint


def test_distortions_of_the_table(folder):
    d = load("kadis700k", folder, distorted=True, allow_partial=True)
    assert len(d) == 15 and len({r.id for r in d.records}) == 15 and not d.rated
    r = d.records[6]
    assert (r.id, r.path) == ("121-cc-774921_25_02.bmp", str(folder / "ref_imgs/121-cc-774921.png"))
    assert (r.reference, r.distortion, r.level, r.apply) == ("121-cc-774921", "contrast_change", 2, (25, 2))
    names = {d.id: d.name for d in DISTORTIONS}
    assert all(names.get(r.apply[0], r.distortion) == r.distortion for r in d.records)


@pytest.mark.parametrize("distorted", [False, True])
def test_it_cannot_be_trained_on_or_tested_with(folder, distorted):
    d = load("kadis700k", folder, distorted=distorted, allow_partial=True)
    for selection in ("val", "legacy"):
        with refused(ConfigError, "value", "kadis700k", "no opinion scores"):
            make_split(d, selection=selection)


def test_a_folder_that_is_not_whole(folder):
    (folder / "ref_imgs" / NAMES[0]).rename(folder / "ref_imgs/stranger.png")
    expected = {
        checks.MISSING_IMAGES: 1,
        checks.EXTRA_IMAGES: 1,
        checks.WRONG_COUNTS: ["3 rows instead of 140,000"],
    }
    with faulty(folder, expected):
        load("kadis700k", folder)
    assert [r.id for r in load("kadis700k", folder, allow_partial=True).records] == NAMES[1:]


def test_bad_rows(folder):
    lines = ["ref_im,dist_type_1,dist_type_2", f"{NAMES[0]},3,26", f"{NAMES[1]},jpeg,1", f"{NAMES[0]},3,10"]
    (folder / "kadis700k_ref_imgs.csv").write_text("\n".join(lines))
    expected = {
        "1..25": ["kadis700k_ref_imgs.csv:2 dist_type_2 '26'", "kadis700k_ref_imgs.csv:3 dist_type_1 'jpeg'"],
        checks.REPEATED_ROWS: [f"kadis700k_ref_imgs.csv:4 {NAMES[0]}"],
    }
    with faulty(folder, expected):
        load("kadis700k", folder, allow_partial=True)


@pytest.mark.slow
def test_full_size(tmp_path, monkeypatch):
    names = [f"{i:06d}.png" for i in range(140_000)]
    (tmp_path / "ref_imgs").mkdir()
    rows = [f"{name},{1 + i % 25},{1 + i % 24}" for i, name in enumerate(names)]
    (tmp_path / "kadis700k_ref_imgs.csv").write_text("\n".join(["ref_im,dist_type_1,dist_type_2", *rows]))
    listdir = os.listdir  # no image is opened, and so many files take a minute
    monkeypatch.setattr(os, "listdir", lambda path: names if "ref_imgs" in str(path) else listdir(path))
    assert [r.id for r in load("kadis700k", tmp_path).records] == names
    assert len(load("kadis700k", tmp_path, distorted=True)) == 700_000
