"""Splits: GlintIQA's rule to the image, the validation part, official splits, references that only train."""

import dataclasses

import pytest
from refused import refused

from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import ConfigError


def references(n, each=1):
    records = [Record(f"r{u}_{i}", 1.0, f"r{u}_{i}", reference=f"r{u}") for u in range(n) for i in range(each)]
    return Dataset("refs", records, (0.0, 1.0), True)


def pictures(n):
    return Dataset("pictures", [Record(str(i), 1.0, str(i)) for i in range(n)], (0.0, 1.0), True)


def names(dataset, part):
    return {dataset.records[i].reference for i in part}


def test_kadid_round_1_tests_the_references_of_the_reference_code():
    d = references(81, each=2)
    s = make_split(d)
    expected = [1, 15, 20, 22, 23, 24, 33, 34, 38, 45, 47, 53, 55, 72, 73, 77]
    assert names(d, s.test) == {f"r{i}" for i in expected}
    assert (s.name, s.seed, s.round, s.selection) == ("80/20 by reference", 12345, 1, "val")


@pytest.mark.parametrize(
    ("n", "by_reference", "sizes", "val"),
    [
        (29, True, (23, 6), 3),  # LIVE
        (30, True, (24, 6), 3),  # CSIQ
        (25, True, (20, 5), 2),  # TID2013
        (81, True, (65, 16), 8),  # KADID-10k
        (15, True, (12, 3), 2),  # LIVE-MD
        (586, False, (469, 117), 59),  # BID
        (1162, False, (930, 232), 116),  # LIVE Challenge
        (10073, False, (8058, 2015), 1007),  # KonIQ-10k
        (11125, False, (8900, 2225), 1112),  # SPAQ
    ],
)
def test_sizes(n, by_reference, sizes, val):
    d = references(n) if by_reference else pictures(n)
    legacy, honest = make_split(d, selection="legacy"), make_split(d)
    assert (len(legacy.train), len(legacy.test)) == sizes and legacy.val == legacy.test
    assert (len(honest.train), len(honest.val)) == (sizes[0] - val, val)
    assert honest.test == legacy.test and sorted(honest.train + honest.val) == legacy.train
    assert not set(honest.train) & set(honest.val)
    assert honest.name == ("80/20 by reference" if by_reference else "80/20 by image")


def test_val_is_the_end_of_the_shuffled_training_list():
    import random

    order = list(range(81))
    random.Random(3 * 12345).shuffle(order)
    d = references(81)
    s = make_split(d, round=3)
    assert names(d, s.val) == {f"r{i}" for i in order[57:65]} and names(d, s.test) == {f"r{i}" for i in order[65:]}


def test_no_reference_is_in_two_parts():
    d = references(10, each=7)
    s = make_split(d, round=4)
    parts = [names(d, p) for p in (s.train, s.val, s.test)]
    assert [len(p) for p in parts] == [7, 1, 2] and len(set.union(*parts)) == 10
    assert len(s.train + s.val + s.test) == 70


def test_a_record_without_reference_among_others_is_its_own_unit():
    d = references(9, each=2)
    d = dataclasses.replace(d, records=[*d.records, Record("x", 1.0, "x"), Record("y", 1.0, "y")])
    s = make_split(d, selection="legacy")
    assert sorted(s.train + s.test) == list(range(20))


def test_train_only_references_are_in_train_only():
    d = dataclasses.replace(references(8, each=3), train_only=frozenset({"r0", "r5", "r7"}))
    for round_ in range(1, 8):
        for selection in ("val", "legacy"):
            s = make_split(d, round_, selection)
            assert {"r0", "r5", "r7"} <= names(d, s.train)
            assert not {"r0", "r5", "r7"} & (names(d, s.val) | names(d, s.test))
            assert len(names(d, s.test)) == 1  # of five units


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_units_are_refused_with_a_sentence(n):
    with refused(ConfigError, "empty", "refs", f"{n} reference", "3"):
        make_split(references(n, each=50))
    s = make_split(references(3))
    assert [len(s.train), len(s.val), len(s.test)] == [1, 1, 1]


def test_official_split():
    parts = {"train": [0, 1, 2], "val": [3], "test": [4, 5]}
    d = dataclasses.replace(pictures(6), official_split=parts)
    s, legacy = make_split(d), make_split(d, selection="legacy")
    assert (s.train, s.val, s.test, s.name, s.seed) == ([0, 1, 2], [3], [4, 5], "official", None)
    assert (legacy.train, legacy.val, legacy.test) == ([0, 1, 2, 3], [4, 5], [4, 5])
    assert d.official_split == {"train": [0, 1, 2], "val": [3], "test": [4, 5]}
    with refused(ConfigError, "not_found", "config.split.round", "2"):
        make_split(d, round=2)


def test_fingerprint_names_the_pictures_of_each_part():
    d = references(20, each=2)
    s = make_split(d)
    assert len(s.fingerprint) == 12 and int(s.fingerprint, 16) >= 0
    assert make_split(references(20, each=2)).fingerprint == s.fingerprint
    assert len({make_split(d, r, sel).fingerprint for r in range(1, 6) for sel in ("val", "legacy")}) == 10


def test_no_file_is_no_file():
    assert make_split(references(20), 3, "legacy", file="") == make_split(references(20), 3, "legacy")


def test_an_official_split_of_two_parts_tests_on_the_second():
    d = dataclasses.replace(
        pictures(20), official_split={"train": list(range(15)), "val": [*range(15, 20)], "test": []}
    )
    honest, legacy = make_split(d), make_split(d, selection="legacy")
    assert honest.test == legacy.test == legacy.val == [15, 16, 17, 18, 19] and legacy.train == list(range(15))
    assert len(honest.val) == 2 and sorted(honest.train + honest.val) == list(range(15))
    assert d.official_split["test"] == []


@pytest.mark.parametrize("bad", [{"selection": "test"}, {"round": 0}])
def test_bad_arguments(bad):
    ((argument, value),) = bad.items()
    with refused(ConfigError, "value", f"config.split.{argument}", repr(value)):
        make_split(references(10), **bad)
