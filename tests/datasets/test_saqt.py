"""SAQT as a dataset: pristine records, their labels by mode, and no leak from the rated dataset's split."""

import dataclasses
import json
import os
import random

import numpy as np
import pytest
from faulty import faulty
from owners_rows import owners_only
from refused import refused

from jaxiqa.datasets import checks, kadid_types, load
from jaxiqa.datasets.formats.saqt_files import read_matches
from jaxiqa.datasets.readers import saqt
from jaxiqa.datasets.readers.kadid10k import DISTORTIONS
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.saqt.labels import make_table
from jaxiqa.saqt.matching import number_references

CELLS = [(1, 1), (1, 2), (10, 1), (10, 2)]
REFERENCES = [f"R{i:02d}" for i in range(20)]
LABELS = np.round(1 + 4 * np.random.default_rng(0).random((20, 4)), 2)
NUMBERS = np.random.default_rng(1).integers(0, 19, 200)  # no source is matched to R19


@pytest.fixture
def make(tmp_path):
    """make(**changes) writes a dataset of 200 sources and returns its folder."""
    pool = tmp_path / "pool"
    (pool / "sub").mkdir(parents=True)
    names = [f"sub/p{i}.png" if i % 2 else f"p{i}.png" for i in range(200)]
    for name in names:
        (pool / name).touch()

    def write(names=names, numbers=NUMBERS, **changes):
        folder = tmp_path / "saqt"
        folder.mkdir(exist_ok=True)
        about = {"dataset": "folder", "labels": "top1", "trained": True, "matches": {}, "pictures": str(pool)}
        about |= {"score_range": [1.0, 5.0], "higher_is_better": True} | changes
        saqt.write(folder, names, numbers, REFERENCES, CELLS, LABELS, about)
        return folder

    return write


def test_records(make):
    """Every source once, at a type and level that are drawn by its name."""
    d = load("saqt", make())
    assert len(d) == 200 and len({r.id for r in d.records}) == 200
    assert d.transferred.cells == CELLS and d.transferred.dataset == "folder"
    np.testing.assert_array_equal(d.transferred.mos_NC, LABELS[NUMBERS])
    for n, r in enumerate(d.records):
        type_, level = r.apply
        assert r.path.endswith(f"/pool/sub/p{n}.png" if n % 2 else f"/pool/p{n}.png") and os.path.isfile(r.path)
        assert r.id == f"p{n}_{type_:02d}_{level:02d}" and r.level == level and r.reference == f"R{NUMBERS[n]:02d}"
        assert r.distortion == DISTORTIONS[type_ - 1] and r.mos == LABELS[NUMBERS[n], CELLS.index(r.apply)]
    count = [sum(r.apply == cell for r in d.records) for cell in CELLS]
    assert min(count) > 30
    fewer = load("saqt", make(names=["sub/p33.png", "sub/p35.png"], numbers=NUMBERS[:2]), hold_out=False)
    assert [r.apply for r in fewer.records] == [d.records[i].apply for i in (33, 35)]
    assert d.score_range == (1.0, 5.0) and d.higher_is_better and d.rated
    assert "transferred" in d.note and "most similar image of folder" in d.note and "round 1" in d.note
    jpeg = load("saqt", make(), types=(10, 3))
    assert {r.apply for r in jpeg.records} == {(10, 1), (10, 2)} and jpeg.transferred.mos_NC.shape == (200, 2)
    assert load("saqt", make()).fingerprint == d.fingerprint


def parts_of_the_rated_dataset(round_):
    """Names of the references in each part of the rated dataset's random split, by its published rule."""
    order = list(REFERENCES)
    random.Random(12345 * round_).shuffle(order)
    return {"train": set(order[:14]), "val": set(order[14:16]), "test": set(order[16:])}


