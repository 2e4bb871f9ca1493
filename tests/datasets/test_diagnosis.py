"""The doctor's findings on labels, names and label files: complete datasets have no faults, known traps are found."""

import csv
import shutil

import numpy as np
import pytest
import scipy.io
from refused import refused

from jaxiqa.datasets import facts, load
from jaxiqa.datasets.doctor.diagnosis import by_levels, examine, look, read, recognise
from jaxiqa.datasets.doctor.published import Known, compare_labels
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import DataError

KNOWN = facts("KNOWN")


def diagnose(name, folder, **options):
    """The findings as {(check, result): text, places and fix}."""
    dataset, findings = read(name, folder, options)
    if dataset:
        findings = [*findings, *examine(dataset), *look(dataset, folder, options)]
    said = {}
    for f in findings:
        said.setdefault((f.check, f.result), []).append(" ".join((f.what, *f.where, f.fix)))
    return {key: "; ".join(texts) for key, texts in said.items()}


def faults(said):
    return {check: text for (check, result), text in said.items() if result == "fault"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n == "flive" else []) for n in KNOWN])
def test_whole_datasets_are_recognised_and_clean(name, tree):
    options = {"official_split": False} if name == "koniq10k" else {}
    assert recognise(tree(name)) == name
    said = diagnose(name, tree(name), **options)
    assert faults(said) == {}, said
    assert "count, least, greatest and mean are the owners'" in said["labels", "ok"]
    word = "higher is better" if load(name, tree(name), **options).higher_is_better else "lower is better"
    assert said["direction", "ok"].startswith(word)


def test_folders_without_known_labels(tmp_path, pictures):
    with refused(DataError, "missing", tmp_path, "jaxiqa doctor NAME"):
        recognise(tmp_path)
    with refused(DataError, "not_found", tmp_path / "nowhere"):
        recognise(tmp_path / "nowhere")
    assert recognise(pictures) == "folder"
    (tmp_path / "dmos.csv").touch()
    (tmp_path / "labels_image.csv").touch()
    with refused(DataError, "missing", tmp_path, "flive and kadid10k"):
        recognise(tmp_path)


def test_labels_of_the_owners_on_another_scale_or_turned_over():
    mos = np.random.default_rng(0).beta(4, 2, 1000) * 80 + 5
    known = Known(11_125, f"{mos.min():.3f}", f"{mos.max():.3f}", f"{mos.mean():.3f}")
    assert compare_labels(known, mos) == ""
    assert compare_labels(known, mos / 20 - 1).endswith("the owners' labels on another scale")
    assert compare_labels(known, 100 - mos).endswith("the owners' labels inverted (best and worst swapped)")
    other = compare_labels(known, np.sqrt(mos))
    assert f"mean {np.sqrt(mos).mean():.6g}, not {known.least}..{known.greatest}" in other and "owners" not in other


@pytest.fixture
def kadid10k(tree, tmp_path):
    """A function that rewrites dmos.csv in a copy of the tree, and returns its folder."""
    root = tmp_path / "kadid10k"
    root.mkdir()
    (root / "images").symlink_to(tree("kadid10k") / "images")
    with open(tree("kadid10k") / "dmos.csv") as f:
        rows = list(csv.DictReader(f))

    def change(column="var", **changes):
        lines = [f"dist_img,ref_img,dmos,{column}"]
        for row in rows:
            row = {k: changes.get(k, lambda x: x)(v) for k, v in row.items()}
            lines.append(",".join(row.values()))
        (root / "dmos.csv").write_text("\n".join(lines))
        return root

    return change


def test_kadid10k_turned_over(kadid10k):
    said = diagnose("kadid10k", kadid10k(dmos=lambda x: f"{5.93 - float(x):.2f}"))
    assert "inverted" in said["labels", "fault"]
    assert said["direction", "fault"].startswith("the levels contradict higher is better: mean label")


def test_kadid10k_on_another_scale(kadid10k):
    said = diagnose("kadid10k", kadid10k(dmos=lambda x: f"{1 + (float(x) - 1) / 2:.3f}"))
    assert "the owners' labels on another scale" in said["labels", "fault"]
    said = diagnose("kadid10k", kadid10k(dmos=lambda x: f"{9 * (float(x) - 1) / 4:.3f}"))
    assert "labels outside 1..5" in said["labels", "fault"] and "another scale" in said["labels", "fault"]


