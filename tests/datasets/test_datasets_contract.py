"""What every dataset file must have, the owners' numbers of each whole dataset, and how datasets are found by name."""

import importlib
import inspect
import itertools
import os

import numpy as np
import pytest

from jaxiqa.datasets import ALIASES, default_data_dir, find, list_datasets, load
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import ConfigError, DataError

NAMES = list_datasets()
GIVEN_SCALE = ("sample", "folder", "pyiqa")  # made here, or with a scale that the user gives
UNRATED = ("kadis700k",)

# Whole datasets as the fixture `tree` writes them: pictures; least, greatest and mean label with the decimals that are
# known; whether higher is better; references, distortions and levels; units that train and test in a random split.
NUMBERS = {
    "live": (779, ("-2.640", "111.775", "48.58"), False, 29, 5, {0}, (23, 6)),
    "livemd": (450, ("0.61", "84.67", "47.580"), False, 15, 5, {0, 1, 2, 3}, (12, 3)),
    "csiq": (866, ("0.000", "1.000", "0.351"), False, 30, 6, {1, 2, 3, 4, 5}, (24, 6)),
    "tid2008": (1_700, ("0.0", "7.714", "4.480"), True, 25, 17, {1, 2, 3, 4}, (20, 5)),
    "tid2013": (3_000, ("0.2424", "7.2143", "4.475"), True, 25, 24, {1, 2, 3, 4, 5}, (20, 5)),
    "kadid10k": (10_125, ("1.00", "4.93", "3.0326"), True, 81, 25, {1, 2, 3, 4, 5}, (65, 16)),
    "pipal": (23_200, ("916.71", "1835.99", "1448.96"), True, 200, 7, {0}, (160, 40)),
    "livec": (1_162, ("3.42", "92.43", "55.40"), True, 0, 0, {0}, (930, 232)),
    "koniq10k": (10_073, ("3.912", "88.389", "58.73"), True, 0, 0, {0}, (8_058, 2_015)),
    "spaq": (11_125, ("2", "96", "50.32"), True, 0, 0, {0}, (8_900, 2_225)),
    "flive": (39_810, ("0.00", "94.33", "72.13"), True, 0, 0, {0}, (31_848, 7_962)),
    "bid": (586, ("0.164", "4.920", "2.953"), True, 0, 0, {0}, (469, 117)),
    "cid2013": (474, ("-9.55", "87.88", "46.07"), True, 36, 0, {0}, (29, 7)),
}
TREES = list(NUMBERS)
STRICT = [n for n in TREES if n != "flive"]  # its folders hold pictures that nobody rated

# Constants that map labels to score01.
SCALES = {
    **dict.fromkeys(("live", "livemd", "koniq10k", "livec", "spaq", "flive", "cid2013"), (0, 100)),
    **dict.fromkeys(("tid2008", "tid2013"), (0, 9)),
    **dict.fromkeys(("kadid10k", "sample"), (1, 5)),
    "csiq": (0, 1),
    "bid": (0, 5),
    "pipal": (900, 1850),
}


def test_the_helpers_of_the_room_are_no_datasets():
    assert {*TREES, *GIVEN_SCALE, *UNRATED} <= set(NAMES)
    helpers = {"records", "splits", "split_files", "index_pickle", "meta_csv", "checks", "tables", "mat", "xlsx", "tid"}
    assert not helpers & set(NAMES)
    assert set(ALIASES.values()) <= set(NAMES) and not set(ALIASES) & set(NAMES)


def agree(value, text):
    return f"{value:.{len(text.partition('.')[2])}f}" == text


@pytest.mark.parametrize("name", TREES)
def test_numbers(name, tree):
    count, texts, higher_is_better, references, types, levels, (trained, tested) = NUMBERS[name]
    options = {"official_split": False} if name in ("koniq10k", "flive") else {}
    d = load(name, tree(name), **options)
    mos = np.array([r.mos for r in d.records])
    assert len(d) == count
    assert all(map(agree, (mos.min(), mos.max(), mos.mean()), texts)), (mos.min(), mos.max(), mos.mean())
    assert d.higher_is_better == importlib.import_module(f"jaxiqa.datasets.{name}").HIGHER_IS_BETTER == higher_is_better
    assert len({r.reference for r in d.records} - {""}) == references
    assert len({r.distortion for r in d.records} - {""}) == types
    assert {r.level for r in d.records} == levels

    s = make_split(d, selection="legacy")
    units = [{d.records[i].reference or d.records[i].id for i in part} for part in (s.train, s.test)]
    assert tuple(map(len, units)) == (trained, tested) and not units[0] & units[1]


@pytest.mark.parametrize("name", SCALES)
def test_scales(name):
    assert SCALES[name] == importlib.import_module(f"jaxiqa.datasets.{name}").SCORE_RANGE


@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    module = importlib.import_module(f"jaxiqa.datasets.{name}")
    for text in (module.CITATION, module.LICENSE, module.HOW_TO_GET, module.__doc__, module.load.__doc__):
        assert isinstance(text, str) and text.strip()
    lo, hi = module.SCORE_RANGE
    assert lo < hi
    assert isinstance(module.HIGHER_IS_BETTER, bool)
    assert next(iter(inspect.signature(module.load).parameters)) == "data_dir"


