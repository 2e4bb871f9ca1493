"""TID2008: the smaller sibling of TID2013, in the same form."""

import collections

import pytest
from faulty import faulty
from owners_rows import owners_only

from jaxiqa.datasets import checks, load
from jaxiqa.datasets.readers import tid2008, tid2013


@owners_only
def test_full_size(tree):
    d = load("tid2008", tree("tid2008"))
    assert list(dict.fromkeys(r.reference for r in d.records)) == [f"I{i:02d}" for i in range(1, 26)]
    assert set(collections.Counter(r.reference for r in d.records).values()) == {68}
    assert set(collections.Counter((r.distortion, r.level) for r in d.records).values()) == {25}
    first, last = d.records[0], d.records[-1]
    assert (first.id, first.mos, first.distortion, first.level) == ("i01_01_1.bmp", 5.9706, "gaussian_noise", 1)
    assert (last.id, last.mos, last.reference, last.distortion) == ("i25_17_4.bmp", 3.5, "I25", "contrast_change")


def test_its_types_are_the_first_of_tid2013():
    assert tid2013.DISTORTIONS[:17] == tid2008.DISTORTIONS


def test_names_are_compared_without_case(tree):
    by_id = {r.id: r.path.split("/")[-1] for r in load("tid2008", tree("tid2008")).records}
    assert by_id["i01_01_1.bmp"] == "i01_01_1.bmp"  # I01_01_1.bmp in the list
    assert by_id["i07_05_2.bmp"] == "I07_05_2.BMP"


@pytest.mark.parametrize(("name", "other"), [("tid2008", "tid2013"), ("tid2013", "tid2008")])
def test_the_sibling_is_refused(name, other, tree):
    strange, lost = "I25_17_4.bmp", checks.NO_ROWS  # rows and images of TID2013 alone
    with faulty(tree(other), {strange if name == "tid2008" else lost: 1_300}) as e:
        load(name, tree(other))
    kinds = [fault.kind for fault in e.value.faults]
    assert (lost.text in kinds) == (name == "tid2013") != any(".bmp" in kind for kind in kinds)
