"""python -m jaxiqa.evaluate: the same numbers as training's own test, other datasets, refusals."""

import csv
import json
import shutil

import numpy as np
import pytest
from tiny_run import run_many, run_program

from jaxiqa.evaluation import metrics


def test_the_test_part_again(trained, tmp_path):
    """On the checkpoint's own dataset: what training reported, file for file."""
    workdir, _ = trained
    done = run_program("evaluate", "--checkpoint", workdir, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    ours, theirs = (json.loads((folder / "report.json").read_text()) for folder in (tmp_path, workdir))
    for key in theirs.keys() - {"seed"}:
        same = theirs[key]
        assert ours[key] == (pytest.approx(same, abs=1e-5) if isinstance(same, float) else same), key
    for name in ("scatter_test.png", "contact_sheet_test.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert f"split_fingerprint {ours['split_fingerprint']}".split()[1] in done.stdout and "selection val" in done.stdout


def test_another_dataset_is_scored_whole(trained, pictures, tmp_path):
    """Ratings of another scale and direction: rmse is on that scale, native on the training set's."""
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
    assert report["n"] == 15 and report["split"] == "all pictures" and report["crops"] == "random:2"
    np.testing.assert_allclose(native, 1 + 4 * score / 100)
    assert report["rmse"] == pytest.approx(metrics.rmse(100 - score, mos))
    assert report["srcc"] == pytest.approx(metrics.srcc(score, -mos))
    fit = report["plcc_logistic4"]
    assert fit["plcc"] == pytest.approx(metrics.plcc(score, mos, fit="logistic4")) and fit["converged"] in (True, False)


def test_a_dataset_that_has_changed_is_not_tested_on(trained, pictures, tmp_path):
    """Its split is another one, so that test pictures may have been trained on."""
    other = tmp_path / "changed"
    shutil.copytree(pictures, other)
    lines = (other / "index.csv").read_text().splitlines()
    (other / "index.csv").write_text("\n".join(lines[:-3]) + "\n")
    for i in (12, 13, 14):
        (other / f"{i}.png").unlink()
    done = run_program("evaluate", "--checkpoint", trained[0], "--data_dir", other)
    assert done.returncode == 3 and "is not as it was in training" in done.stderr and "--part all" in done.stderr


def test_pictures_that_were_trained_on_are_refused_unasked(trained, pictures):
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
    assert done.returncode == 3 and "12 of 15 pictures" in done.stderr and "ask for it by --part all" in done.stderr


REFUSED = [
    ([], 2, "--checkpoint is missing"),
    (["--checkpoint=none"], 4, "does not exist"),
    (["--checkpoint={workdir}", "--option=csv"], 2, "write it as KEY=VALUE"),
    (["--checkpoint={workdir}", "--dataset=koniq", "--data_dir=launch"], 3, "How to get it"),
    (["--checkpoint={workdir}", "--dataset=kodak"], 2, "unknown dataset 'kodak'"),
    (["--checkpoint={workdir}", "--part=tests"], 2, "part"),
]


def test_refusals(trained):
    results = run_many("evaluate", [[a.format(workdir=trained[0]) for a in arguments] for arguments, *_ in REFUSED])
    for (arguments, code, words), (got, _, error) in zip(REFUSED, results, strict=True):
        assert got == code and words in error, (arguments, error)
        assert len(error.strip().splitlines()) == 1, (arguments, error)
