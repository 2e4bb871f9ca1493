"""Splits from files: published ones with the counts that their projects state, and our own JSON of each."""

import csv
import dataclasses
import json
import os
import pickle

import numpy as np
import pytest
from faulty import faulty
from owners_rows import owners_only
from refused import refused
from some_pictures import assert_round_trip, pictures

from jaxiqa.datasets import load
from jaxiqa.datasets.formats.split_files import refuse_other_data, write_split
from jaxiqa.datasets.records import Record
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import ConfigError, DataError

RANDOM = {"koniq10k": {"official_split": False}}


def sizes(split):
    return len(split.train), len(split.val), len(split.test)


# ---- ARNIQA ----------------------------------------------------------------------------------------------------------

ARNIQA = {  # folder, and images that train, validate and test: the least and the greatest of ten rounds
    "live": ("LIVE", (534, 540), (80, 83), (159, 163)),
    "csiq": ("CSIQ", (605, 608), (86, 87), (172, 174)),
    "tid2013": ("TID2013", (2160, 2160), (240, 240), (600, 600)),
    "kadid10k": ("KADID10K", (7125, 7125), (1000, 1000), (2000, 2000)),
    "livec": ("CLIVE", (813, 813), (117, 117), (232, 232)),
    "koniq10k": ("KonIQ-10k", (7051, 7051), (1007, 1007), (2015, 2015)),
}


@owners_only
@pytest.mark.parametrize("name", ARNIQA)
def test_arniqa(name, tree, shared, tmp_path):
    folder, *expected = ARNIQA[name]
    file = shared / f"data/labels/ARNIQA/{folder}/splits"
    d = load(name, tree(name), **RANDOM.get(name, {}))
    splits = [make_split(d, round=r, file=str(file)) for r in range(1, 11)]
    for count, (least, greatest) in zip(zip(*map(sizes, splits), strict=True), expected, strict=True):
        assert (min(count), max(count)) == (least, greatest)
    assert len({s.fingerprint for s in splits}) == 10
    for s in splits:
        assert sorted(s.train + s.val + s.test) == list(range(len(d)))
        assert (s.name, s.seed) == (f"split file {folder}/splits", None)  # no reference is in several parts
    legacy = make_split(d, 3, "legacy", file=file)
    assert legacy.test == legacy.val == splits[2].test and legacy.train == sorted(splits[2].train + splits[2].val)
    assert_round_trip(tmp_path, d, splits[6])
    assert_round_trip(tmp_path, d, legacy)
    with refused(ConfigError, "not_found", file / "train.npy", "round 11", "1, 2, 3", "10"):
        make_split(d, round=11, file=file)


@owners_only
@pytest.mark.parametrize("name", ["live", "csiq"])
def test_arniqa_counts_the_rows_of_another_label_file(name, tree, shared):
    rows = np.load(shared / f"data/labels/ARNIQA/{name.upper()}/splits/test.npy")[4]
    with open(shared / f"data/labels/icbcbicc_IQA-Dataset/{name.upper()}.txt") as f:
        listed = [row["dis_img_path"].lower() for row in csv.DictReader(f)]
    d = load(name, tree(name))
    s = make_split(d, round=5, file=shared / f"data/labels/ARNIQA/{name.upper()}/splits")
    expected = sorted(listed[i] for i in rows if i >= 0)
    assert len(s.test) == len(expected)
    assert all(any(path.endswith(d.records[i].id) for path in expected) for i in s.test)


def test_arniqa_of_flive_has_one_round_and_leaves_three_out(tree, tmp_path):
    d = load("flive", tree("flive"))
    for part, members in d.official_split.items():
        np.save(tmp_path / f"{part}.npy", np.array(members))
    s = make_split(d, file=tmp_path)
    assert sizes(s) == (30_253, 7_727, 1_827) and s.fingerprint == make_split(d).fingerprint
    with refused(ConfigError, "not_found", tmp_path / "train.npy", "round 2") as e:
        make_split(d, round=2, file=tmp_path)
    assert str(e.value).endswith(" 1")
    with faulty(tmp_path, {"in no part": 3}):
        make_split(dataclasses.replace(d, official_split=None), file=tmp_path)


