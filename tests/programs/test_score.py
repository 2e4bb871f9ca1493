"""python -m jaxiqa.score: files and folders to rows, whatever is in them."""

import csv
import io
import json
import os
import shutil

import numpy as np
import pytest
from tiny_run import run_many, run_program

import jaxiqa
from jaxiqa.errors import DataError
from jaxiqa.inputs.files import find_pictures

COLUMNS = ("path", "score", "native", "se", "crops", "status", "reason")


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    """Three good pictures, two bad ones, something else, and names that are hard to print."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "sub").mkdir()
    shutil.copy(pictures / "0.png", folder / "b.png")
    shutil.copy(pictures / "1.png", folder / "sub" / "new\nline, comma.PNG")
    shutil.copy(pictures / "2.png", os.fsencode(folder) + b"/not utf8 \xff.png")
    (folder / "a.jpg").write_bytes(b"")
    (folder / "sub" / "cut.png").write_bytes((pictures / "3.png").read_bytes()[:500])
    (folder / "notes.txt").write_text("no picture")
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
    assert "the file is empty" in rows[0]["reason"] and rows[0]["score"] == "" and rows[1]["reason"] == ""
    assert {row["crops"] for row in rows} == {"grid"}
    metric = jaxiqa.create_metric(checkpoint=trained[0])
    for row in rows:
        if row["status"] == "ok":
            assert float(row["score"]) == pytest.approx(metric(row["path"]), abs=1e-4)
            assert float(row["native"]) == pytest.approx(1 + 4 * float(row["score"]) / 100)
            assert float(row["se"]) > 0
    assert "scored 4, refused 2" in done.stderr and "trained on folder: native 1..5, higher is better" in done.stderr
    written = json.loads(output.read_text())
    assert written["model"]["name"] == "glintiqa" and written["step"] in (3, 6)
    assert [p["path"] for p in written["pictures"]] == [row["path"] for row in rows]
    assert written["pictures"][0]["score"] is None
    np.testing.assert_allclose(written["pictures"][1]["score"], float(rows[1]["score"]))


def test_csv_file_strict_and_random_crops(trained, folder, tmp_path):
    output = tmp_path / "scores.csv"
    options = ("--crops=random:3", "--strict", f"--output={output}", f"--checkpoint={trained[0]}")
    done = run_program("score", folder, *options)
    assert done.returncode == 3
    assert done.stderr.strip().splitlines()[-1].startswith("score.py: 2 of 5 pictures refused; the first: cannot ")
    assert output.read_text(errors="surrogateescape") == done.stdout  # all rows are there all the same
    assert not output.with_name("scores.csv.part").exists()
    assert done.stdout.count("random:3") == 5


REFUSED = [
    (["x.png"], 2, "--checkpoint is missing"),
    (["--checkpoint=none"], 2, "no picture to score"),
    (["--checkpoint=none", "no such.png"], 3, "'no such.png': no such file or folder"),
    (["--checkpoint=none", "launch"], 3, "'launch': no picture in this folder"),
    (["--checkpoint=none", "README.md"], 4, "does not exist; name the --workdir"),
    (["--checkpoint=README.md", "README.md"], 4, "README.md is a file; convert it first: python -m jaxiqa.convert"),
    (["--checkpoint=none", "README.md", "--output=scores.txt"], 2, "must end in .csv or .json"),
]


def test_refusals():
    results = run_many("score", [arguments for arguments, *_ in REFUSED])
    for (arguments, code, words), (got, out, error) in zip(REFUSED, results, strict=True):
        assert got == code and words in error, (arguments, error)
        assert len(error.strip().splitlines()) == 1 and out == "", (arguments, error)


def test_find_pictures(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert find_pictures(["sub/cut.png", ".", "notes.txt"])[0] == "sub/cut.png"
    assert find_pictures(["b.png", "b.png", "notes.txt"]) == ["b.png", "notes.txt"]  # named, so tried
    assert len(find_pictures(["."])) == 5
    with pytest.raises(DataError, match="no such"):
        find_pictures(["b.png", "none"])