def test_kadid10k_variances(kadid10k):
    assert ("labels", "note") not in diagnose("kadid10k", kadid10k())
    assert "std holds variances" in diagnose("kadid10k", kadid10k("std"))["labels", "note"]
    said = diagnose("kadid10k", kadid10k(var=lambda x: f"{float(x) ** 0.5:.3f}"))
    assert "var holds standard deviations" in said["labels", "note"] and not faults(said)


def test_live_before_its_realignment(tree, tmp_path):
    root = tmp_path / "live"
    shutil.copytree(tree("live"), root)
    said = diagnose("live", root)
    assert "dmos.mat" in said["labels", "note"] and not faults(said)
    old = scipy.io.loadmat(root / "dmos.mat")
    names = {"dmos_new": 90 * np.sqrt((50 + old["dmos"]) / 120), "dmos_std": old["dmos"], "orgs": old["orgs"]}
    scipy.io.savemat(root / "dmos_realigned.mat", names)
    assert "hold the scores before their realignment" in diagnose("live", root)["labels", "fault"]
    (root / "dmos_realigned.mat").unlink()
    assert "has no dmos_realigned.mat" in diagnose("live", root)["folder", "fault"]


def test_koniq10k_on_the_scale_of_five(tree, tmp_path):
    root = tmp_path / "koniq10k"
    root.mkdir()
    (root / "512x384").symlink_to(tree("koniq10k") / "512x384")
    with open(tree("koniq10k") / "koniq10k_scores_and_distributions.csv") as f:
        scores = {row["image_name"]: row["MOS"] for row in csv.DictReader(f)}
    with open(tree("koniq10k") / "koniq10k_distributions_sets.csv") as f:
        lines = [f"{row['image_name']},{scores[row['image_name']]},{row['set']}" for row in csv.DictReader(f)]
    (root / "koniq10k_distributions_sets.csv").write_text("\n".join(["image_name,MOS,set", *lines]))
    said = diagnose("koniq10k", root)
    assert "labels on the 1..5 scale, not z-scores" in said["labels", "fault"]
    assert "whose MOS is the z-score" in said["labels", "fault"]


def test_the_readers_faults_come_with_their_counts_and_the_rest_is_looked_at(tree):
    lost = load("csiq", tree("csiq")).records[17].path
    shutil.move(lost, lost + "x.png")
    try:
        said = diagnose("csiq", tree("csiq"))
    finally:
        shutil.move(lost + "x.png", lost)
    assert said["counts", "fault"].startswith("1 missing images") and "unpack the owners'" in said["counts", "fault"]
    assert said["names", "fault"].startswith("1 extra images")
    assert "865 of 866 images" in said["labels", "note"] and said["direction", "ok"].startswith("lower is better")


def write_table(folder, name, header, rows):
    for row in rows:
        (folder / row.split(",")[1 if header.startswith("ref") else 0]).touch()
    (folder / name).write_text("\n".join([header, *rows]))
    return folder


def test_headings_of_pyiqa_mislead(tmp_path):
    rows = [f"r{i % 4}.bmp,img{i}.bmp,{10 * i}" for i in range(8)]
    live = write_table(tmp_path, "meta_info_LIVEIQADataset.csv", "ref_name,dist_name,mos", rows)
    assert recognise(live) == "pyiqa"
    said = diagnose("pyiqa", live, score_range=(0, 100), higher_is_better=True)
    assert "set higher_is_better=False" in said["direction", "fault"]
    said = diagnose("pyiqa", live, score_range=(0, 100), higher_is_better=False)
    assert not faults(said) and "before their realignment" in said["labels", "note"]
    (tmp_path / "meta_info_LIVEIQADataset.csv").unlink()

    rows = [f"r{i % 4}.png,I{i}.png,{1 + i / 2},1.5" for i in range(8)]
    kadid = write_table(tmp_path, "meta_info_KADID10kDataset.csv", "ref_name,dist_name,dmos,std", rows)
    said = diagnose("pyiqa", kadid, score_range=(1, 5), higher_is_better=False)
    assert "the table is that of kadid10k" in said["direction", "fault"]
    said = diagnose("pyiqa", kadid, score_range=(1, 5), higher_is_better=True)
    assert not faults(said) and "std holds variances" in said["labels", "note"]
    (tmp_path / "meta_info_KADID10kDataset.csv").unlink()

    rows = [f"{i}.jpg,{1 + i / 2}" for i in range(8)]
    koniq = write_table(tmp_path, "meta_info_KonIQ10kDataset.csv", "img_name,mos", rows)
    said = diagnose("pyiqa", koniq, score_range=(0, 100), higher_is_better=True)
    assert "less than a tenth of the scale" in said["labels", "fault"]
    assert "these are MOS of 1..5" in said["labels", "note"]