def test_arrays_that_cannot_be_used(tmp_path):
    good = {"train": [[0, 1, 2, 3]], "val": [[4, -1]], "test": [[5, -1]]}

    def save(**changed):
        for part, rows in (good | changed).items():
            np.save(tmp_path / f"{part}.npy", np.array(rows), allow_pickle=True)
        return tmp_path

    d = pictures(6)
    s = make_split(d, file=save())
    assert (s.train, s.val, s.test) == ([0, 1, 2, 3], [4], [5])
    expected = {"outside 0..5": ["-2", "7"], "more than once": ["i4.png"], "in no part": ["i2.png"]}
    with faulty(tmp_path, expected):
        make_split(d, file=save(test=[[5, 4]], val=[[4, 7]], train=[[0, 1, -2, 3]]))
    with refused(DataError, "format", tmp_path / "test.npy"):
        make_split(d, file=save(test=[[0.5]]))
    with refused(DataError, "format", tmp_path / "test.npy"):
        make_split(d, file=save(test=[[object()]]))
    (tmp_path / "test.npy").write_bytes(b"")
    with refused(DataError, "format", tmp_path / "test.npy"):
        make_split(d, file=tmp_path)
    (tmp_path / "test.npy").unlink()
    with refused(DataError, "not_found", tmp_path / "test.npy"):
        make_split(d, file=tmp_path)


@owners_only
def test_a_folder_that_is_not_whole_is_not_split_by_row_numbers(tree, shared):
    d = load("live", tree("live"))
    piece = dataclasses.replace(d, records=d.records[:700], listed=[i for i in d.listed if i in _ids(d.records[:700])])
    file = shared / "data/labels/ARNIQA/LIVE/splits"
    with faulty(file, {"outside 0..699": 79}):
        make_split(piece, file=file)


def _ids(records):
    return {r.id for r in records}


# ---- LIQE ------------------------------------------------------------------------------------------------------------

LIQE = {
    "live": ("databaserelease2", (538, 81, 160)),
    "kadid10k": ("kadid10k", (7125, 1000, 2000)),
    "livec": ("ChallengeDB_release", (813, 116, 233)),
    "koniq10k": ("koniq-10k", (7051, 1007, 2015)),
}


@owners_only
@pytest.mark.parametrize("name", LIQE)
def test_liqe(name, tree, shared, tmp_path):
    folder, expected = LIQE[name]
    d = load(name, tree(name), **RANDOM.get(name, {}))
    s = make_split(d, file=shared / f"data/labels/LIQE/splits2/{folder}")
    assert sizes(s) == expected and s.name == f"split file splits2/{folder}"
    assert_round_trip(tmp_path, d, s)
    (path,) = (shared / f"data/labels/LIQE/splits2/{folder}").glob("*_test_clip.txt")
    tested = {line.split("\t")[0] for line in path.read_text().splitlines()}
    assert len(tested) == len(s.test) and all(any(p.endswith(d.records[i].id) for p in tested) for i in s.test[:50])
    with refused(ConfigError, "not_found", shared / f"data/labels/LIQE/splits2/{folder}", "round 2"):
        make_split(d, round=2, file=shared / f"data/labels/LIQE/splits2/{folder}")


@owners_only
@pytest.mark.parametrize(("name", "expected"), [("csiq", (607, 87, 172)), ("bid", (410, 59, 117))])
def test_liqe_with_a_folder_for_each_round(name, expected, tree, shared, tmp_path):
    """The files are written here from other splits, because the published ones are not available."""
    d = load(name, tree(name))
    chosen = make_split(d, file=shared / "data/labels/ARNIQA/CSIQ/splits") if name == "csiq" else make_split(d)
    for r in (1, 2, 10):
        home = tmp_path / f"splits2/{r}"
        home.mkdir(parents=True)
        for part in ("train", "val", "test"):
            lines = []
            for i in getattr(chosen, part):
                path = os.path.relpath(d.records[i].path, tree(name))
                lines.append(f"{path}\t0.5\twhite noise\tcityscape\tinvalid\tinvalid\n")
            (home / f"{name}_{part}_clip.txt").write_text("".join(lines[::-1]))
    s = make_split(d, round=10, file=tmp_path / "splits2")
    assert sizes(s) == expected and (s.train, s.val, s.test) == (chosen.train, chosen.val, chosen.test)
    assert s.fingerprint == chosen.fingerprint
    with refused(ConfigError, "not_found", tmp_path / "splits2", "round 3", "1, 2, 10"):
        make_split(d, round=3, file=tmp_path / "splits2")


def test_lists_that_do_not_fit(tmp_path):
    def write(part, *names, columns=6):
        lines = ["\t".join([name, *["x"] * (columns - 1)]) for name in names]
        (tmp_path / f"x_{part}_clip.txt").write_text("\n".join(lines))

    write("train", "a/i0.png", "a/I1.PNG", "a/i2.png")
    write("val", "a/i3.png", columns=5)
    write("test", "a/i4.png", "i0.png", "a/stranger.png")
    expected = {
        "6 words": ["x_val_clip.txt:1 has 5"],
        "dataset": ["x_test_clip.txt:3 a/stranger.png"],
        "more than once": ["i0.png"],
        "in no part": ["i3.png", "i5.png"],
    }
    with faulty(tmp_path, expected):
        make_split(pictures(6), file=tmp_path)
    write("val", "i3.png", "i5.png")
    write("test", "i4.png")
    assert sizes(make_split(pictures(6), file=tmp_path)) == (3, 2, 1)
    (tmp_path / "y_train_clip.txt").touch()
    with refused(DataError, "format", tmp_path, "2 files", "*_train_clip.txt"):
        make_split(pictures(6), file=tmp_path)


