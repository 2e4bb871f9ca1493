"""Figures of a run: their texts, colours and sizes; tables and numbers survive a round trip."""

import csv
import io
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from etils import epath
from PIL import Image

from jaxiqa.evaluation.metrics import fit_logistic, plcc, srcc
from jaxiqa.evaluation.result_files import write_predictions
from jaxiqa.figures import report
from jaxiqa.files import write_json

RNG = np.random.default_rng(0)
MOS = RNG.uniform(1, 5, 120)
PRED = (25 * (MOS - 1) + RNG.normal(0, 10, 120)).clip(0, 100)


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def share(figure: np.ndarray, colour: str) -> float:
    """Share of the pixels that have about this colour."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return (np.abs(figure.astype(int) - wanted).max(-1) < 30).mean()


@pytest.fixture
def drawn(monkeypatch):
    """The figures as objects, so that a test can read their texts."""
    figures = []
    save = report.save
    monkeypatch.setattr(report, "save", lambda path, figure: (figures.append(figure), save(path, figure)))
    return figures


def test_loss_curve(tmp_path, drawn):
    steps = np.arange(0, 3000, 10)
    val = [(500, 0.4), (1500, 0.7), (2990, float("nan"))]
    report.loss_curve(tmp_path / "loss.png", steps, np.exp(-steps / 300) + 0.01, val)
    left, right = drawn[0].axes
    assert (left.get_xlabel(), left.get_ylabel(), left.get_yscale()) == ("step", "training loss", "log")
    raw, smooth = left.get_lines()
    assert len(raw.get_xdata()) == 300 and len(smooth.get_xdata()) == 291
    assert right.get_ylabel() == "validation SRCC" and right.get_lines()[0].get_ydata()[:2].tolist() == [0.4, 0.7]
    figure = pixels(tmp_path / "loss.png")
    assert figure.shape == (540, 960, 3)
    assert share(figure, report.BLUE) > 0.002 and share(figure, report.ORANGE) > 0.002
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("losses", [[], [0.5], [0.5, np.nan, 0.3], [np.inf, np.inf], [-1.0, 1.0], [0.0] * 90])
def test_loss_curve_of_a_short_or_broken_run(tmp_path, losses):
    report.loss_curve(tmp_path / "loss.png", range(len(losses)), losses)
    assert share(pixels(tmp_path / "loss.png"), "#ffffff") > 0.8


@pytest.mark.parametrize("wrong", [([1, 2], [1]), ([(1, 0.5), (2, 0.4)], [(1, 0.7), (2, 0.8)])])
def test_loss_curve_refuses_what_would_draw_something_else(tmp_path, wrong):
    with pytest.raises(ValueError, match="two lists of equal length"):
        report.loss_curve(tmp_path / "loss.png", *wrong)


def test_scatter_says_what_it_shows(tmp_path, drawn):
    fit = fit_logistic(PRED, MOS, "logistic4")
    report.scatter(tmp_path / "s.png", PRED, MOS, "glintiqa on tub_acr, test", fit)
    (axes,) = drawn[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted score (0-100)", "opinion score")
    first, numbers, fitted = axes.get_title().split("\n")
    assert first == "glintiqa on tub_acr, test"
    assert numbers == f"SRCC {srcc(PRED, MOS):.3f}   PLCC {plcc(PRED, MOS):.3f}   n = 120"
    assert fitted == f"PLCC after logistic4 {plcc(fit(PRED), MOS):.3f}"
    (curve,) = axes.get_lines()
    assert curve.get_ydata() == pytest.approx(fit(curve.get_xdata()))
    assert share(pixels(tmp_path / "s.png"), report.ORANGE) > 0.002


def test_scatter_counts_what_it_leaves_out(tmp_path, drawn):
    report.scatter(tmp_path / "s.png", [1, np.nan, 3, 4, 9], [1, 2, np.inf, 4, 5], "x")
    assert "n = 3 (2 more not finite)" in drawn[0].axes[0].get_title()
    report.scatter(tmp_path / "s.png", [], [], "nothing", fit_logistic([], [], "logistic5"))
    assert "SRCC nan   PLCC nan   n = 0" in drawn[1].axes[0].get_title()
    report.scatter(tmp_path / "s.png", [5.0] * 9, range(9), "constant", fit_logistic([5.0] * 9, range(9), "logistic4"))
    assert "PLCC after logistic4 nan (not converged)" in drawn[2].axes[0].get_title()


def test_names_that_the_font_lacks_or_that_look_like_formulas(tmp_path):
    title = "$\\frac{a}{$ \udcff 圖像 😀 \x07 grün " * 4
    report.scatter(tmp_path / "s.png", PRED, MOS, title)
    report.contact_sheet(tmp_path / "c.png", [np.zeros((50, 50, 3), np.uint8)], [title], title, 3)


def test_contact_sheet_shows_whole_images_in_their_shape(tmp_path):
    """Flat images of known colours: the area of each colour is the area of its thumbnail."""
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]
    sizes = [(60, 100), (1000, 500), (300, 1200), (282, 282), (1, 1)]
    expected = [(60, 100), (282, 141), (71, 282), (282, 282), (1, 1)]
    images = [np.full((*size, 3), colour, np.uint8) for size, colour in zip(sizes, colours, strict=True)]
    report.contact_sheet(tmp_path / "c.png", images, ["two\nlines"] * 5, "Best and worst", 3)
    sheet = pixels(tmp_path / "c.png")
    assert sheet.shape[1] == 900
    for colour, (height, width) in zip(colours, expected, strict=True):
        rows, columns = np.nonzero((sheet == colour).all(-1))
        assert len(rows) == height * width
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (height, width)


def test_contact_sheet_of_a_photograph_is_not_resampled_twice(tmp_path):
    noise = RNG.integers(0, 256, (100, 150, 3), dtype=np.uint8)
    report.contact_sheet(tmp_path / "c.png", [noise], ["x"], "x", 1)
    sheet = pixels(tmp_path / "c.png")
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (100, 150), axis=(0, 1))
    assert any((windows[i, 75].transpose(1, 2, 0) == noise).all() for i in range(windows.shape[0]))


@pytest.mark.parametrize(("images", "captions"), [([], []), ([np.zeros((9, 9, 3), np.uint8)], [])])
def test_contact_sheet_needs_a_caption_for_each_image(tmp_path, images, captions):
    with pytest.raises(ValueError, match="a caption for each"):
        report.contact_sheet(tmp_path / "c.png", images, captions, "x", 3)


def test_figures_of_real_images(tmp_path, shared: pathlib.Path):
    paths = sorted((shared / "data/mos/tub_acr/images").glob("*.jpg"))[::15]
    images = [np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB")) for path in paths]
    report.contact_sheet(tmp_path / "c.png", images, [path.name for path in paths], "tub_acr", 4)
    assert share(pixels(tmp_path / "c.png"), "#ffffff") < 0.6


def test_predictions_survive_a_round_trip(tmp_path):
    names = ["a.png", 'comma, "quote".png', "line\nbreak.png", "grün 圖.png", "\udcff\udcfe.png", "-x.png"]
    known = {
        "score": 100 / 3,
        "native": np.float64(2.5),
        "se": 0.5,
        "mos": 4,
        "reference": "",
        "distortion": "jpeg",
        "level": 3,
    }
    rows = [{"path": name} | known for name in names]
    rows.append({"path": "no label.png", "score": 5.0, "native": 1.2})
    write_predictions(tmp_path / "p.csv", rows)
    with open(tmp_path / "p.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert file.readline() == "path,score,native,se,mos,reference,distortion,level,lo,hi\n"
        file.seek(0)
        back = list(csv.DictReader(file))
    assert [row["path"] for row in back] == [*names, "no label.png"]
    assert float(back[0]["score"]) == 100 / 3 and back[0]["native"] == "2.5" and back[0]["level"] == "3"
    assert back[-1]["mos"] == back[-1]["reference"] == ""
    with pytest.raises(ValueError, match="colour"):
        write_predictions(tmp_path / "p.csv", [{"path": "x", "colour": 1}])


def test_json_is_valid_and_whole(tmp_path, monkeypatch):
    values = {"srcc": np.float32(0.5), "n": np.int64(3), "plcc": float("nan"), "list": np.arange(2), "name": "\udcff ü"}
    values |= {"nested": {1: [float("inf"), True, None]}}
    write_json(tmp_path / "r.json", values)
    back = json.loads((tmp_path / "r.json").read_bytes(), parse_constant=pytest.fail)
    expected = {
        "srcc": 0.5,
        "n": 3,
        "plcc": None,
        "list": [0, 1],
        "name": "\udcff ü",
        "nested": {"1": [None, True, None]},
    }
    assert back == expected
    before = (tmp_path / "r.json").read_bytes()
    with pytest.raises(TypeError):
        write_json(tmp_path / "r.json", {"x": object()})
    monkeypatch.setattr(type(epath.Path(tmp_path)), "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_json(tmp_path / "r.json", {"x": 1})
    assert (tmp_path / "r.json").read_bytes() == before


@pytest.mark.parametrize("kind", [str, pathlib.Path, epath.Path])
def test_any_kind_of_path(tmp_path, kind):
    write_json(kind(tmp_path / "r.json"), {"x": 1})
    write_predictions(kind(tmp_path / "p.csv"), [])
    report.loss_curve(kind(tmp_path / "l.png"), [1, 2], [3, 4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.png", "p.csv", "r.json"]


def test_no_plotting_state_of_the_process_is_touched():
    code = "import sys, jaxiqa.figures.report; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
