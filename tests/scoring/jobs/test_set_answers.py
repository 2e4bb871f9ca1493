"""Answers about a set: the summary and its page, the kept list, groups of near-duplicates, drift of two results."""

import datetime
import math
import pathlib

import numpy as np
import pytest
from etils import epath
from PIL import Image
from refused import refused

from jaxiqa.errors import ConfigError, DataError
from jaxiqa.inputs.fingerprint import Fingerprint, distance, fingerprint
from jaxiqa.inputs.image_paths import find_images
from jaxiqa.scoring.jobs import summary as summary_module
from jaxiqa.scoring.jobs.answers import Answers
from jaxiqa.scoring.jobs.drift import describe, drift
from jaxiqa.scoring.jobs.groups import find_groups
from jaxiqa.scoring.jobs.keep import parse_condition
from jaxiqa.scoring.jobs.names import folder_of
from jaxiqa.scoring.jobs.results import is_result, read_result
from jaxiqa.scoring.jobs.set_report import write_report
from jaxiqa.scoring.jobs.summary import OTHERS, Summary

COLUMNS = ("path", "score", "native", "status", "reason", "word", "dhash", "taken")


def row(path, score=math.nan, reason="", word="fair", dhash="0" * 16, taken=math.nan, **more):
    status = "refused" if reason else "ok"
    values = dict(path=path, score=score, native=math.nan, status=status, reason=reason, word="" if reason else word)
    return {**values, "dhash": dhash, "taken": taken, **more}


def test_summary_is_that_of_all_scores():
    rng = np.random.default_rng(0)
    scores = rng.normal(50, 15, 5000)
    found = Summary()
    for i, score in enumerate(scores):
        found.add(row(f"{i % 3}/{i}.jpg", float(score)))
    found.add(row("0/x.jpg", reason="cannot read '0/x.jpg': gone"))
    assert (found.images, found.scored, found.refused) == (5001, 5000, 1)
    for percent, value in found.percentiles().items():
        assert value == pytest.approx(np.percentile(scores, percent), abs=0.3)
    counts, edges = found.histogram()
    assert counts.sum() == 5000 and edges[0] <= scores.min() and edges[-1] >= scores.max()
    assert [one["path"] for one in found.worst()] == [f"{i % 3}/{i}.jpg" for i in np.argsort(scores)[:12]]
    assert [one["path"] for one in found.best()] == [f"{i % 3}/{i}.jpg" for i in np.argsort(-scores)[:12]]
    assert found.folders["1"].mean == pytest.approx(scores[1::3].mean()) and found.folders["0"].refused == 1
    assert dict(found.reasons) == {"gone": 1}


def test_a_summary_has_a_bounded_number_of_folders(monkeypatch):
    monkeypatch.setattr(summary_module, "_FOLDERS", 3)
    found = Summary()
    for i in range(10):
        found.add(row(f"{i}/a.jpg", 1.0))
    assert len(found.folders) == 4 and found.folders[OTHERS].images == 7


def test_the_page_of_a_set(tmp_path):
    picture = tmp_path / "a.png"
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(picture)
    found = Summary()
    rows = [row(str(picture), 12.5), row("t.parquet#7", 88.0), row("b/<c>.jpg", reason="cannot read it: <gone>")]
    for one in rows:
        found.add(one)
    write_report(tmp_path / "set.html", found, [rows[:2]], {"command": "jaxiqa score"}, "a note")
    text = (tmp_path / "set.html").read_text()
    for part in ("3 images", "a note", "12.5", "t.parquet#7", "&lt;gone&gt;", "rank 1", "By folder", "jaxiqa score"):
        assert part in text, part
    assert "<gone>" not in text and text.count("data:image/png") == 4  # histogram, worst, best, group
    empty = Summary()
    empty.add(row("a", reason="no: image"))
    write_report(tmp_path / "empty.html", empty, [], {})
    assert "refused" in (tmp_path / "empty.html").read_text()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("score>=40", ["b", "c"]),
        ("score > 40 and score<= 60", ["c"]),
        ("word!=bad", ["b", "c"]),
        ("word == 'bad'", ["a"]),
        ("native>0", []),  # it has no value
    ],
)
def test_conditions(text, kept):
    rows = [row("a", 10.0, word="bad"), row("b", 40.0), row("c", 60.0), row("d", reason="x: y")]
    keeps = parse_condition(text, COLUMNS)
    assert [one["path"] for one in rows if keeps(one)] == kept


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "value"),
        ("score", "value"),
        ("score=>4", "value"),
        ("scores>4", "unknown"),
        ("score>1 or word==a", "value"),
        ("score>=forty", "value"),
        ("word==god", "unknown"),
    ],
)
def test_conditions_that_are_none(text, code):
    with refused(ConfigError, code, "--keep"):
        parse_condition(text, COLUMNS)


def test_the_kept_list_can_be_scored(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = ["a \udcff.jpg", "b.jpg", "with\nbreak.jpg", "c.jpg"]
    for name in names:
        pathlib.Path(name).touch()
    rows = [row(name, 50.0) for name in names[:3]] + [row("c.jpg", 10.0)]
    answers = Answers(epath.Path("out/scores.csv"), COLUMNS, "score>20", "folder", True)
    (tmp_path / "out").mkdir()
    assert answers.collect(rows) == ["out/scores.kept.txt", "out/scores.groups.csv"]
    assert find_images(["@out/scores.kept.txt"]) == names[:2] and "lacks 1" in capsys.readouterr().err
    assert answers.summary.images == 4 and len(answers.shown) == 1
    lines = (tmp_path / "out" / "scores.groups.csv").read_text(errors="surrogateescape").splitlines()
    assert lines[0] == "group,rank,path,score,taken" and lines[1].startswith("1,1,a ")


def test_near_duplicates_have_near_hashes():
    rng = np.random.default_rng(0)
    small = [Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)) for _ in range(6)]
    images = [np.array(one.resize((320, 240), Image.Resampling.BICUBIC)) for one in small]
    noisy = [np.clip(one + rng.normal(0, 12, one.shape), 0, 255).astype(np.uint8) for one in images]
    moved = [np.roll(one, 3, 1) for one in images]
    hashes = [[fingerprint(one, b"").dhash for one in group] for group in (images, noisy, moved)]
    for i, own in enumerate(hashes[0]):
        assert max(distance(own, hashes[1][i]), distance(own, hashes[2][i])) <= 10
        assert min(distance(own, hashes[1][j]) for j in range(6) if j != i) > 10
    assert Fingerprint().dhash == "" and distance("", "") == 64


