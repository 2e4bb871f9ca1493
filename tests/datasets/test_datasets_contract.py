"""What every reader must have, the owners' numbers of each complete dataset, and how datasets are found by name."""

import ast
import dataclasses
import importlib
import inspect
import itertools
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from faulty import faulty
from refused import refused

from jaxiqa import datasets
from jaxiqa.datasets import (
    FACTS,
    checks,
    default_data_dir,
    distorted_cells,
    fact,
    facts,
    find,
    list_datasets,
    load,
    reader,
    readers,
)  # fmt: skip
from jaxiqa.datasets.doctor import diagnosis
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.file_sizes import data_fingerprint
from jaxiqa.datasets.leakage import seen_references
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.inputs.decode import read_image

NAMES = list_datasets()
GIVEN_SCALE = ("sample", "folder", "pyiqa")  # made here, or with a scale that the user gives
UNRATED = ("kadis700k",)

# Whole datasets as the fixture `tree` writes them: images; least, greatest and mean label with the decimals that are
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
    "agiqa3k": (2_982, ("0.000", "4.489", "2.5004"), True, 300, 6, {0}, (240, 60)),
}
TREES = list(NUMBERS)
STRICT = [n for n in TREES if n != "flive"]  # its folders have images without ratings

# Constants that map labels to score01.
SCALES = {
    **dict.fromkeys(("live", "livemd", "koniq10k", "livec", "spaq", "flive", "cid2013"), (0, 100)),
    **dict.fromkeys(("tid2008", "tid2013"), (0, 9)),
    **dict.fromkeys(("kadid10k", "sample"), (1, 5)),
    "csiq": (0, 1),
    **dict.fromkeys(("bid", "agiqa3k"), (0, 5)),
    "pipal": (900, 1850),
}


def test_the_helpers_of_the_room_are_no_datasets():
    assert {*TREES, *GIVEN_SCALE, *UNRATED} <= set(NAMES)
    assert not {"records", "splits", "checks", "formats", "prepared", "doctor", "readers", "tid"} & set(NAMES)


def agree(value, text):
    return f"{value:.{len(text.partition('.')[2])}f}" == text


@pytest.fixture(scope="module")
def read_once():
    return {}


@pytest.fixture
def whole(tree, read_once):
    """whole(name) is the dataset in tree(name), read once: some take seconds."""

    def get(name):
        if tree(name) not in read_once:
            read_once[tree(name)] = load(name, tree(name))
        return read_once[tree(name)]

    return get


@pytest.mark.parametrize("name", TREES)
def test_numbers(name, whole):
    count, texts, higher_is_better, references, types, levels, (trained, tested) = NUMBERS[name]
    d = dataclasses.replace(whole(name), official_split=None)
    mos = np.array([r.mos for r in d.records])
    assert len(d) == count
    assert all(map(agree, (mos.min(), mos.max(), mos.mean()), texts)), (mos.min(), mos.max(), mos.mean())
    assert d.higher_is_better == reader(name).HIGHER_IS_BETTER == higher_is_better
    assert len({r.reference for r in d.records} - {""}) == references
    assert len({r.distortion for r in d.records} - {""}) == types
    assert {r.level for r in d.records} == levels

    s = make_split(d, selection="legacy")
    units = [{d.records[i].reference or d.records[i].id for i in part} for part in (s.train, s.test)]
    assert tuple(map(len, units)) == (trained, tested) and not units[0] & units[1]


@pytest.mark.parametrize("name", TREES)
def test_every_row_reaches_the_record_of_its_image(name, whole, labels):
    """Label, reference and level of each; its file is an image."""
    rows = {row.name: row for row in labels(name)}
    found = {}
    for r in whole(name).records:
        found[os.path.basename(r.path).lower()] = found[r.id.lower()] = r
    if name == "livemd":  # both of its parts have images of the same names
        rows = {row_name.split("/", 1)[1]: row for row_name, row in rows.items()}
    elif name == "cid2013":
        rows = {row_name.split("/")[-1]: row for row_name, row in rows.items()}
    for practice in fact(name, "PRACTICE"):
        del rows[practice]
    assert len(rows) == len(whole(name))
    for row_name, row in rows.items():
        r = found[row_name.lower()]
        assert (r.mos, r.reference, r.level) == (row.mos, row.reference, row.level), row_name
    assert read_image(r.path).shape == (8, 8, 3)


