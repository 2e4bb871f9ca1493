"""AGIQA-3K: prompts and generators, images in a folder of their own, and other tables of the same name."""

import collections

import pytest
from owners_rows import owners_only
from refused import refused

from jaxiqa.datasets import checks, load
from jaxiqa.errors import DataError

HEADER = "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align"


@owners_only
def test_full_size(tree):
    d = load("agiqa3k", tree("agiqa3k"))
    first = d.records[0]
    assert (first.id, first.mos, first.std) == ("AttnGAN_normal_000.jpg", 0.965602553, 0.223270101)
    assert (first.reference, first.distortion) == ("statue of a man", "AttnGAN")
    counts = {"sd1.5": 1200, "midjourney": 592, "AttnGAN": 300, "glide": 300, "xl2.2": 300, "DALLE2": 290}
    assert collections.Counter(r.distortion for r in d.records) == counts


def test_spread_and_wording(tree, labels):
    stds = {row.name: row.std for row in labels("agiqa3k")}
    assert {r.id: r.std for r in load("agiqa3k", tree("agiqa3k")).records} == stds


def test_images_in_a_folder_of_their_own(tree, tmp_path):
    (tmp_path / "data.csv").symlink_to(tree("agiqa3k") / "data.csv")
    (tmp_path / "images").symlink_to(tree("agiqa3k"))
    assert load("agiqa3k", tmp_path).fingerprint == load("agiqa3k", tree("agiqa3k")).fingerprint


def test_a_table_of_another_dataset_is_not_taken_for_it(tmp_path):
    (tmp_path / "data.csv").write_text("path,mos\na.png,3\n")
    assert checks.recognised(tmp_path) == []
    (tmp_path / "data.csv").write_text(f"{HEADER}\n")
    assert checks.recognised(tmp_path) == ["agiqa3k"]


def test_bad_rows(tmp_path):
    (tmp_path / "glide_normal_000.jpg").touch()
    rows = ["glide_normal_000.jpg,a cat,,,,5.5,0.5,2,1", "glide_normal_000.jpg,a cat,,,,,0.5,2,1"]
    (tmp_path / "data.csv").write_text("\n".join([HEADER, *rows]))
    with refused(DataError, "faults", tmp_path, "data.csv:2 5.5", "data.csv:3") as e:
        load("agiqa3k", tmp_path)
    kinds = [fault.kind for fault in e.value.faults]
    assert kinds == [
        k.text for k in (checks.outside(0, 5), checks.EMPTY_LABELS, checks.REPEATED_ROWS, checks.WRONG_COUNTS)
    ]


@pytest.mark.parametrize("alias", ["AGIQA-3k", "agiqa_3k"])
def test_spellings_of_others(alias, tree):
    assert load(alias, tree("agiqa3k")).name == "agiqa3k"
