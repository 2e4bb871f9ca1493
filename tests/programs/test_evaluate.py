"""jaxiqa evaluate: the same numbers as the test at the end of training, other datasets, refusals."""

import csv
import json
import shutil

import numpy as np
import pytest
from etils import epath
from tiny_run import check_refusals, filled, run_program, trained_config

from jaxiqa.evaluation import metrics
from jaxiqa.models import ready
from jaxiqa.train import train


def test_the_test_part_again(trained, tmp_path):
    """On the dataset of the checkpoint, all files equal those of training."""
    workdir, _ = trained
    done = run_program("evaluate", "--checkpoint", workdir, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    ours, theirs = (json.loads((folder / "report.json").read_text()) for folder in (tmp_path, workdir))
    for key in theirs.keys() - {"seed"}:
        same = theirs[key]
        assert ours[key] == (pytest.approx(same, abs=1e-5) if isinstance(same, float) else same), key
    for name in ("scatter_test.png", "contact_sheet_test.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert ours["split_fingerprint"] in done.stdout and "selection val" in done.stdout


def test_another_dataset_is_scored_whole(trained, pictures, tmp_path):
    """The ratings have another scale and direction: rmse is on that scale, native on the scale of the training set."""
    other, output = tmp_path / "other", tmp_path / "out"
    shutil.copytree(pictures, other)
    with open(other / "index.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(other / "dmos.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "dmos"])
        writer.writerows([row["path"], 100 - 20 * float(row["mos"])] for row in rows)
    done = run_program(
        "evaluate", "--checkpoint", trained[0], "--dataset", "folder", "--data_dir", other, "--part", "all",
        "--option", "csv=dmos.csv", "--option", "label_column=dmos", "--option", "higher_is_better=False",
        "--option", "score_range=(0, 100)", "--option", "group_column=", "--output", output, "--crops", "random:2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((output / "report.json").read_text())
    with open(output / "predictions_all.csv", newline="") as file:
        table = list(csv.DictReader(file))
    score, native, mos = (np.array([float(row[name]) for row in table]) for name in ("score", "native", "mos"))
    assert report["n"] == 15 and report["split"] == "all images" and report["crops"] == "random:2"
    np.testing.assert_allclose(native, 1 + 4 * score / 100)
    assert report["rmse"] == pytest.approx(metrics.rmse(100 - score, mos))
    assert report["srcc"] == pytest.approx(metrics.srcc(score, -mos))
    fit = report["plcc_logistic4"]
    assert fit["plcc"] == pytest.approx(metrics.plcc(score, mos, fit="logistic4")) and fit["converged"] in (True, False)


def test_the_weights_that_ship(pictures, tmp_path):
    """They are tested without --checkpoint, and nothing is written beside them."""
    before = sorted(ready.FOLDER.rglob("*"))
    done = run_program("evaluate", "--dataset", "folder", "--data_dir", pictures, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"ready"' in done.stderr
    output = tmp_path / "evaluation" / "folder_all"
    assert json.loads((output / "report.json").read_text())["model"] == ready.MODEL
    with open(output / "predictions_all.csv", newline="") as file:
        assert {row["native"] for row in csv.DictReader(file)} == {""}
    assert sorted(ready.FOLDER.rglob("*")) == before


def test_a_dataset_that_is_too_small_to_split(trained, pictures, tmp_path):
    """Its correlations are undefined, and null in JSON."""
    for name in ("0.png", "1.png"):
        shutil.copy(pictures / name, tmp_path / name)
    (tmp_path / "index.csv").write_text("path,mos\n0.png,4.5\n1.png,3.5\n")
    done = run_program(
        "evaluate", "--checkpoint", trained[0], "--dataset", "folder", "--data_dir", tmp_path, "--part", "all",
        "--option", "group_column=", "--output", tmp_path / "o",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "o" / "report.json").read_text()
    report = json.loads(text, parse_constant=lambda constant: pytest.fail(constant))
    assert report["n"] == 2 and report["srcc"] is None and report["split"] == "all images"


def test_a_changed_dataset_is_refused(trained, pictures, tmp_path):
    """It has another split, so test images may have been trained on."""
    other = tmp_path / "changed"
    shutil.copytree(pictures, other)
    lines = (other / "index.csv").read_text().splitlines()
    (other / "index.csv").write_text("\n".join(lines[:-3]) + "\n")
    for i in (12, 13, 14):
        (other / f"{i}.png").unlink()
    done = run_program("evaluate", "--checkpoint", trained[0], "--data_dir", other)
    assert done.returncode == 3 and "--part all" in done.stderr
    assert json.loads((trained[0] / "split.json").read_text())["fingerprint"] in done.stderr


def test_images_that_were_trained_on_are_refused_without_part(trained, pictures):
    done = run_program(
        "evaluate",
        "--checkpoint",
        trained[0],
        "--dataset",
        "folder",
        "--data_dir",
        pictures,
        "--option",
        "group_column=",
    )
    assert done.returncode == 3 and "12 of 15 images" in done.stderr and "--part all" in done.stderr


def test_a_dataset_that_moved(pictures, tmp_path):
    """Its fingerprint says that it is the dataset of the training, whose images are not tested."""
    own, moved, workdir = tmp_path / "own", tmp_path / "moved", epath.Path(tmp_path / "run")
    shutil.copytree(pictures, own)  # other processes read the shared folder
    train(trained_config(own), workdir)
    own.rename(moved)
    lost = run_program("evaluate", "--checkpoint", workdir)
    ungrouped = ["--dataset", "folder", "--data_dir", moved, "--option", "group_column="]
    leak = run_program("evaluate", "--checkpoint", workdir, *ungrouped)
    assert lost.returncode == 3 and "--data_dir" in lost.stderr and str(own) in lost.stderr
    assert leak.returncode == 3 and "12 of 15 images" in leak.stderr


REFUSED = [
    ([], 2, "--checkpoint"),
    (["--checkpoint=none"], 4, "none"),
    (["--checkpoint={workdir}", "--option=csv"], 2, "--option csv", "KEY=VALUE"),
    (["--checkpoint={workdir}", "--dataset=koniq", "--data_dir=launch"], 3, "launch", "How to get it"),
    (["--checkpoint={workdir}", "--dataset=kodak"], 2, "kodak"),
    (["--checkpoint={workdir}", "--part=tests"], 2, "--part=tests"),
]


def test_refusals(trained):
    check_refusals("evaluate", filled(REFUSED, workdir=trained[0]))
