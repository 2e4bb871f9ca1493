"""What every dataset file must have, and how datasets are found by name."""

import importlib
import inspect
import itertools
import os

import numpy as np
import pytest

from jaxiqa.datasets import ALIASES, default_data_dir, list_datasets, load
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import ConfigError, DataError

NAMES = list_datasets()
TREES = ["csiq", "kadid10k", "koniq10k", "live", "livec", "tid2013"]  # those that the fixture `tree` writes


def test_the_helpers_of_the_room_are_no_datasets():
    assert {"sample", "folder", *TREES} == set(NAMES)
    assert not {"records", "splits", "checks", "tables", "mat", "xlsx"} & set(NAMES)
    assert set(ALIASES.values()) <= set(NAMES)


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
    assert sorted(s.train + s.val + s.test) == list(range(len(d)))
    references = [{d.records[i].reference for i in part} for part in (s.train, s.val, s.test)]
    assert not any(a & b - {""} for a, b in itertools.combinations(references, 2))

    # the same on every machine: neither the order of a directory nor its place matters
    monkeypatch.setattr(os, "listdir", lambda path, listdir=os.listdir: sorted(listdir(path), reverse=True))
    assert load(name, os.path.relpath(tree(name))).fingerprint == d.fingerprint
    assert [r.id for r in load(name, tree(name)).records] == [r.id for r in d.records]


@pytest.mark.parametrize("name", TREES)
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
        if file.suffix in (".csv", ".txt", ".mat"):
            copy = tmp_path / file.relative_to(tree(name))
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(file.read_bytes())
    for folder in {os.path.dirname(os.path.relpath(r.path, tree(name))) for r in load(name, tree(name)).records}:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    with pytest.raises(DataError, match="not one rated picture"):
        load(name, tmp_path, allow_partial=True)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "sample"])
def test_no_folder_and_the_wrong_folder_are_refused_in_one_line(name, tmp_path):
    how_to_get = importlib.import_module(f"jaxiqa.datasets.{name}").HOW_TO_GET
    with pytest.raises(ConfigError, match="needs a data_dir"):
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


def test_aliases_and_case(tree):
    for name in ("KADID-10k", "kadid", "kadid10k"):
        assert load(name, tree("kadid10k")).name == "kadid10k"


@pytest.mark.parametrize(("typo", "meant"), [("kadid10", "kadid10k"), ("smaple", "sample"), ("foldr", "folder")])
def test_unknown_names_are_refused_with_a_suggestion(typo, meant):
    with pytest.raises(ConfigError, match=rf"unknown dataset '{typo}'; there are .*kadid10k.*; did you mean '{meant}'"):
        load(typo, "/")


@pytest.mark.parametrize("name", ["records", "splits", "checks", "nothing.like.it", ""])
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