@pytest.mark.parametrize("round_", [1, 2, 7])
@pytest.mark.parametrize("selection", ["val", "legacy"])
def test_sources_of_held_out_references_never_train(make, round_, selection):
    """R19 has no source, so a split by the records alone would differ."""
    d = load("saqt", make(), round=round_)
    s, held = make_split(d, selection=selection), parts_of_the_rated_dataset(round_)
    found = {part: {d.records[i].reference for i in getattr(s, part)} for part in ("train", "val", "test")}
    there = {f"R{i:02d}" for i in NUMBERS}
    trained = held["train"] | held["val"] if selection == "legacy" else held["train"]
    assert found["train"] == trained & there and found["test"] == held["test"] & there
    assert not found["train"] & (found["test"] | found["val"])
    assert len(s.train) + len(s.test) + (selection == "val") * len(s.val) == 200
    pictures = [{d.records[i].path for i in part} for part in (s.train, s.test)]
    assert not pictures[0] & pictures[1]
    by_records = make_split(dataclasses.replace(d, official_split=None), round_, selection)
    assert {d.records[i].reference for i in by_records.test} != found["test"]


def test_every_reference_may_train_if_asked_for(make):
    d = load("saqt", make(), hold_out=False)
    s = make_split(d)
    assert len(s.train) == 200 and s.val and s.test and "do not test on folder" in d.note
    assert len(make_split(d, selection="legacy").train) == 200  # each once


def test_mean_labels_know_nothing_of_held_out_references(make):
    folder = make(labels="cell_mean")
    for round_ in (1, 2):
        d = load("saqt", folder, round=round_)
        trained = [REFERENCES.index(r) for r in parts_of_the_rated_dataset(round_)["train"]]
        expected = LABELS[sorted(trained)].mean(0)
        np.testing.assert_allclose(d.transferred.mos_NC, np.tile(expected, (200, 1)))
        assert all(r.mos == mos[CELLS.index(r.apply)] for r, mos in zip(d.records, d.transferred.mos_NC, strict=True))
        assert np.abs(expected - LABELS.mean(0)).max() > 0.01
    assert "means over images of folder" in d.note


def test_notes_warn_of_labels_without_meaning(make):
    assert "at random" in load("saqt", make(labels="random")).note
    assert "untrained network and have no meaning" in load("saqt", make(trained=False)).note
    assert "untrained" not in load("saqt", make()).note + load("saqt", make(labels="random", trained=False)).note


def test_pictures_may_move(make, tmp_path):
    folder = make()
    os.rename(tmp_path / "pool", tmp_path / "moved")
    with faulty(folder, {checks.MISSING_IMAGES: 200}) as e:
        load("saqt", folder)
    assert "pictures=" in str(e.value)
    d = load("saqt", folder, pictures=str(tmp_path / "moved"))
    assert d.records[0].path == str(tmp_path / "moved" / "p0.png") and len(d) == 200


