"""jaxiqa compare: joins files by image, and reports intervals and tests."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from tiny_run import check_refusals, run_many, run_program

from jaxiqa.evaluation import comparison, result_files, statistics
from jaxiqa.evaluation.metrics import fit_logistic, plcc, rmse, srcc

CONTENTS, VERSIONS = 24, 5


def write(path, scores, mos, order=None, folder="/data/set", columns=("path", "score", "mos", "reference")):
    """Predictions as jaxiqa evaluate writes them (only the columns that compare reads)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        for i in range(len(mos)) if order is None else order:
            row = {"path": f"{folder}/{i // VERSIONS}/{i}.png", "score": scores[i], "mos": mos[i]}
            row["reference"] = f"content{i // VERSIONS}"
            rows.writerow([row[name] for name in columns])
    return path


@pytest.fixture(scope="module")
def scores():
    """Opinion scores 1..5, a good prediction and one with errors per content."""
    rng = np.random.default_rng(0)
    mos = rng.uniform(1, 5, CONTENTS * VERSIONS).round(3)
    good = 25 * (mos - 1) + rng.normal(0, 8, mos.size)
    bad = good + np.repeat(rng.normal(0, 25, CONTENTS), VERSIONS)
    return mos, good, bad


@pytest.fixture(scope="module")
def files(scores, tmp_path_factory):
    """The good prediction in order; the other with paths of another machine, in another order."""
    mos, good, bad = scores
    folder = tmp_path_factory.mktemp("predictions")
    order = np.random.default_rng(1).permutation(mos.size)
    return write(folder / "good.csv", good, mos), write(folder / "bad.csv", bad, mos, order, "/elsewhere/copy")


def test_two_files(files, scores, tmp_path):
    mos, good, bad = scores
    done = run_program("compare", *files, "--output", tmp_path / "c.json", "--samples=500", "--seed=3")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "c.json").read_text())
    contents = [f"content{i // VERSIONS}" for i in range(mos.size)]
    assert written["names"] == {"A": str(files[0]), "B": str(files[1])}
    assert (written["pictures"], written["contents"], written["samples"]) == (120, 24, 500)
    for row, score in zip(written["files"], (good, bad), strict=True):
        expected = statistics.bootstrap(score, mos, contents, samples=500, seed=3)
        for metric in ("srcc", "plcc"):
            assert row[metric] == pytest.approx(vars(expected[metric]))
        fit = fit_logistic(score, mos, "logistic4")
        assert row["logistic4"]["rmse"] == pytest.approx(rmse(fit(score), mos))
        assert row["logistic4"]["plcc"] == pytest.approx(plcc(fit(score), mos))
    (pair,) = written["pairs"]
    assert pair["srcc"]["value"] == pytest.approx(srcc(good, mos) - srcc(bad, mos))
    assert 0 < pair["srcc"]["low"] < pair["srcc"]["high"] and pair["srcc"]["p"] < 0.01
    assert pair["f_test"]["ratio"] < 0.5 and pair["f_test"]["p"] < 0.001 and pair["f_test"]["dof"] == 119
    assert f"A = {files[0]}" in done.stdout and f"{srcc(good, mos):7.4f} [" in done.stdout
    assert "500 resamples of 24 contents" in done.stdout and "note" not in done.stdout
    with Image.open(tmp_path / "c.png") as figure:
        assert figure.width > 1000 and len(figure.convert("RGB").getcolors(10**6)) > 100


def test_three_files_of_few_images_and_falling_labels(scores, tmp_path):
    """DMOS without the flag gives negative SRCC and a note; several pairs give a note on a stricter level."""
    mos, good, bad = (values[:40] for values in scores)
    paths = [write(tmp_path / f"{i}.csv", x, 5 - mos) for i, x in enumerate((good, bad, np.round(good, -1)))]
    (code, out, error), (_, turned, _) = run_many("compare", [paths, [*paths, "--lower_is_better"]])
    assert code == 0, error
    assert "negative" in out and "3 pairs" in out
    assert "20 contents (8)" in out and "A - C" in out and "B - C" in out
    assert f"{srcc(good, mos):7.4f} [" in turned and "negative" not in turned


