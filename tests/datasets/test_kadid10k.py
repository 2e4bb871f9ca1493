"""KADID-10k: counts, direction, names, and folders that are not whole."""

import collections
import csv

import numpy as np
from faulty import faulty
from owners_rows import owners_only
from refused import refused

from jaxiqa.datasets import checks, load
from jaxiqa.datasets.readers import kadid10k
from jaxiqa.datasets.splits import make_split
from jaxiqa.distortions import DISTORTIONS
from jaxiqa.errors import DataError


def edited(root, tmp_path, edit):
    """A copy of the tree whose dmos.csv went through `edit`, a function of the list of its lines."""
    (tmp_path / "images").symlink_to(root / "images")
    (tmp_path / "dmos.csv").write_text("\n".join(edit((root / "dmos.csv").read_text().splitlines())))
    return tmp_path


@owners_only
def test_full_size(tree, shared):
    d = load("kadid10k", tree("kadid10k"))
    mos = np.array([r.mos for r in d.records])
    assert len(d) == 10_125 and (mos.min(), mos.max()) == (1.0, 4.93) and abs(mos.mean() - 3.0326) < 5e-5
    assert d.score_range == (1.0, 5.0) and d.train_only == frozenset() and d.official_split is None
    assert set(collections.Counter(r.reference for r in d.records).values()) == {125}
    assert list(dict.fromkeys(r.reference for r in d.records)) == [f"I{i:02d}" for i in range(1, 82)]
    assert set(collections.Counter((r.distortion, r.level) for r in d.records).values()) == {81}
    assert len({r.distortion for r in d.records}) == 25
    last = d.records[-1]
    assert (last.id, last.reference, last.distortion, last.level) == ("I81_25_05.png", "I81", "contrast_change", 5)
    assert last.path == str(tree("kadid10k") / "images/I81_25_05.png")
    with open(shared / "data/labels/icbcbicc_IQA-Dataset/KADID-10k.txt") as f:
        other = {row["dis_img_path"].split("/")[-1]: float(row["score"]) for row in csv.DictReader(f)}
    assert {r.id: r.mos for r in d.records} == other


def test_labels_alone(tree, tmp_path):
    """dmos.csv without images, for label transfer; the labels are the same."""
    (tmp_path / "dmos.csv").write_bytes((tree("kadid10k") / "dmos.csv").read_bytes())
    d = load("kadid10k", tmp_path, labels_only=True)
    assert d.fingerprint == load("kadid10k", tree("kadid10k")).fingerprint
    with refused(DataError, "not_found", tmp_path / "images", "distorted_images"):
        load("kadid10k", tmp_path)
    edited = (tmp_path / "dmos.csv").read_text().splitlines()
    (tmp_path / "dmos.csv").write_text("\n".join(edited[:-1]))
    with faulty(tmp_path, {checks.NO_ROWS: ["I81_25_05.png"]}):
        load("kadid10k", tmp_path, labels_only=True)


def test_dmos_is_higher_better(tree):
    d = load("kadid10k", tree("kadid10k"))
    blur = [r.mos for r in d.records if r.reference == "I01" and r.distortion == "gaussian_blur"]
    assert blur == sorted(blur, reverse=True) and d.higher_is_better
    assert d.scale.to_score01(blur[0]) > d.scale.to_score01(blur[-1])


def test_round_1_tests_the_references_of_the_reference_code(tree):
    d = load("kadid10k", tree("kadid10k"))
    expected = [1, 15, 20, 22, 23, 24, 33, 34, 38, 45, 47, 53, 55, 72, 73, 77]  # counted from 0
    for selection in ("val", "legacy"):
        tested = {d.records[i].reference for i in make_split(d, 1, selection).test}
        assert tested == {f"I{i + 1:02d}" for i in expected}


def test_piece(shared):
    folder = shared / "data/official_samples/KADID10K"
    d = load("kadid10k", folder, allow_partial=True)
    assert [(r.id, r.mos, r.reference, r.distortion, r.level) for r in d.records] == [
        ("I01_01_02.png", 4.33, "I01", "gaussian_blur", 2),
        ("I01_01_05.png", 1.1, "I01", "gaussian_blur", 5),
        ("I01_06_05.png", 2.27, "I01", "colour_quantisation", 5),
        ("I01_15_05.png", 1.33, "I01", "denoise", 5),
        ("I02_01_03.png", 2.07, "I02", "gaussian_blur", 3),
    ]
    with faulty(folder, {checks.NO_ROWS: 10_120, checks.MISSING_IMAGES: 10_120}) as e:
        load("kadid10k", folder)
    assert all(fault.where[:2] == ("I01_01_01.png", "I01_01_03.png") for fault in e.value.faults)
    assert "kadid10k.zip" in str(e.value)