@pytest.mark.parametrize("name", SCALES)
def test_scales(name):
    assert SCALES[name] == reader(name).SCORE_RANGE


@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    module = reader(name)
    for text in (module.CITATION, module.LICENSE, module.HOW_TO_GET, module.__doc__, module.load.__doc__):
        assert isinstance(text, str) and text.strip()
    lo, hi = module.SCORE_RANGE
    assert lo < hi
    assert isinstance(module.HIGHER_IS_BETTER, bool)
    assert next(iter(inspect.signature(module.load).parameters)) == "data_dir"


@pytest.mark.parametrize("name", NAMES)
def test_facts(name):
    """The facts of a reader have the form that the docstring of jaxiqa.datasets states."""
    module = reader(name)
    for declared in ("ALIASES", "MARKERS", "PRACTICE"):
        texts = fact(name, declared)
        assert isinstance(texts, tuple) and all(isinstance(text, str) and text for text in texts), declared
        assert len(set(texts)) == len(texts), declared
    assert all(alias == alias.lower() and find(alias.upper()) == name for alias in fact(name, "ALIASES"))
    assert not any(os.path.isabs(marker) or ".." in marker for marker in fact(name, "MARKERS"))
    shared_markers = set(fact(name, "MARKERS")) & {m for n in NAMES if n != name for m in fact(n, "MARKERS")}
    assert not shared_markers or hasattr(module, "holds")
    for declared in ("ANYONES", "MADE_HERE"):
        assert isinstance(fact(name, declared), bool)
    for declared in ("TITLE", "PUBLIC_NAME"):
        assert isinstance(fact(name, declared), str)
    types = fact(name, "SHARED_TYPES")
    assert all(isinstance(theirs, str) and number in range(1, 26) for theirs, number in types.items())
    assert len(set(types.values())) == len(types)
    own = getattr(module, "DISTORTIONS", None) or getattr(module, "COUNTS", types)
    assert set(types) <= set(own)
    known = fact(name, "KNOWN")
    assert (known is not None) == (name in TREES)
    if known:
        assert isinstance(known, Known) and known.count == NUMBERS[name][0]
        assert (known.least, known.greatest, known.mean) == NUMBERS[name][1]
        assert all(len(size) == 2 and min(size) > 0 for size in known.sizes) and isinstance(known.others, str)
    for function, parameters in {
        "holds": ["folder"],
        "look": ["dataset", "folder", "options"],
        "look_at_table": ["dataset", "meta"],
        "cells": ["options"],
    }.items():
        assert list(inspect.signature(fact(name, function)).parameters) == parameters
        assert not hasattr(module, function) or getattr(module, function).__doc__
    if (cells := distorted_cells({"name": name})) is not None:
        assert cells and all(type_ in range(1, 26) and level in range(1, 6) for type_, level in cells)
    parameters = inspect.signature(module.load).parameters.values()
    assert all(p.default is not p.empty for p in parameters if p.name != "data_dir")


def test_facts_are_documented_and_have_defaults():
    for name, default in FACTS.items():
        assert f"\n  {name}" in datasets.__doc__, name
        unknown = fact("of no reader", name)  # a Dataset that somebody made in memory
        assert unknown is default and fact("tid", name) is default
        for value in facts(name).values():
            assert default is None or callable(default) or type(value) is type(default), name
    with pytest.raises(KeyError):
        fact("kadid10k", "KNWON")


READER = """
from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.diagnosis import Finding
from jaxiqa.datasets.doctor.published import Known

CITATION = LICENSE = "none"
HOW_TO_GET = "ask"
SCORE_RANGE, HIGHER_IS_BETTER = (0.0, 10.0), True
ALIASES, MARKERS, MADE_HERE, ANYONES = ("mrs",), ("marsian*.txt",), True, True
KNOWN = Known(3, "1", "9", "4.0")
CRATERS = checks.Kind("craters", fix="fill them")
SHARED_TYPES = {"dust": 1}


def load(data_dir, craters=0):
    reading = checks.Reading("mars", data_dir, HOW_TO_GET)
    if craters:
        reading.add(CRATERS, "everywhere")
    for mos in (1.0, 2.0, 9.0):
        reading.record(f"{mos}.png", mos, "nowhere")
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER)


def look(dataset, folder, options):
    yield Finding("labels", "note", f"craters={options['craters']}")


def cells(options):
    return [(1, 1)]
"""