def test_columns_of_a_folder(tmp_path):
    rows = [f"{i}.png,{20 + i * 9},c{i // 2}" for i in range(8)]
    folder = write_table(tmp_path, "index.csv", "path,DMOS,content", rows)
    options = {"label_column": "DMOS", "score_range": (0, 100)}
    said = faults(diagnose("folder", folder, **options))
    assert set(said) == {"contents", "direction"}
    assert "column 'content' names 4 contents of 8 images" in said["contents"]
    assert "set group_column=content" in said["contents"] and "higher_is_better=False" in said["direction"]
    said = diagnose("folder", folder, **options, group_column="content", higher_is_better=False)
    assert not faults(said) and "lower is better, as set" in said["direction", "note"]
    (tmp_path / "stray.jpg").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/1.PNG").touch()
    said = diagnose("folder", folder, **options, group_column="content", higher_is_better=False)
    assert "2 images have no row stray.jpg sub/1.PNG" in said["counts", "note"]


def test_practice_pictures(tmp_path):
    rows = [f"t{i}.bmp,{i}" for i in range(1, 8)] + [f"{i}.bmp,{i * 9}" for i in range(8)]
    said = diagnose("folder", write_table(tmp_path, "index.csv", "path,mos", rows), score_range=(0, 100))
    assert "LIVE Challenge's practice images" in faults(said)["names"]


def rated(labels, levels=(), ids=(), higher_is_better=True):
    ids, levels = ids or [f"{i}.png" for i in range(len(labels))], levels or [0] * len(labels)
    records = [Record("", mos, id_, level=level) for mos, id_, level in zip(labels, ids, levels, strict=True)]
    return Dataset("folder", records, (1.0, 5.0), higher_is_better)


def test_levels_tell_the_direction():
    falling, levels = [4.5, 4.4, 4.6, 3, 3, 3, 2, 2, 1.5], [1, 1, 1, 2, 2, 2, 5, 5, 5]
    assert by_levels(rated(falling, levels)).result == "ok"
    turned = by_levels(rated(falling, levels, higher_is_better=False))
    assert turned.result == "fault" and "set higher_is_better=True" in turned.fix
    assert by_levels(rated(falling[::-1], levels)).result == "fault"
    assert by_levels(rated([3.0] * 9, levels)) is None  # does not depend on the level
    assert by_levels(rated(falling)) is None  # no levels
    assert by_levels(rated(falling, [0, 0, *levels[2:]])) is None  # too few


def test_labels_and_names():
    found = {(f.check, f.result): f.what for f in examine(rated([3.0, 3.0, 3.0], ids=["a.png", "A.png", "b\n.png"]))}
    assert "less than a tenth of the scale" in found["labels", "fault"]
    assert "1 names differ from another one only in case" in found["names", "fault"]
    found = {(f.check, f.result): f.what for f in examine(rated([1.5, 4.0], ids=["a.png", "b\n.png"]))}
    assert found["contents", "fault"] == "2 images, each with its own content"
    assert found["names", "note"] == "1 names have characters that cannot be printed"


def test_pictures_that_nobody_rated():
    pool = rated([float("nan")] * 4)
    assert [(f.check, f.result) for f in examine(pool)] == [("names", "ok"), ("labels", "note")]
