"""jaxiqa score: files and folders of any content to rows."""

import csv
import io
import json
import os
import shutil

import numpy as np
import pytest
from tiny_run import check_refusals, run_program

import jaxiqa

COLUMNS = ("path", "score", "native", "se", "crops", "status", "reason", "percentile", "word", "lo", "hi")


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    """Three good images, two bad ones, another file, and names that are hard to print."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "sub").mkdir()
    shutil.copy(pictures / "0.png", folder / "b.png")
    shutil.copy(pictures / "1.png", folder / "sub" / "new\nline, comma.PNG")
    shutil.copy(pictures / "2.png", os.fsencode(folder) + b"/not utf8 \xff.png")
    (folder / "a.jpg").write_bytes(b"")
    (folder / "sub" / "cut.png").write_bytes((pictures / "3.png").read_bytes()[:500])
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_csv_on_standard_output_and_json_file(trained, folder, pictures, tmp_path):
    output = tmp_path / "scores.json"
    done = run_program("score", "--checkpoint", trained[0], folder, "-t", pictures / "4.png", "--output", output)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert tuple(rows[0]) == COLUMNS
    names = ["a.jpg", "b.png", "not utf8 \udcff.png", "sub/cut.png", "sub/new\nline, comma.PNG"]
    assert [row["path"] for row in rows] == [f"{folder}/{name}" for name in names] + [str(pictures / "4.png")]
    assert [row["status"] for row in rows] == ["refused", "ok", "ok", "refused", "ok", "ok"]
    assert "a.jpg" in rows[0]["reason"] and rows[0]["score"] == "" and rows[1]["reason"] == ""
    assert {row["crops"] for row in rows} == {"grid"}
    metric = jaxiqa.create_metric(checkpoint=trained[0])
    for row in rows:
        if row["status"] == "ok":
            assert float(row["score"]) == pytest.approx(metric(row["path"]), abs=1e-4)
            assert float(row["native"]) == pytest.approx(1 + 4 * float(row["score"]) / 100)
            assert float(row["se"]) > 0
            assert row["percentile"] == "" and row["word"] == metric.describe(row["path"]).word != ""
    for text in ("left out 1 file ", "scored 4, refused 2", "1..5, higher is better"):
        assert text in done.stderr
    written = json.loads(output.read_text(), parse_constant=pytest.fail)
    assert written["model"]["name"] == "cnniqa" and written["step"] in (3, 6)
    assert [p["path"] for p in written["pictures"]] == [row["path"] for row in rows]
    assert written["pictures"][0]["score"] is None
    np.testing.assert_allclose(written["pictures"][1]["score"], float(rows[1]["score"]))


def test_csv_file_strict_and_random_crops(trained, folder, tmp_path):
    output = tmp_path / "scores.csv"
    options = ("--crops=random:3", "--strict", f"--output={output}", f"--checkpoint={trained[0]}")
    done = run_program("score", folder, "gone.png", *options)
    assert done.returncode == 3
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("jaxiqa score: ") and "3 of 6 images" in last and "a.jpg" in last
    assert output.read_text(errors="surrogateescape") == done.stdout  # with all rows
    assert not output.with_name("scores.csv.part").exists()
    assert done.stdout.count("random:3") == 6 and "gone.png,,,,random:3,refused," in done.stdout


REFUSED = [
    ([], 2, "jaxiqa score PATH"),
    (["x.png"], 3, "x.png"),
    (["--checkpoint=none"], 2, "jaxiqa score PATH"),
    (["--checkpoint=none", "no such.png"], 3, "no such.png"),
    (["--checkpoint=none", "launch"], 3, "launch"),
    (["--checkpoint=none", "README.md"], 4, "none", "--workdir"),
    (["--checkpoint=README.md", "README.md"], 4, "README.md", "convert"),
    (["--checkpoint=none", "README.md", "--output=scores.txt"], 2, "--output=scores.txt", ".csv or .json"),
]


def test_the_weights_that_ship(pictures, tmp_path):
    """They score without --checkpoint, which one line says. They have percentiles and no native scale."""
    done = run_program("score", pictures / "4.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"ready"' in done.stderr.splitlines()[0] and "note: " in done.stderr
    assert "images/s" in done.stderr.splitlines()[-1]
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["native"] == "" and 0 <= float(row["percentile"]) <= 100 and row["crops"].startswith("auto:")
    again = run_program("score", "--checkpoint", "ready", pictures / "4.png", cwd=tmp_path)
    assert again.stdout == done.stdout and '"ready"' not in again.stderr


def test_refusals():
    assert not any(check_refusals("score", REFUSED))