def test_partial_keeps_the_rows_whose_picture_is_there(tree, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/I07_03_02.png").touch()
    (tmp_path / "dmos.csv").write_text((tree("kadid10k") / "dmos.csv").read_text())
    assert [r.id for r in load("kadid10k", tmp_path, allow_partial=True).records] == ["I07_03_02.png"]
    with faulty(tmp_path, {checks.MISSING_IMAGES: 10_124}):
        load("kadid10k", tmp_path)


def test_layout_with_references_apart(tree, tmp_path):
    (tmp_path / "distorted_images").symlink_to(tree("kadid10k") / "images")
    (tmp_path / "dmos.csv").write_text((tree("kadid10k") / "dmos.csv").read_text())
    d = load("kadid10k", tmp_path)
    assert d.records[0].path == str(tmp_path / "distorted_images/I01_01_01.png")
    assert d.fingerprint == load("kadid10k", tree("kadid10k")).fingerprint


def test_row_order_does_not_matter(tree, tmp_path):
    d = load("kadid10k", edited(tree("kadid10k"), tmp_path, lambda lines: lines[:1] + lines[:0:-1]))
    assert [r.id for r in d.records] == [r.id for r in load("kadid10k", tree("kadid10k")).records]


def test_all_faults_at_once(tree, tmp_path):
    def edit(lines):
        lines[1] = "I01_01_01.png,I01.png,nan,0.5"
        lines[2] = "I01_01_02.png,I02.png,4.33,0.5"
        lines[3] = "I01_01_03.png,I01.png,26.7,0.5"
        lines[4] = "I01_01_05.png,I01.png,1.10,0.5"
        lines[6] = "I99_01_01.png,I99.png,1.10,0.5"
        return lines

    expected = {
        checks.NON_FINITE_LABELS: ["dmos.csv:2 'nan'"],
        "another reference": ["dmos.csv:3 I01_01_02.png I02.png"],
        checks.outside(1, 5): ["dmos.csv:4 26.7"],
        checks.REPEATED_ROWS: ["dmos.csv:6 I01_01_05.png"],
        "I81_25_05.png": ["dmos.csv:7 I99_01_01.png"],
        checks.NO_ROWS: ["I01_01_04.png", "I01_02_01.png"],
    }
    with faulty(tmp_path, expected):
        load("kadid10k", edited(tree("kadid10k"), tmp_path, edit))


def test_extra_pictures_are_listed(tree):
    extra = tree("kadid10k") / "images/I82_01_01.png"
    extra.touch()
    (tree("kadid10k") / "images/Thumbs.db").touch()
    try:
        with faulty(tree("kadid10k"), {checks.EXTRA_IMAGES: ["images/I82_01_01.png"]}) as e:
            load("kadid10k", tree("kadid10k"))
        assert len(e.value.faults) == 1
    finally:
        extra.unlink()


def test_types_are_named_as_in_the_distortions_room():
    assert len(kadid10k.DISTORTIONS) == 25
    assert {d.id: d.name for d in DISTORTIONS}.items() <= dict(enumerate(kadid10k.DISTORTIONS, 1)).items()


def test_names_and_numbers_in_another_form(tmp_path, capsys):
    """A list that a spreadsheet wrote on a disk with names in lower case, one folder further down than data_dir."""
    home = tmp_path / "download/kadid10k"
    (home / "Images").mkdir(parents=True)
    for name in ("i01.png", "i01_01_01.png", "i02_25_05.bmp"):
        (home / "Images" / name).touch()
    rows = ["sep=;", "Dist_Img;Ref_Img;DMOS;var", "images/i01_01_01.png;i01.PNG;4,57;0,496"]
    (home / "dmos.csv").write_text("\n".join([*rows, "I02_25_05.png;I02.png;2,1;1,5625"]))
    d = load("kadid10k", tmp_path, allow_partial=True)
    assert [(r.id, r.reference, r.mos, r.std) for r in d.records] == [
        ("I01_01_01.png", "I01", 4.57, 0.496**0.5),
        ("I02_25_05.png", "I02", 2.1, 1.25),
    ]
    assert [r.path for r in d.records] == [str(home / "Images" / n) for n in ("i01_01_01.png", "i02_25_05.bmp")]
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    for said in (str(home), "semicolons", "decimal commas", "names in another form", "Images for images", ".bmp for"):
        assert said in printed
