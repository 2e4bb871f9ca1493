"""CSIQ: counts, direction, and the label files and folders in which it is found."""

import collections
import random

import numpy as np
import pytest
from faulty import faulty
from owners_rows import owners_only
from refused import refused

from jaxiqa.datasets import checks, load
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import DataError


def beta_rows(labels):
    """Rows of csiq.beta.txt: reference, its number, type, level, spread, label; the last two with three decimals."""
    rows, types = [], {"awgn": "noise"}
    for row in labels("csiq"):
        type_ = row.name.split(".")[1].lower()
        rows.append([row.reference, "7", types.get(type_, type_), str(row.level), f"{row.std:.3f}", f"{row.mos:.3f}"])
    return rows


@owners_only
def test_full_size(tree):
    d = load("csiq", tree("csiq"))
    mos = np.array([r.mos for r in d.records])
    assert len(d) == 866 and not d.higher_is_better and d.score_range == (0.0, 1.0)
    assert (mos.min(), mos.max()) == (0.0, 1.0) and abs(mos.mean() - 0.351) < 5e-4
    count = collections.Counter(r.distortion for r in d.records)
    assert count == {"awgn": 150, "blur": 150, "contrast": 116, "fnoise": 150, "jpeg": 150, "jpeg2000": 150}
    by_id = {r.id: r for r in d.records}
    r = by_id["1600.awgn.5.png"]
    assert (r.mos, r.reference, r.distortion, r.level) == (0.46748, "1600", "awgn", 5)
    assert r.path == str(tree("csiq") / "dst_imgs/awgn/1600.AWGN.5.png")


def test_lower_is_better(tree):
    d = load("csiq", tree("csiq"))
    blur = [r.mos for r in d.records if r.reference == d.records[-1].reference and r.distortion == "blur"]
    assert blur == sorted(blur) and list(d.scale.to_score01(blur)) == sorted(d.scale.to_score01(blur), reverse=True)


def test_references_come_in_reverse_order(tree):
    references = list(dict.fromkeys(r.reference for r in load("csiq", tree("csiq")).records))
    assert len(references) == 30 and references == sorted(references, reverse=True) and references[-1].isdigit()


def test_round_1_is_drawn_from_the_reversed_list(tree):
    d = load("csiq", tree("csiq"))
    backwards, order = sorted({r.reference for r in d.records}, reverse=True), list(range(30))
    random.Random(12345).shuffle(order)
    assert {d.records[i].reference for i in make_split(d).test} == {backwards[i] for i in order[24:]}


def test_row_numbers_of_others_count_the_label_file(tree, labels):
    names = [row.name for row in labels("csiq")]
    d = load("csiq", tree("csiq"))
    assert d.listed == [name.lower() for name in names] != [r.id for r in d.records]


@pytest.mark.parametrize(
    "place",
    ["dst_imgs/{name}", "dst_imgs_all/{name}", "all_dis_imgs/{name}", "dst_imgs/{TYPE}/{name}"],
    ids=["flat", "dst_imgs_all", "all_dis_imgs", "upper-case"],
)
def test_other_layouts(tree, tmp_path, place):
    d = load("csiq", tree("csiq"))
    for r in d.records:
        name = r.path.split("/")[-1]
        path = tmp_path / place.format(name=name, TYPE=name.split(".")[1].upper())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "csiq_label.txt").write_text((tree("csiq") / "csiq_label.txt").read_text())
    assert load("csiq", tmp_path).fingerprint == d.fingerprint


@owners_only
def test_the_released_label_files_agree(tree, tmp_path, shared):
    (tmp_path / "dst_imgs").symlink_to(tree("csiq") / "dst_imgs")
    (tmp_path / "csiq.beta.txt").write_text((shared / "data/labels/UNIQUE/csiq.beta.txt").read_text())
    beta, exact = load("csiq", tmp_path), load("csiq", tree("csiq"))
    assert [r.id for r in beta.records] == [r.id for r in exact.records]
    assert max(abs(a.mos - b.mos) for a, b in zip(beta.records, exact.records, strict=True)) < 1.001e-3