# ---- Tables ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    def write(header, rows, name="meta_info_XDataset.csv"):
        (tmp_path / name).write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]))
        return str(tmp_path / name)

    return write


def test_split_columns(table, tmp_path, tree):
    d = load("kadid10k", tree("kadid10k"))
    tested = {r: {i for i in range(81) if (i + r) % 5 == 0} for r in range(1, 11)}
    rows = []
    for i, record in enumerate(d.records):
        parts = ["val" if i // 125 in tested[r] else "train" for r in tested]
        rows.append((f"{record.reference}.png", record.id, record.mos, 0.5, ["test", "val", "train"][i % 3], *parts))
    numbered = [f"ratio802_seed123_split_{r:02d}" for r in tested]
    header = ",".join(["ref_name,dist_name,dmos,std,official_split", *numbered])
    file = table(header, rows, "meta_info_KADID10kDataset.csv")

    with refused(ConfigError, "missing", file, ":official_split, ", ":ratio802_seed123_split"):
        make_split(d, file=file)
    with refused(ConfigError, "unknown", file, ":official_split, ", ":ratio802_seed123_split"):
        make_split(d, file=f"{file}:std")
    for r in (1, 10):
        s = make_split(d, r, file=f"{file}:ratio802_seed123_split")
        assert {int(d.records[i].reference[1:]) - 1 for i in s.test} == tested[r]
        column = f"ratio802_seed123_split_{r:02d}"
        assert s.name == f"split file meta_info_KADID10kDataset.csv, column {column}"
        assert len({d.records[i].reference for i in s.val}) == 8  # a tenth, taken out of the training part
        assert not {d.records[i].reference for i in s.val} & {d.records[i].reference for i in s.train}
        assert_round_trip(tmp_path, d, s)
    with refused(ConfigError, "not_found", file, "round 11", "1, 2"):
        make_split(d, 11, file=f"{file}:ratio802_seed123_split")
    official = make_split(d, file=f"{file}:official_split")
    assert sizes(official) == (3375, 3375, 3375)
    assert official.name.endswith("column official_split (81 references in several parts)")


def test_the_official_split_of_koniq_from_a_table(table, tree):
    d = load("koniq10k", tree("koniq10k"))
    parts = {i: part for part, members in d.official_split.items() for i in members}
    words = {"train": "training", "val": "validation", "test": "test"}
    for names in (words, {"train": 0, "val": 1, "test": 2}):
        rows = [(r.id, r.mos, 0.5, names[parts[i]]) for i, r in enumerate(d.records)]
        file = table("img_name,mos,std,split", rows)
        assert make_split(d, file=file).fingerprint == make_split(d).fingerprint
    with refused(ConfigError, "not_found", file, "round 2"):
        make_split(d, 2, file=file)


def test_the_table_of_live_challenge_is_read_by_name(table, tree):
    """pyiqa drops seven images but not their rows, so it trains on images that the table assigns to the test."""
    d = load("livec", tree("livec"))
    practice = [(f"t{i}.bmp", 50, 18, "train") for i in range(1, 8)]
    rows = [(r.id, r.mos, 18, "val" if i % 5 == 0 else "train") for i, r in enumerate(d.records)]
    file = table("img_name,mos,std,ratio802_seed123_split_01", [*practice, *rows])
    s = make_split(d, file=file, selection="legacy")
    assert s.test == list(range(0, 1162, 5)) and sizes(s) == (929, 233, 233)


def test_tables_that_do_not_fit(table):
    rows = [(f"pictures/i{i}.png", 3, "train" if i < 4 else "test") for i in range(6)]
    patches = [("patches/i0_patch_1.png", 3, "train")]
    assert sizes(make_split(pictures(6), selection="legacy", file=table("img_name,mos,split", rows + patches))) == (
        4,
        2,
        2,
    )
    file = table("img_name,mos,split", [*rows, ("i6.png", 3, "both")])
    expected = {"train, val or test": ["meta_info_XDataset.csv:8 'both'"], "in no part": ["i6.png", "i7.png"]}
    with faulty(file, expected):
        make_split(pictures(8), file=file)
    file = table("img_name,mos", [row[:2] for row in rows])
    with refused(DataError, "missing", file, "split"):
        make_split(pictures(6), file=file)


# ---- Our own, and what all have in common ----------------------------------------------------------------------------


@pytest.mark.parametrize("selection", ["val", "legacy"])
def test_our_own_file(tmp_path, tree, selection):
    d = load("tid2013", tree("tid2013"))
    s = make_split(d, 4, selection)
    assert_round_trip(tmp_path, d, s)
    content = json.loads((tmp_path / "again.json").read_text())
    assert (content["dataset"], content["name"], content["seed"]) == ("tid2013", "80/20 by reference", 4 * 12345)
    assert content["fingerprint"] == s.fingerprint and content["selection"] == selection
    assert content["test"] == [d.records[i].id for i in s.test]
    other = make_split(d, 4, "val" if selection == "legacy" else "legacy", file=tmp_path / "again.json")
    assert other.test == s.test and set(other.train) | set(other.val) == set(range(3000)) - (
        set() if other.selection == "legacy" else set(s.test)
    )


def test_a_file_written_on_another_machine(tmp_path):
    d = pictures(9, each=2)
    s = make_split(d)
    write_split(tmp_path / "x.json", s, d)
    turned = dataclasses.replace(d, records=d.records[::-1])
    again = make_split(turned, file=tmp_path / "x.json")
    assert again.fingerprint == s.fingerprint and again.test != s.test


def test_names_that_are_no_text_survive(tmp_path):
    odd = dataclasses.replace(pictures(5), records=[Record(n, 1.0, n) for n in ("ä.png", "\udcff.png", "c", "d", "e")])
    assert_round_trip(tmp_path, odd, make_split(odd))


def test_our_own_files_that_do_not_fit(tmp_path):
    d = pictures(6)
    file = tmp_path / "x.json"
    write_split(file, make_split(d), d)
    good = json.loads(file.read_text())
    with refused(ConfigError, "mismatch", file, "some", "other"):
        make_split(dataclasses.replace(d, name="other"), file=file)
    with refused(ConfigError, "not_found", file, "round 2"):
        make_split(d, 2, file=file)
    file.write_text(json.dumps(good | {"test": [*good["train"][:1], "stranger"]}))
    expected = {"dataset": ["stranger"], "more than once": [good["train"][0]], "in no part": {good["test"][0]}}
    with faulty(file, expected):
        make_split(d, file=file)
    for content in ("[]", "{", json.dumps({"train": []}), json.dumps(good | {"val": 3})):
        file.write_text(content)
        with refused(DataError, "format", file):
            make_split(d, file=file)
    path = tmp_path / "no/such/folder.json"
    with refused(ConfigError, "unwritable", path, str(path)):
        write_split(path, make_split(d), d)


def test_a_changed_dataset_is_refused_by_what_changed(tmp_path):
    d = pictures(9)
    s, file = make_split(d), tmp_path / "split.json"
    refuse_other_data(file, s, d, "now")  # a run that was killed before it wrote the file
    write_split(file, s, d, "then")
    refuse_other_data(file, s, d, "then")
    with refused(ConfigError, "changed", file, "then", "now", "images are the same"):
        refuse_other_data(file, s, d, "now")
    other = dataclasses.replace(d, records=[*d.records[2:], Record("new.png", 1.0, "new.png")])
    with refused(ConfigError, "changed", file, "1 images are new", "new.png", "2 images are gone", "i0.png"):
        refuse_other_data(file, make_split(other), other, "now")


def test_files_of_no_known_form(tmp_path):
    with refused(DataError, "not_found", tmp_path / "nothing"):
        make_split(pictures(6), file=tmp_path / "nothing")
    (tmp_path / "x.mat").touch()
    with refused(ConfigError, "format", tmp_path / "x.mat", ".json, .csv or .pkl", "train.npy"):
        make_split(pictures(6), file=tmp_path / "x.mat")
    with refused(DataError, "format", tmp_path, "0 files", "*_train_clip.txt", "train.npy"):
        make_split(pictures(6), file=tmp_path)


def test_pictures_that_only_train_stay_there(tmp_path):
    d = pictures(12, each=2, train_only=frozenset({"r0"}))
    s = make_split(d)
    assert_round_trip(tmp_path, d, s)
    write_split(tmp_path / "x.json", s, d)
    text = json.loads((tmp_path / "x.json").read_text())
    text["test"].append(text["train"].pop(text["train"].index("i1.png")))
    (tmp_path / "x.json").write_text(json.dumps(text))
    with faulty(tmp_path / "x.json", {"only": ["i1.png"]}):
        make_split(d, file=tmp_path / "x.json")


def test_too_few_units_to_take_a_validation_part_from(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({1: {"train": [0, 1], "val": [2, 3], "test": []}}))
    d = pictures(4, each=2)
    assert sizes(make_split(d, selection="legacy", file=tmp_path / "x.pkl")) == (2, 2, 2)
    with refused(ConfigError, "empty", "some", "1 content"):
        make_split(d, file=tmp_path / "x.pkl")
