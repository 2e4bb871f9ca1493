"""KonIQ-10k: the z-score as label, the official split, and the file that has another scale under the same name."""

import csv

import numpy as np
from faulty import faulty
from owners_rows import owners_only
from refused import refused

from jaxiqa.datasets import checks, load
from jaxiqa.datasets.readers import koniq10k
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import DataError

SETS, SCORES = "koniq10k_distributions_sets.csv", "koniq10k_scores_and_distributions.csv"


def copy_of(root, tmp_path, *files):
    (tmp_path / "512x384").symlink_to(root / "512x384")
    for file in files:
        (tmp_path / file).write_text((root / file).read_text())
    return tmp_path


@owners_only
def test_full_size(tree):
    d = load("KonIQ-10k", tree("koniq10k"))
    mos = np.array([r.mos for r in d.records])
    assert len(d) == 10_073 and d.higher_is_better and d.score_range == (0.0, 100.0)
    assert abs(mos.min() - 3.912) < 5e-4 and abs(mos.max() - 88.389) < 5e-4 and abs(mos.mean() - 58.73) < 5e-3
    first = d.records[0]
    assert (first.id, first.mos, first.reference, first.level) == ("10004473376.jpg", 77.3836206897, "", 0)
    assert {part: len(indices) for part, indices in d.official_split.items()} == {
        "train": 7058,
        "val": 1000,
        "test": 2015,
    }


def test_splits(tree):
    root = tree("koniq10k")
    official = make_split(load("koniq10k", root), selection="legacy")
    assert (len(official.train), len(official.test), official.name) == (8058, 2015, "official")
    with open(root / SETS) as f:
        tested = {row["image_name"] for row in csv.DictReader(f) if row["set"] == "test"}
    d = load("koniq10k", root, official_split=False)
    assert {d.records[i].id for i in official.test} == tested
    drawn = make_split(d, round=2, selection="legacy")
    assert (len(drawn.train), len(drawn.test), drawn.name) == (8058, 2015, "80/20 by image")


def test_the_other_file_has_the_same_labels_in_another_column(tree, tmp_path):
    root = copy_of(tree("koniq10k"), tmp_path, SCORES)
    with refused(DataError, "not_found", root / SETS, SCORES, "--config.dataset.official_split=False"):
        load("koniq10k", root)
    d = load("koniq10k", root, official_split=False)
    assert d.fingerprint == load("koniq10k", tree("koniq10k")).fingerprint


def test_labels_of_the_1_to_5_scale_are_refused(tree, tmp_path):
    root = copy_of(tree("koniq10k"), tmp_path, SETS, SCORES)
    with open(root / SCORES) as f:
        mos = {row["image_name"]: row["MOS"] for row in csv.DictReader(f)}
    with open(root / SETS) as f:
        rows = list(csv.DictReader(f))
    lines = [f"{r['image_name']},{mos[r['image_name']]},{r['set']}" for r in rows]
    (root / SETS).write_text("\n".join(["image_name,MOS,set", *lines]))
    with faulty(root, {koniq10k._OTHER_SCALE: [SETS]}):
        load("koniq10k", root)


def test_the_choice_of_resolution(shared):
    folder = shared / "data/official_samples/KonIQ-10k"
    small, large = (load("koniq10k", folder, images=i, allow_partial=True) for i in ("512x384", "1024x768"))
    assert {r.id: r.mos for r in small.records} == {
        "233045618.jpg": 40.8634453782,
        "25239707.jpg": 84.2756410256,
        "44009500.jpg": 5.5,
        "5129172.jpg": 18.5399159664,
        "85119046.jpg": 35.03125,
    }
    assert small.official_split == {"train": [0, 1], "val": [], "test": [2, 3, 4]}
    assert [r.path for r in large.records] == [
        str(folder / "1024x768" / n) for n in ("10004473376.jpg", "6898804586.jpg")
    ]
    expected = {
        checks.MISSING_IMAGES: 2,
        checks.WRONG_COUNTS: {"7 rows instead of 10,073", "4 rows of part train instead of 7,058"},
    }
    with faulty(folder, expected):
        load("koniq10k", folder)
    with refused(DataError, "not_found", folder / "640x480", "--config.dataset.images=512x384"):
        load("koniq10k", folder, images="640x480")


def test_bad_rows(tree, tmp_path):
    root = copy_of(tree("koniq10k"), tmp_path, SETS)
    lines = (root / SETS).read_text().splitlines()
    lines[1] = lines[1].replace("training", "trainig")
    cells = lines[2].split(",")
    lines[2] = ",".join([*cells[:7], "168.7", *cells[8:]])
    lines[5] = lines[4]
    (root / SETS).write_text("\n".join(lines))
    name = lines[5].split(",")[0]
    expected = {
        "training, validation, test": [f"{SETS}:2 'trainig'"],
        checks.outside(0, 100): [f"{SETS}:3 168.7"],
        checks.REPEATED_ROWS: [f"{SETS}:6 {name}"],
        checks.EXTRA_IMAGES: 1,
        checks.WRONG_COUNTS: {"10,072 rows instead of 10,073"},
    }
    with faulty(root, expected):
        load("koniq10k", root)