@pytest.mark.parametrize("name", TREES)
def test_a_whole_folder(name, tree, monkeypatch):
    d = load(name, tree(name))
    assert d.name == name and len({r.id for r in d.records}) == len(d)
    assert all(os.path.isfile(r.path) and r.apply is None and 0 <= r.level <= 5 for r in d.records)
    mos = np.array([r.mos for r in d.records])
    np.testing.assert_allclose(d.scale.to_native(d.scale.to_score01(mos)), mos)
    assert (np.corrcoef(d.scale.to_score01(mos), mos)[0, 1] > 0) == d.higher_is_better

    s = make_split(d)
    left_out = [i for i, r in enumerate(d.records) if r.id.startswith("EE371R/")]  # of FLIVE, by its owners
    assert sorted(s.train + s.val + s.test + left_out) == list(range(len(d)))
    references = [{d.records[i].reference for i in part} for part in (s.train, s.val, s.test)]
    assert not any(a & b - {""} for a, b in itertools.combinations(references, 2))

    # the same on every machine: neither the order of a directory nor its place matters
    monkeypatch.setattr(os, "listdir", lambda path, listdir=os.listdir: sorted(listdir(path), reverse=True))
    assert load(name, os.path.relpath(tree(name))).fingerprint == d.fingerprint
    assert [r.id for r in load(name, tree(name)).records] == [r.id for r in d.records]


@pytest.mark.parametrize("name", STRICT)
def test_a_missing_and_an_extra_picture_are_listed_together(name, tree):
    whole = load(name, tree(name))
    lost = whole.records[17].path
    extra = os.path.join(os.path.dirname(lost), "stranger.bmp")
    os.rename(lost, extra)
    try:
        with pytest.raises(DataError) as e:
            load(name, tree(name))
        assert "1 missing pictures, 1 extra pictures" in str(e.value)
        assert os.path.basename(lost).lower() in str(e.value).lower() and "stranger.bmp" in str(e.value)
        assert len(load(name, tree(name), allow_partial=True)) == len(whole) - 1
    finally:
        os.rename(extra, lost)


@pytest.mark.parametrize("name", TREES)
def test_a_folder_without_any_picture_is_refused_even_if_partial(name, tree, tmp_path):
    for file in tree(name).rglob("*"):
        if file.suffix in (".csv", ".txt", ".mat", ".xlsx"):
            copy = tmp_path / file.relative_to(tree(name))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    for folder in {os.path.dirname(os.path.relpath(r.path, tree(name))) for r in load(name, tree(name)).records}:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    with pytest.raises(DataError, match="not one rated picture"):
        load(name, tmp_path, allow_partial=True)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "sample"])
def test_no_folder_and_the_wrong_folder_are_refused_in_one_line(name, tmp_path):
    how_to_get = importlib.import_module(f"jaxiqa.datasets.{name}").HOW_TO_GET
    with pytest.raises(ConfigError, match="needs --data_dir"):
        load(name)
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DataError) as e:
            load(name, folder)
        assert str(folder) in str(e.value) and how_to_get in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("sample", "folder", "kadid10k")])
def test_another_dataset_is_recognised(name, tree):
    with pytest.raises(DataError, match="this looks like kadid10k"):
        load(name, tree("kadid10k"))


def test_the_folder_one_level_too_high_is_recognised(tree):
    with pytest.raises(DataError, match=f"did you mean {tree('kadid10k')}"):
        load("kadid10k", tree("kadid10k").parent)


@pytest.mark.parametrize(
    ("alias", "key"),
    [("CLIVE", "livec"), ("fblive", "flive"), ("PaQ2PiQ", "flive"), ("livem", "livemd"), ("KADIS-700k", "kadis700k")],
)
def test_spellings_of_others(alias, key):
    assert find(alias) == key


def test_aliases_and_case(tree):
    for name in ("KADID-10k", "kadid", "kadid10k"):
        assert load(name, tree("kadid10k")).name == "kadid10k"


@pytest.mark.parametrize(("typo", "meant"), [("kadid10", "kadid10k"), ("smaple", "sample"), ("foldr", "folder")])
def test_unknown_names_are_refused_with_a_suggestion(typo, meant):
    with pytest.raises(ConfigError, match=rf"unknown dataset '{typo}'; there are .*kadid10k.*; did you mean '{meant}'"):
        load(typo, "/")


@pytest.mark.parametrize("name", ["records", "splits", "tid", "nothing.like.it", ""])
def test_other_modules_are_no_datasets(name):
    with pytest.raises(ConfigError, match="unknown dataset"):
        load(name, "/")


def test_unknown_options_are_refused_with_a_suggestion(tmp_path):
    with pytest.raises(ConfigError, match=r"no option 'label_colum'; it has csv, .*did you mean 'label_column'"):
        load("folder", tmp_path, label_colum="mos")


def test_default_data_dir(monkeypatch):
    monkeypatch.setenv("JAXIQA_CACHE", "/somewhere")
    assert default_data_dir("sample") == "/somewhere/sample"
    monkeypatch.delenv("JAXIQA_CACHE")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_data_dir("sample") == "/home/me/.cache/jaxiqa/sample"
