"""jaxiqa distort: file names, resuming, a single file rendered again, refusals."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_run import check_refusals, filled, run_program

from jaxiqa.distortions import distort_exact


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """Two images."""
    folder, rng = tmp_path_factory.mktemp("pristine"), np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (66, 70, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


OPTIONS = ("--types=jpeg, white_noise,18-18,jpeg", "--levels=1,5-5", "--processes=2")


@pytest.fixture(scope="module")
def rendered(pristine, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "distorted"
    done = run_program("distort", pristine, f"--output={output}", "--sheet", *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert "12 images written" in done.stdout
    return output


def test_files(rendered, pristine):
    expected = [f"{n}_{t:02d}_{i:02d}.png" for n in "ab" for t in (10, 11, 18) for i in (1, 5)]
    assert sorted(p.name for p in rendered.glob("?_??_??.png")) == expected
    source = np.asarray(Image.open(pristine / "a.png"))
    for type, level in ((10, 5), (18, 1)):
        ours = np.asarray(Image.open(rendered / f"a_{type}_{level:02d}.png"))
        np.testing.assert_array_equal(ours, distort_exact(source, type, level, None))
    first, second = (np.asarray(Image.open(rendered / f"{n}_11_01.png")).astype(int) for n in "ab")
    noise = [first - source, second - np.asarray(Image.open(pristine / "b.png"))]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05  # the noise of two images is independent
    with Image.open(rendered / "a_sheet.png") as sheet:
        assert sheet.width > 500 and sheet.height > 300
    assert not list(rendered.glob("*.tmp"))


def test_a_single_file_is_rendered_again_alone(rendered, pristine):
    target = rendered / "b_11_05.png"
    before, others = target.read_bytes(), {p: p.stat().st_mtime_ns for p in rendered.glob("?_??_??.png")}
    target.unlink()
    done = run_program("distort", pristine / "b.png", f"--output={rendered}", "--types=11", "--levels=5")
    assert done.returncode == 0 and "1 images written" in done.stdout, done.stderr
    assert target.read_bytes() == before
    done = run_program("distort", pristine, f"--output={rendered}", *OPTIONS)
    assert "0 images written" in done.stdout and "12 existed" in done.stdout
    assert all(p.stat().st_mtime_ns == t for p, t in others.items() if p != target)


def test_bad_images_are_named_and_the_others_are_rendered(pristine, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.png").write_bytes((pristine / "a.png").read_bytes())
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("RGB", (40, 90)).save(folder / "small.png")
    done = run_program("distort", folder, f"--output={tmp_path / 'out'}", "--types=18", "--levels=1")
    assert done.returncode == 3 and "1 images written" in done.stdout
    (small,) = (line for line in done.stdout.splitlines() if "small.png" in line)
    assert "40 x 90" in small and "64" in small and "broken.png" in done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert "2 of 3 images" in last and "small.png" in last and "broken.png" in last and "good.png" not in last
    assert [p.name for p in sorted((tmp_path / "out").glob("*.png"))] == ["good_18_01.png"]


REFUSED = [
    ([], 2, "jaxiqa distort PATH... --output DIR"),
    (["{folder}"], 2, "--output"),
    (["{folder}", "--output={out}", "--types=jpeg,jpg"], 2, "--types", '"jpg"', '"jpeg"'),
    (["{folder}", "--output={out}", "--types=26"], 2, "--types", "26"),
    (["{folder}", "--output={out}", "--types=24-26"], 2, "--types", "26"),
    (["{folder}", "--output={out}", "--levels=1-6"], 2, "--levels", '"1-6"'),
    (["{folder}", "--output={out}", "--levels=5-1"], 2, "--levels", '"5-1"'),
    (["{folder}", "--output={out}", "--seed=1", "--types=18", "--levels=1"], 2, "--output {out}", "seed"),
    (["{folder}/a.png", "{folder}/../twin/a.jpg", "--output={out}"], 3, "{folder}/a.png", "twin/a.jpg", "a_TT_LL.png"),
    (["none", "--output={out}"], 3, "none"),
    (["{folder}", "--output={damaged}"], 2, "{damaged}/distort.json", "Expecting value"),
]


def test_refusals(rendered, pristine, tmp_path):
    (tmp_path / "distort.json").write_text("")
    twin = pristine.parent / "twin"
    twin.mkdir(exist_ok=True)
    (twin / "a.jpg").write_bytes(b"x")
    check_refusals("distort", filled(REFUSED, folder=pristine, out=rendered, damaged=tmp_path))
    assert json.loads((rendered / "distort.json").read_text())["seed"] == 0