def test_all_faults_at_once(make):
    folder = make()
    lines = (folder / "sources.csv").read_text().splitlines()
    lines[1:5] = ["../p0.png,R01", "sub/p0.png,R01", "p1.png,R77", "sub/p3.png,R01"]
    (folder / "sources.csv").write_text("\n".join(lines))
    pool = folder.parent / "pool"
    expected = {
        "leave the folder": ["sources.csv:2 ../p0.png"],
        checks.SAME_NAMES: {"sources.csv:3 sub/p0.png (as sources.csv:2)"},
        "without labels": ["sources.csv:4 'R77'"],
        checks.MISSING_IMAGES: [str(pool / "sub/p0.png"), str(pool / "p1.png")],
    }
    with faulty(folder, expected):
        load("saqt", folder)


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ("R03,26,2,", {"1..25": ["reference_labels.csv:17 26 2"], "every type and level": ["R03"]}),
        ("R03,10,x,", {"1..25": ["reference_labels.csv:17 10 x"], "every type and level": ["R03"]}),
        ("R03,10,2,9", {checks.outside(1, 5): 1}),
        ("R03,10,1,", {"every type and level": ["R03"]}),
    ],
)
def test_damaged_labels_are_named(make, new, expected):
    folder = make()
    change(folder / "reference_labels.csv", "R03,10,2,", new)
    with faulty(folder, expected):
        load("saqt", folder)


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ('"top1"', '"top2"', "format", "labels"),
        ('"trained": true', '"trained": 1', "format", "trained"),
        ("{", "[", "damaged", ""),
    ],
)
def test_a_damaged_description_is_named(make, old, new, code, says):
    folder = make()
    change(folder / "saqt.json", old, new)
    with refused(DataError, code, folder / "saqt.json", says):
        load("saqt", folder)


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_cannot_be_trained_on_is_refused(make):
    with refused(ConfigError, "value", "types", "[3]", "1, 10"):
        load("saqt", make(), types=(3,))
    with refused(ConfigError, "value", "config.split.round", "0"):
        load("saqt", make(), round=0)
    few = make(names=["p0.png", "p2.png"], numbers=np.array([0, 0]))
    with refused(DataError, "empty", few, "2 images", "round 1"):
        load("saqt", few)
    paths, records = saqt.to_render(few, "", range(1, 26))  # but they can be rendered
    assert [os.path.basename(p) for p in paths] == ["p0.png", "p2.png"] and len(records) == 8
    assert [r.apply for r in records] == 2 * CELLS and records[6].id == "p2_10_01"
    assert records[-1] == records[7] and records[2:4] == [records[2], records[3]] and len(list(records)) == 8
    for bad in (8, -9):
        with pytest.raises(IndexError):
            records[bad]
    os.remove(few / "saqt.json")
    with refused(DataError, "not_found", few / "saqt.json"):
        load("saqt", few)


@pytest.fixture
def released(shared, tree, tmp_path, monkeypatch):
    """The released matches with KADID-10k's labels, as jaxiqa.transfer writes them; the images are not available."""
    kadid = load("kadid10k", tree("kadid10k"))
    table = make_table(kadid, kadid_types("kadid10k"))
    path = str(shared / "data/saqt_public/similarity_img_in_iqadataset.csv")
    matches = read_matches(path)["kadid-10k"]
    numbers = number_references(matches.references, table.references, path)
    about = {"dataset": "kadid10k", "labels": "top1", "trained": True, "pictures": "/pool"}
    about |= {"score_range": [1.0, 5.0], "higher_is_better": True, "matches": {}}
    saqt.write(tmp_path, matches.sources, numbers, table.references, table.cells, table.mos_RC, about)
    monkeypatch.setattr(os.path, "isfile", lambda path: True)
    return tmp_path, kadid


@owners_only
def test_round_1_of_the_released_set(released):
    """37,960 of the 50,000 sources may pretrain a model that is tested on round 1 of KADID-10k."""
    folder, kadid = released
    d = load("saqt", folder)
    assert len(d) == 50_000
    s, theirs = make_split(d, selection="legacy"), make_split(kadid, selection="legacy")
    assert len(s.train) == 37_960 and len(s.test) == 50_000 - 37_960
    assert len(make_split(d).train) == 29_735  # 8 references fewer, which validate
    tested = {kadid.records[i].reference for i in theirs.test}
    assert {d.records[i].reference for i in s.test} == tested and len(tested) == 16
    assert not tested & {d.records[i].reference for i in s.train}
    scores = {(r.reference, r.distortion, r.level): r.mos for r in kadid.records}
    for i in range(0, len(d), 997):
        r = d.records[i]
        assert r.mos == scores[r.reference, r.distortion, r.level] and DISTORTIONS[r.apply[0] - 1] == r.distortion


@owners_only
def test_the_whole_released_set(released):
    """All that can be rendered."""
    folder, _ = released
    _, records = saqt.to_render(folder, "", range(1, 26))
    assert len(records) == 6_250_000 and records[6_249_999].apply == (25, 5)
    assert json.loads((folder / "saqt.json").read_text())["dataset"] == "kadid10k"