def test_label_files_agree(tree, labels, tmp_path, workbook):
    (tmp_path / "dst_imgs").symlink_to(tree("csiq") / "dst_imgs")
    (tmp_path / "csiq.beta.txt").write_text("\n".join("\t".join(row) for row in beta_rows(labels)))
    beta = load("csiq", tmp_path)
    exact = load("csiq", tree("csiq"))
    assert [r.id for r in beta.records] == [r.id for r in exact.records]
    assert max(abs(a.mos - b.mos) for a, b in zip(beta.records, exact.records, strict=True)) < 1.001e-3

    types = {"noise": "awgn", "jpeg2000": "jpeg 2000"}
    rows = [["image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"]]
    for ref, index, type_, level, std, dmos in beta_rows(labels):
        ref = int(ref) if ref.isdigit() else ref
        rows.append([ref, int(index), types.get(type_, type_), int(level), float(std), float(dmos)])
    workbook(tmp_path / "csiq.DMOS.xlsx", {"other": [], "all_by_image": rows}, column="D", row=4)
    (tmp_path / "csiq.beta.txt").unlink()
    assert load("csiq", tmp_path).fingerprint == beta.fingerprint


def test_workbooks_that_cannot_be_read(tree, tmp_path, workbook):
    (tmp_path / "dst_imgs").symlink_to(tree("csiq") / "dst_imgs")
    file = tmp_path / "csiq.DMOS.xlsx"
    file.write_text("<html>not found</html>")
    with refused(DataError, "format", file):
        load("csiq", tmp_path)
    workbook(file, {"other": [], "sheet of another": [["image", "dmos"]]})
    with refused(DataError, "not_found", file, "'all_by_image'", "other, sheet of another"):
        load("csiq", tmp_path)
    workbook(file, {"all_by_image": [["image", "dmos"]]})
    with refused(DataError, "missing", file, "image, dst_type, dst_lev, dmos"):
        load("csiq", tmp_path)


def test_piece(shared):
    d = load("csiq", shared / "data/official_samples/CSIQ", allow_partial=True)
    assert [(r.distortion, r.level, r.mos) for r in d.records] == [
        ("awgn", 1, 0.061989),
        ("awgn", 2, 0.206245),
        ("awgn", 3, 0.262122),
        ("awgn", 4, 0.374632),
        ("awgn", 5, 0.46748),
        ("blur", 1, 0.042668),
        ("blur", 2, 0.142435),
        ("blur", 3, 0.341114),
        ("blur", 4, 0.471038),
        ("blur", 5, 0.749795),
    ]
    folder = shared / "data/official_samples/CSIQ"
    with faulty(folder, {checks.WRONG_COUNTS: {"5 rows of awgn instead of 150"}}):
        load("csiq", folder)


def test_bad_rows(tree, tmp_path):
    (tmp_path / "dst_imgs").symlink_to(tree("csiq") / "dst_imgs")
    lines = (tree("csiq") / "csiq_label.txt").read_text().splitlines()
    first = lines[0].split(".")[0]
    lines[0] = f"{first}.AWGN.1.png 1.5"
    lines[1] = f"{first}.AWGN.6.png 0.2"
    lines[2] = "1600-AWGN.png 0.2"
    lines[4] = lines[3]
    (tmp_path / "csiq_label.txt").write_text("\n".join(lines))
    expected = {
        checks.outside(0, 1): ["csiq_label.txt:1 1.5"],
        "level 1..5": ["csiq_label.txt:2 AWGN 6"],
        "1600.AWGN.1.png": ["csiq_label.txt:3 1600-AWGN.png"],
        checks.REPEATED_ROWS: [f"csiq_label.txt:5 {first}.awgn.4.png"],
        checks.WRONG_COUNTS: {"147 rows of awgn instead of 150"},
    }
    with faulty(tmp_path, expected):
        load("csiq", tmp_path)
