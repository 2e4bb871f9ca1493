"""python -m jaxiqa.doctor: what it says of pictures, its table, its JSON and its exit codes."""

import json
import shutil

import pytest
from PIL import Image
from tiny_run import run_many, run_program

from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.inputs.content import Content, compare, decode_all

CONTENT = "--option=group_column=content"


@pytest.fixture(scope="module")
def sick(pictures, tmp_path_factory):
    """The rated folder with a cut picture, a copy under another name and content, and one within its content."""
    folder = tmp_path_factory.mktemp("sick")
    shutil.copytree(pictures, folder, dirs_exist_ok=True)
    (folder / "3.png").write_bytes((pictures / "3.png").read_bytes()[:-5000])
    Image.open(pictures / "6.png").save(folder / "elsewhere.webp", lossless=True)  # other bytes, the same pixels
    shutil.copy(pictures / "9.png", folder / "twin.png")
    with open(folder / "index.csv", "a") as file:
        file.write("elsewhere.webp,2.25,content0\ntwin.png,4.5,content3\n")
    return folder


def findings(path):
    return {(f["check"], f["result"]): f for f in json.loads(path.read_text())["findings"]}


def test_a_clean_folder(pictures, tmp_path):
    output = tmp_path / "report.json"
    done = run_program("doctor", pictures, CONTENT, "--output", output)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"folder in {pictures}: nothing is wrong\n") and "FAULT" not in done.stdout
    report = json.loads(output.read_text())
    assert (report["dataset"], report["records"], report["options"]) == ("folder", 15, {"group_column": "content"})
    assert len(report["fingerprint"]) == 12
    found = findings(output)
    assert found["pictures", "ok"]["what"] == "all 15 can be read"
    assert found["sizes", "ok"]["what"] == "80x70 (15)"
    assert found["duplicates", "ok"]["what"] == "none has the pixels of another"


def test_sick_pictures_are_all_found_with_what_to_do(sick, tmp_path):
    output = tmp_path / "report.json"
    done = run_program("doctor", "folder", sick, CONTENT, "--output", output)
    assert done.returncode == 3
    assert done.stderr.strip() == f"doctor.py: folder in {sick}: 2 fault(s), listed above with what to do"
    found = findings(output)
    unread = found["pictures", "fault"]
    assert unread["what"] == "1 of 17 cannot be read" and "3.png" in unread["where"][0]
    assert found["duplicates", "fault"]["where"] == ["6.png = elsewhere.webp (labels 4.5, 2.25)"]
    assert found["duplicates", "note"]["where"] == ["9.png = twin.png (labels 4.5, 4.5)"]
    lines = done.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("FAULT  duplicates"))
    assert "1 pictures are there more than once" in lines[at] and "6.png = elsewhere.webp" in lines[at + 1]
    assert "-> leave all but one of each out" in lines[at + 2]


def test_a_split_by_picture_of_pictures_that_share_content(pictures):
    done = run_program("doctor", pictures)
    assert done.returncode == 3
    said = " ".join(done.stdout.split())  # it is wrapped to the width of the terminal
    assert "column 'content' names 5 contents of 15 pictures and is not used" in said


def test_a_prepared_set_is_examined_like_its_folder(sick, tmp_path):
    output = tmp_path / "set"
    assert run_program("prepare", "folder", sick, CONTENT, "--output", output).returncode == 0
    done = run_program("doctor", output, "--output", tmp_path / "report.json")
    assert done.returncode == 3
    found = findings(tmp_path / "report.json")
    assert found["pictures", "fault"]["what"] == "1 of 17 cannot be read"
    assert found["duplicates", "fault"]["where"] == ["6.png = elsewhere.webp (labels 4.5, 2.25)"]


def test_contents(pictures, sick):
    paths = [str(pictures / f"{i}.png") for i in range(4)] + [str(sick / "3.png")]
    *whole, cut = decode_all(paths, workers=3)
    assert [c.size for c in whole] == [(70, 80)] * 4 and len({c.digest for c in whole}) == 4
    assert cut.digest == "" and "3.png" in cut.reason
    assert list(decode_all(paths)) == [*whole, cut]


@pytest.mark.parametrize(("size", "result"), [((384, 512), "ok"), ((768, 1024), "ok"), ((512, 384), "fault")])
def test_pictures_that_were_turned_or_resized(size, result):
    records = [Record(f"/k/{i}.jpg", 50.0 + i, f"{i}.jpg") for i in range(3)]
    koniq = Dataset("koniq10k", records, (0.0, 100.0), True)
    contents = {r.path: Content(str(i), (384, 512)) for i, r in enumerate(records)}
    contents["/k/1.jpg"] = Content("1", size)
    found = {f.check: f for f in compare(koniq, contents)}
    assert found["sizes"].result == result
    if result == "fault":
        assert found["sizes"].where == ("/k/1.jpg 384x512",) and "512x384 or 1024x768" in found["sizes"].what


def test_pictures_that_are_yet_to_be_distorted_are_no_duplicates():
    records = [Record("/p.png", 3.0, f"p_{i}", "scene", apply=(1, i)) for i in range(1, 6)]
    sample = Dataset("sample", records, (1.0, 5.0), True)
    assert [f.result for f in compare(sample, {"/p.png": Content("x", (384, 512))})] == ["ok"] * 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tub_acr", "avt_hevc"])
def test_real_pictures_are_clean(name, shared):
    done = run_program("doctor", "folder", shared / "data" / "mos" / name, CONTENT)
    assert done.returncode == 0, done.stdout + done.stderr


REFUSED = [
    ([], 2, "give a dataset's folder"),
    (["folder", "{pictures}", "more"], 2, "give a dataset's folder"),
    (["foldr", "{pictures}"], 2, "did you mean 'folder'"),
    (["{pictures}", "--output=report.txt"], 2, "--output report.txt must end in .json"),
    (["{pictures}", "--output=README.md/report.json"], 2, "cannot be written (Not a directory)"),
    (["{pictures}", "--option=csv=none.csv"], 3, "1 fault(s), listed above"),
    (["{pictures}", "--option=cvs=none.csv"], 2, "did you mean 'csv'"),
    (["/nowhere"], 3, "there is no folder /nowhere"),
    (["tests"], 3, "tests has no label file that is known; name the dataset"),
]


def test_refusals(pictures):
    lines = [[a.format(pictures=pictures) for a in arguments] for arguments, *_ in REFUSED]
    for (arguments, code, words), (got, _, error) in zip(REFUSED, run_many("doctor", lines), strict=True):
        assert got == code and words in error, (arguments, error)
        assert len(error.strip().splitlines()) == 1, (arguments, error)