def test_a_dataset_is_one_file(tmp_path, monkeypatch):
    """One new file, and all programs know its dataset."""
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "mars.py").write_text(READER)
    (tmp_path / "marsian_labels.txt").touch()
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(tmp_path / "room")])
    importlib.invalidate_caches()
    try:
        assert "mars" in list_datasets() and find("MRS") == "mars"
        assert diagnosis.recognise(tmp_path) == "mars"
        data, findings = diagnosis.read("mars", tmp_path, {})
        findings += [*diagnosis.examine(data), *diagnosis.look(data, tmp_path, {})]
        said = [f.what for f in findings]
        assert "count, least, greatest and mean are the owners'" in said and "craters=0" in said
        assert diagnosis.read("mars", tmp_path, {"craters": 1})[1][0].fix == "fill them"
        assert data_fingerprint(data)  # without a file
        assert distorted_cells({"name": "mrs"}) == [(1, 1)] and facts("SHARED_TYPES")["mars"] == {"dust": 1}
        trained = {"dataset": "mars", "fingerprint": "another folder", "references": [""]}
        assert seen_references(trained, data, data.records) == []
        assert seen_references(trained | {"fingerprint": data.fingerprint}, data, data.records) == [""]
    finally:
        sys.modules.pop("jaxiqa.datasets.readers.mars", None)
        del readers.mars


PACKAGE = pathlib.Path(datasets.__file__).parent.parent