def test_the_time_of_a_photograph(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0x9003: "2024:05:06 07:08:09", 0x9291: "25"})
    path = tmp_path / "a.jpg"
    image = np.zeros((20, 20, 3), np.uint8)
    Image.fromarray(image).save(path, exif=exif)
    at = datetime.datetime(2024, 5, 6, 7, 8, 9, 250_000, datetime.UTC).timestamp()
    assert fingerprint(image, str(path)).taken == fingerprint(image, path.read_bytes()).taken == at
    Image.fromarray(image).save(path)
    for source in (str(path), b"no image", image):
        assert math.isnan(fingerprint(image, source).taken)


def test_groups_by_folder_and_by_time():
    a, b = "0" * 16, "f" * 16
    rows = [
        row("x/1", 10.0, dhash=a, taken=0.0),
        row("x/2", 30.0, dhash=b, taken=1.0),
        row("x/3", 20.0, dhash=a, taken=2.5),
        row("x/4", 40.0, dhash=a, taken=60.0),
        row("x/5", reason="no: image", dhash=""),
        row("x/6", 50.0, dhash=b),
        row("y/1", 60.0, dhash=a, taken=61.0),
        row("y/2", 60.0, dhash=a[:-1] + "1", taken=59.0),
    ]
    by_folder = [[one["path"] for one in group] for group in find_groups(rows, "folder")]
    assert by_folder == [["x/4", "x/3", "x/1"], ["x/6", "x/2"], ["y/1", "y/2"]]
    by_time = [[one["path"] for one in group] for group in find_groups(rows, "time")]
    assert by_time == [["x/3", "x/1"], ["y/2", "y/1"]]


def test_folders():
    names = {
        "a/b.jpg": "a",
        "b.jpg": ".",
        "t/x.parquet#12": "t/x.parquet",
        "w.tar/a/b.jpg": "w.tar/a",
        "a#1/b#2": "a#1",
    }
    assert {name: folder_of(name) for name in names} == names


def test_drift(tmp_path):
    rng = np.random.default_rng(0)
    old = [row(f"{'a' if i < 50 else 'b'}/{i}", float(60 + rng.normal()), blur=0.1, noise=0.2) for i in range(100)]
    new = [
        {**one, "score": one["score"] - (20 if i >= 90 else 0), "blur": 0.1 + 0.8 * (i >= 90)}
        for i, one in enumerate(old)
    ]
    old.append(row("b/gone", 50.0, blur=0.0, noise=0.0))
    new[0] = row("a/0", reason="no: image", blur=math.nan, noise=math.nan)
    rows = {"old": old, "new": new[::-1]}
    found = drift("old", "new", rows.get)
    assert (found["images"], found["only_old"], found["only_new"]) == (100, 1, 0)
    assert (found["became_refused"], found["worse"], found["better"]) == (1, 10, 0)
    assert found["mean_difference"] == pytest.approx(-200 / 99)
    low, high = found["interval"]
    assert low < found["mean_difference"] < high < 0
    assert found["families"]["blur"]["worse_by_it"] == 10 and found["families"]["noise"]["worse_by_it"] == 0
    assert list(found["folders"]) == ["b", "a"] and found["folders"]["b"]["mean_difference"] == pytest.approx(-4)
    assert sum(found["words"].values()) >= 9 and {one["path"] for one in found["lost_most"]} == {
        f"b/{i}" for i in range(90, 100)
    }
    assert any("blur" in line for line in describe(found))
    with refused(DataError, "mismatch", "new"):
        drift("old", "new", {"old": old, "new": [row("z", 1.0, blur=0.0, noise=0.0)]}.get)
    with refused(DataError, "empty", "new"):
        drift("old", "new", {"old": old, "new": []}.get)


def test_which_files_are_results(tmp_path):
    texts = {
        "scores.csv": ("path,score,status\na,1,ok\n", True),
        "predictions.csv": ("path,score,native,se,mos\na,1,,,2\n", False),
        "rows.jsonl": ('{"path": "a", "score": 1, "status": "ok"}\n', True),
        "bad.jsonl": ("{", True),
        "file.json": ('{"crops": "grid", "pictures": [{"path": "a", "score": 1, "status": "ok"}]}', True),
        "other.json": ("[1]", True),
        "short.csv": ("path,status\na,ok\n", True),
    }
    for name, (text, ours) in texts.items():
        (tmp_path / name).write_text(text)
        assert is_result(str(tmp_path / name)) == ours, name
    assert not is_result(str(tmp_path / "gone.csv"))
    for name in ("scores.csv", "rows.jsonl", "file.json"):
        assert [float(one["score"]) for one in read_result(str(tmp_path / name))] == [1.0]
    for name, code in (
        ("bad.jsonl", "format"),
        ("other.json", "format"),
        ("short.csv", "missing"),
        ("gone.jsonl", "not_found"),
    ):
        with refused(DataError, code, tmp_path / name):
            list(read_result(str(tmp_path / name)))
