"""python -m jaxiqa.distort: names, resuming, single files made again, refusals."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_run import run_many, run_program

from jaxiqa.distortions import distort_exact


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """Two good pictures, one too small, one broken."""
    folder, rng = tmp_path_factory.mktemp("pristine"), np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (66, 70, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


OPTIONS = ("--types=jpeg, white_noise,18,jpeg", "--levels=1,5-5", "--processes=2")


@pytest.fixture(scope="module")
def rendered(pristine, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "distorted"
    done = run_program("distort", pristine, f"--output={output}", "--sheet", *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert "12 pictures written" in done.stdout
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
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05  # drawn differently
    with Image.open(rendered / "a_sheet.png") as sheet:
        assert sheet.width > 500 and sheet.height > 300
    assert not list(rendered.glob("*.tmp"))


def test_a_single_file_is_made_again_alone(rendered, pristine):
    target = rendered / "b_11_05.png"
    before, others = target.read_bytes(), {p: p.stat().st_mtime_ns for p in rendered.glob("?_??_??.png")}
    target.unlink()
    done = run_program("distort", pristine / "b.png", f"--output={rendered}", "--types=11", "--levels=5")
    assert done.returncode == 0 and "1 pictures written" in done.stdout, done.stderr
    assert target.read_bytes() == before
    done = run_program("distort", pristine, f"--output={rendered}", *OPTIONS)
    assert "0 pictures written" in done.stdout and "12 were there" in done.stdout
    assert all(p.stat().st_mtime_ns == t for p, t in others.items() if p != target)


def test_bad_pictures_are_named_and_the_others_done(pristine, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.png").write_bytes((pristine / "a.png").read_bytes())
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("RGB", (40, 90)).save(folder / "small.png")
    done = run_program("distort", folder, f"--output={tmp_path / 'out'}", "--types=18", "--levels=1")
    assert done.returncode == 3 and "1 pictures written" in done.stdout
    assert "small.png: 40 x 90 pixels, but sides of 64 are needed" in done.stdout and "broken.png" in done.stdout
    assert done.stderr.strip().splitlines()[-1].startswith("distort.py: 2 of 3 pictures could not be used")
    assert [p.name for p in sorted((tmp_path / "out").glob("*.png"))] == ["good_18_01.png"]


REFUSED = [
    ([], 2, "no picture to distort"),
    (["{folder}"], 2, "--output is missing"),
    (
        ["{folder}", "--output={out}", "--types=jpeg,jpg"],
        2,
        '--types: unknown distortion "jpg"; did you mean "jpeg"',
    ),
    (["{folder}", "--output={out}", "--types=26"], 2, "--types: unknown distortion number 26"),
    (["{folder}", "--output={out}", "--levels=1-6"], 2, '--levels: "1-6" is no list of levels'),
    (["{folder}", "--output={out}", "--levels=5-1"], 2, '--levels: "5-1" is no list of levels'),
    (["{folder}", "--output={out}", "--seed=1", "--types=18", "--levels=1"], 2, "name another folder"),
    (["{folder}/a.png", "{folder}/../twin/a.jpg", "--output={out}"], 3, "rename one of them"),
    (["none", "--output={out}"], 3, "'none': no such file"),
    (["{folder}", "--output={damaged}"], 2, "distort.json is damaged (Expecting value"),
]


def test_refusals(rendered, pristine, tmp_path):
    (tmp_path / "distort.json").write_text("")
    twin = pristine.parent / "twin"
    twin.mkdir(exist_ok=True)
    (twin / "a.jpg").write_bytes(b"x")
    lines = [
        [a.format(folder=pristine, out=rendered, damaged=tmp_path) for a in arguments] for arguments, *_ in REFUSED
    ]
    for (arguments, code, words), (got, _, error) in zip(REFUSED, run_many("distort", lines), strict=True):
        assert got == code and words in error, (arguments, error)
        assert len(error.strip().splitlines()) == 1, (arguments, error)
    assert json.loads((rendered / "distort.json").read_text())["seed"] == 0
