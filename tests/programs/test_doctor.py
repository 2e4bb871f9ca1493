"""jaxiqa doctor: its findings about images, its table, its JSON and its exit codes."""

import json
import re
import shutil

import pytest
from PIL import Image
from tiny_run import check_refusals, filled, run_program

from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.inputs.image_scan import Content, compare, decode_all

CONTENT = "--option=group_column=content"


@pytest.fixture(scope="module")
def sick(pictures, tmp_path_factory):
    """The rated folder with a cut image, a copy of an image in another content, and one in the same content."""
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
    assert str(pictures) in done.stdout.splitlines()[-1] and "FAULT" not in done.stdout
    report = json.loads(output.read_text())
    assert (report["dataset"], report["records"], report["options"]) == ("folder", 15, {"group_column": "content"})
    assert len(report["fingerprint"]) == 12
    found = findings(output)
    assert "15" in found["pictures", "ok"]["what"]
    assert found["sizes", "ok"]["what"] == "80x70 (15)"
    assert found["duplicates", "ok"]["where"] == []


def test_bad_images_are_all_found_with_a_remedy(sick, tmp_path):
    output = tmp_path / "report.json"
    done = run_program("doctor", "folder", sick, CONTENT, "--output", output)
    assert done.returncode == 3
    (line,) = done.stderr.strip().splitlines()
    assert str(sick) in line and "2 fault" in line
    found = findings(output)
    unread = found["pictures", "fault"]
    assert "1 of 17" in unread["what"] and "3.png" in unread["where"][0]
    assert found["duplicates", "fault"]["where"] == ["6.png = elsewhere.webp (labels 4.5, 2.25)"]
    assert found["duplicates", "note"]["where"] == ["9.png = twin.png (labels 4.5, 4.5)"]
    lines = done.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("FAULT  duplicates"))
    assert "6.png = elsewhere.webp" in lines[at + 1] and lines[at + 2].strip().startswith("-> ")


def test_an_ignored_column_of_contents_is_a_fault(pictures):
    done = run_program("doctor", pictures)
    assert done.returncode == 3
    (fault,) = re.findall(r"^FAULT .*(?:\n {21}.*)*", done.stdout, re.MULTILINE)
    assert "content" in fault and "5 contents" in fault and "15 images" in fault


def test_a_prepared_set_is_examined_like_its_folder(sick, tmp_path):
    output = tmp_path / "set"
    assert run_program("prepare", "folder", sick, CONTENT, "--output", output).returncode == 0
    done = run_program("doctor", output, "--output", tmp_path / "report.json")
    assert done.returncode == 3
    found = findings(tmp_path / "report.json")
    assert "1 of 17" in found["pictures", "fault"]["what"]
    assert found["duplicates", "fault"]["where"] == ["6.png = elsewhere.webp (labels 4.5, 2.25)"]


def test_contents(pictures, sick):
    paths = [str(pictures / f"{i}.png") for i in range(4)] + [str(sick / "3.png")]
    *whole, cut = decode_all(paths, workers=3)
    assert [c.size for c in whole] == [(70, 80)] * 4 and len({c.digest for c in whole}) == 4
    assert cut.digest == "" and "3.png" in cut.reason
    assert list(decode_all(paths)) == [*whole, cut]


@pytest.mark.parametrize(("size", "result"), [((384, 512), "ok"), ((768, 1024), "ok"), ((512, 384), "fault")])
def test_images_that_were_rotated_or_resized(size, result):
    records = [Record(f"/k/{i}.jpg", 50.0 + i, f"{i}.jpg") for i in range(3)]
    koniq = Dataset("koniq10k", records, (0.0, 100.0), True)
    contents = {r.path: Content(str(i), (384, 512)) for i, r in enumerate(records)}
    contents["/k/1.jpg"] = Content("1", size)
    found = {f.check: f for f in compare(koniq, contents)}
    assert found["sizes"].result == result
    if result == "fault":
        assert found["sizes"].where == ("/k/1.jpg 384x512",) and "512x384 or 1024x768" in found["sizes"].what


def test_images_that_are_distorted_in_training_are_not_duplicates():
    records = [Record("/p.png", 3.0, f"p_{i}", "scene", apply=(1, i)) for i in range(1, 6)]
    sample = Dataset("sample", records, (1.0, 5.0), True)
    assert [f.result for f in compare(sample, {"/p.png": Content("x", (384, 512))})] == ["ok"] * 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tub_acr", "avt_hevc"])
def test_real_images_are_clean(name, shared):
    done = run_program("doctor", "folder", shared / "data" / "mos" / name, CONTENT)
    assert done.returncode == 0, done.stdout + done.stderr


REFUSED = [
    ([], 2, "jaxiqa doctor NAME DIR"),
    (["folder", "{pictures}", "more"], 2, "jaxiqa doctor NAME DIR"),
    (["foldr", "{pictures}"], 2, "foldr", '"folder"'),
    (["{pictures}", "--output=report.txt"], 2, "--output=report.txt", ".json"),
    (["{pictures}", "--output=README.md/report.json"], 2, "--output README.md/report.json", "Not a directory"),
    (["{pictures}", "--option=csv=none.csv"], 3, "{pictures}", "1 fault"),
    (["{pictures}", "--option=cvs=none.csv"], 2, "cvs", '"csv"'),
    (["/nowhere"], 3, "/nowhere"),
    (["tests"], 3, "tests", "jaxiqa"),
]


def test_refusals(pictures):
    check_refusals("doctor", filled(REFUSED, pictures=pictures))