def test_rounds(tmp_path):
    """Rounds are paired by the split that a report names, in any order of the files."""
    rng = np.random.default_rng(2)
    a, b = rng.uniform(0.8, 0.9, (2, 10))
    for name, values in (("a", a), ("b", b)):
        for i in range(10) if name == "a" else reversed(range(10)):
            folder = tmp_path / name / f"round{i if name == 'a' else 9 - i}"
            folder.mkdir(parents=True)
            report = {"dataset": "csiq", "part": "test", "split_fingerprint": f"f{i}", "srcc": values[i], "plcc": b[i]}
            (folder / "report.json").write_text(json.dumps(report))
    with open(tmp_path / "b.csv", "w") as file:
        file.write("round,srcc,plcc\n" + "".join(f"{i},{value},0.5\n" for i, value in enumerate(b)))
    found = comparison.compare_rounds(*(result_files.read_rounds([f"{tmp_path}/{n}/*/report.json"]) for n in "ab"))
    expected = statistics.wilcoxon(a, b)
    assert found["srcc"] == pytest.approx(vars(expected)) and found["plcc"]["p"] == 1
    assert [row["srcc"] for row in result_files.read_rounds([str(tmp_path / "b.csv")]).values()] == b.tolist()
    few = comparison.compare_rounds(*[{("round", str(i)): {"srcc": i + a[i], "plcc": 0.5} for i in range(5)}] * 2)
    assert "6 rounds" in comparison.describe_rounds(few)
    done = run_program(
        "compare", f"--rounds_a={tmp_path}/a/*/report.json", f"--rounds_b={tmp_path}/b/*/report.json", "--output",
        tmp_path / "rounds.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"srcc over 10 rounds: median of A - B {np.median(a - b):+.4f}" in done.stdout
    assert json.loads((tmp_path / "rounds.json").read_text())["rounds"]["srcc"]["p"] == pytest.approx(expected.p)
    assert not (tmp_path / "rounds.png").exists()


def test_refusals(files, scores, tmp_path):
    mos, good, _ = scores
    changed = mos.copy()
    changed[7] += 0.5
    other = write(tmp_path / "labels.csv", good, changed)
    short = write(tmp_path / "short.csv", good, mos, range(100))
    constant = write(tmp_path / "constant.csv", np.full(mos.size, 50.0), mos)
    unlabelled = write(tmp_path / "unlabelled.csv", good, mos, columns=("path", "score"))
    unscored = write(tmp_path / "unscored.csv", ["", *good[1:]], mos)
    words = write(tmp_path / "words.csv", ["good", *good[1:]], mos)
    twice = write(tmp_path / "twice.csv", good, mos, [*range(mos.size), 3])
    one = write(tmp_path / "one.csv", good, mos, range(10))
    report = tmp_path / "report.json"
    report.write_text('{"dataset": "csiq"}')
    reports = []
    for name in ("x", "y"):
        reports.append(tmp_path / f"{name}.csv")
        reports[-1].write_text("round,srcc,plcc\n" + "".join(f"{name}{i},0.5,0.5\n" for i in range(5)))
    a = files[0]
    cases = [
        ([], 2, "jaxiqa compare A.csv B.csv"),
        ([a, other, "--output=c.csv"], 2, "--output=c.csv", ".json"),
        ([a, "--rounds_a=x.json"], 2, "--rounds_a", "--rounds_b"),
        ([a, "none.csv"], 3, "none.csv", "No such file or directory"),
        ([a, short], 3, short, "20", "120 images", a),
        ([short, a], 3, short, "20", "120 images", a),
        ([a, other], 3, "1 images", "/data/set/1/7.png", other),
        ([a, constant], 3, constant, "50"),
        ([a, unlabelled], 3, unlabelled, "mos", "120 images"),
        ([a, unscored], 3, unscored, "score", "1 images", "/data/set/0/0.png"),
        ([a, words], 3, f"{words}:2", "score", "good"),
        ([a, twice], 3, twice, "/data/set/0/3.png", "line 5"),
        ([one], 3, one, "3 or more", "2"),
        ([a, report], 3, report, "path"),
        ([f"--rounds_a={report}", f"--rounds_b={report}"], 3, report, "srcc", "plcc"),
        ([f"--rounds_a={reports[0]}", f"--rounds_b={reports[1]}"], 3, "--rounds_a", "10 rounds"),
        ([f"--rounds_a={a}", f"--rounds_b={a}"], 3, a, "round"),
        ([a, "--output=/proc/none/c.json"], 2, "--output /proc/none/c.json"),
    ]
    check_refusals("compare", cases)