def test_only_readers_name_a_dataset():
    """Docstrings and longer messages may, as examples. The word folder counts if a function of datasets gets it."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "readers" or path == PACKAGE / "models" / "arniqa.py":  # regressors of eight datasets
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        # the first argument of a finding is the check, not a dataset: Finding("folder", ...)
        calls = [n for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.args]
        checked = [call.args[0] for call in calls if call.func.id == "Finding"]
        takers = ("load", "reader", "default_options", "find", "fact")
        named = [
            n.args[0] for n in nodes if isinstance(n, ast.Call) and n.args and ast.unparse(n.func).endswith(takers)
        ]
        texts = [n for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and n not in checked]
        found += [
            f"{path.name}:{n.lineno} {n.value!r}"
            for n in texts
            if n.value.lower() in NAMES and (n.value != "folder" or n in named)
        ]
    assert not found


def test_a_look_up_of_one_dataset_loads_no_other():
    code = (
        "import sys; from jaxiqa import datasets\n"
        "def loaded(): return sorted(n for n in sys.modules if n.startswith('jaxiqa.datasets.'))\n"
        "before = loaded(); datasets.reader('spaq'); print(*before); print(*(set(loaded()) - set(before)))"
    )
    before, after = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    names = {f"jaxiqa.datasets.readers.{name}" for name in NAMES}
    assert not names & set(before.split()) and names & set(after.split()) == {"jaxiqa.datasets.readers.spaq"}


def test_cells_that_a_step_distorts():
    assert distorted_cells({"name": "SAQT", "data_dir": "nowhere"}) == list(
        itertools.product(range(1, 26), range(1, 6))
    )
    assert distorted_cells({"name": "saqt", "types": (10, 3), "round": 2}) == list(
        itertools.product((3, 10), range(1, 6))
    )
    assert [name for name in NAMES if distorted_cells({"name": name}) is not None] == ["saqt"]
    with refused(ConfigError, "value", "types", "[26]"):
        distorted_cells({"name": "saqt", "types": (26,)})
    with refused(ConfigError, "unknown", "dataset", '"sqat"', '"saqt"'):
        distorted_cells({"name": "sqat"})


@pytest.mark.parametrize("name", TREES)
def test_a_whole_folder(name, tree, whole, monkeypatch):
    d = whole(name)
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

    # the same on every machine: the order and the path of a directory do not matter
    monkeypatch.setattr(os, "listdir", lambda path, listdir=os.listdir: sorted(listdir(path), reverse=True))
    again = load(name, os.path.relpath(tree(name)))
    assert again.fingerprint == d.fingerprint and [r.id for r in again.records] == [r.id for r in d.records]


@pytest.mark.parametrize("name", STRICT)
def test_a_missing_and_an_extra_picture_are_listed_together(name, tree, whole):
    lost = whole(name).records[17].path
    extra = os.path.join(os.path.dirname(lost), "stranger.bmp")
    os.rename(lost, extra)
    try:
        with faulty(tree(name), {checks.MISSING_IMAGES: 1, checks.EXTRA_IMAGES: 1}) as e:
            load(name, tree(name))
        assert os.path.basename(lost).lower() in str(e.value).lower() and "stranger.bmp" in str(e.value)
        assert len(load(name, tree(name), allow_partial=True)) == len(whole(name)) - 1
    finally:
        os.rename(extra, lost)


@pytest.mark.parametrize("name", TREES)
def test_a_folder_without_any_picture_is_refused_even_if_partial(name, tree, whole, tmp_path):
    for file in tree(name).rglob("*"):
        if file.suffix in (".csv", ".txt", ".mat", ".xlsx"):
            copy = tmp_path / file.relative_to(tree(name))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    for folder in {os.path.relpath(os.path.dirname(r.path), tree(name)) for r in whole(name).records}:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    with refused(DataError, "empty", tmp_path, name):
        load(name, tmp_path, allow_partial=True)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "sample"])
def test_no_folder_and_the_wrong_folder_are_refused_in_one_line(name, tmp_path):
    how_to_get = reader(name).HOW_TO_GET
    with refused(ConfigError, "missing", "data_dir", name, "--data_dir", how_to_get):
        load(name)
    for folder in (tmp_path / "nowhere", tmp_path):
        with refused(DataError, "not_found", None, name, str(folder), how_to_get) as e:
            load(name, folder)
        assert e.value.key.startswith(str(folder)) and "\n" not in str(e.value)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("sample", "folder", "kadid10k")])
def test_another_dataset_is_recognised(name, tree):
    with refused(DataError, "not_found", None, "looks like kadid10k"):
        load(name, tree("kadid10k"))


def test_the_two_lists_of_one_name_are_told_apart(tree):
    for name in ("tid2008", "tid2013"):
        with refused(DataError, "not_found", tree(name) / "Data/AllImages_release.mat", f"looks like {name}."):
            load("livec", tree(name))


def test_a_folder_of_anyones_images_is_recognised_only_if_nothing_else_is(tmp_path):
    (tmp_path / "index.csv").touch()
    assert diagnosis.recognise(tmp_path) == "folder"
    with refused(DataError, "not_found", tmp_path / fact("spaq", "MARKERS")[0]) as e:
        load("spaq", tmp_path)
    assert "looks like" not in str(e.value)
    (tmp_path / "meta_info_AnyDataset.csv").touch()
    assert diagnosis.recognise(tmp_path) == "pyiqa"
    (tmp_path / "dmos.csv").touch()
    assert diagnosis.recognise(tmp_path) == "kadid10k"


def test_the_folder_one_level_too_high_is_read(tree, tmp_path, capsys):
    whole = tree("kadid10k")
    (tmp_path / "one").symlink_to(whole)
    d = load("kadid10k", tmp_path)
    assert d.fingerprint == load("kadid10k", whole).fingerprint
    assert d.records[0].path == str(tmp_path / "one/images/I01_01_01.png")
    assert str(tmp_path / "one") in capsys.readouterr().out
    (tmp_path / "two").symlink_to(whole)
    with refused(DataError, "not_found", tmp_path / "dmos.csv", f"{tmp_path / 'one'}?"):
        load("kadid10k", tmp_path)


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
    with refused(ConfigError, "unknown", "dataset", f'"{typo}"', f'"{meant}"?'):
        load(typo, "/")


@pytest.mark.parametrize("name", ["records", "splits", "tid", ""])
def test_other_modules_are_no_datasets(name):
    with refused(ConfigError, "unknown", "dataset", f'"{name}"'):
        load(name, "/")


def test_a_module_that_cannot_be_imported_is_not_a_dataset():
    with pytest.raises(ConfigError, match=r'"nothing\.like\.it"'):
        load("nothing.like.it", "/")


def test_unknown_options_are_refused_with_a_suggestion(tmp_path):
    with refused(ConfigError, "unknown", "label_colum", '"label_column"?'):
        load("folder", tmp_path, label_colum="mos")


def test_default_data_dir(monkeypatch):
    monkeypatch.setenv("JAXIQA_CACHE", "/somewhere")
    assert default_data_dir("sample") == "/somewhere/sample"
    monkeypatch.delenv("JAXIQA_CACHE")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_data_dir("sample") == "/home/me/.cache/jaxiqa/sample"
