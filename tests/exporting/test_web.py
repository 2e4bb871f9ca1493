"""The page for browsers: its files, its computations beside Python's, and its use, in a Chromium without a window."""

import csv
import functools
import http.server
import io
import json
import os
import threading

import browser
import numpy as np
import pytest
import skimage.data
from PIL import Image
from refused import refused
from small_checkpoint import write_source

from jaxiqa.datasets.records import Scale
from jaxiqa.errors import ConfigError
from jaxiqa.exporting import browser_runtime, onnx_file, web_folder
from jaxiqa.inputs.scales import shrink
from jaxiqa.inputs.transforms import fit
from jaxiqa.models import ready
from jaxiqa.scoring.crops import cut_crops, parse_policy, positions
from jaxiqa.scoring.predict import Prediction
from jaxiqa.scoring.scorer import Scorer

pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

needs_browser = pytest.mark.skipif(not browser.find(), reason="there is no Chromium on this machine")
INTERVAL = {
    "level": 0.9, "half_width": 8.0, "spread_weight": 0.5, "median_spread": 2.0, "contents": 9, "images": 9, "of": "x",
}  # fmt: skip


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """A model of statistics with everything that a card may hold, whose note could end a script."""
    curve = {"kind": "logistic", "parameters": [0.9, 0.1, 0.0, 0.5]}
    reference = {"of": "numbers", "quantiles": np.linspace(0, 1, 101).tolist()}
    card = dict(scale=Scale(1, 5, False), interval=INTERVAL, curve=curve, reference=reference, note="</script><b>")
    return Scorer(write_source(tmp_path_factory.mktemp("web") / "small", "compact", **card))


@pytest.fixture(scope="module")
def exported(scorer):
    """The ONNX file of the model, and a function that runs it."""
    file = onnx_file.make(scorer, "fp32")
    return file, onnx_file.runner(file)


@pytest.fixture
def no_runtime(monkeypatch):
    """A page without a working ONNX Runtime, for tests of everything else."""
    monkeypatch.setattr(browser_runtime, "read", lambda build, folder: dict.fromkeys(build.values(), b"// none"))


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.fixture
def served(tmp_path):
    """served(files) writes the files of a page and returns its address."""
    (tmp_path / "site").mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Handler, directory=str(tmp_path / "site"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def serve(files):
        write(tmp_path / "site", files)
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_files_of_a_page(scorer, exported, no_runtime):
    files = web_folder.make(scorer, *exported, None, False)
    assert list(files)[-1] == "index.html" and files["model.onnx"] == exported[0]
    assert {name for name in files if name.startswith("ort/")} == {
        f"ort/{name}" for name in browser_runtime.BUILDS[False].values()
    }
    page = files["index.html"].decode()
    config = json.loads(page.split('id="config">')[1].split("</script>")[0])
    assert config["card"]["note"] == "</script><b>" and config["crops"]["policy"] == "auto:4"
    assert "connect-src 'self'" in page and "http:" not in page.replace("http://www.w3.org", "")
    single = web_folder.make(scorer, *exported, None, True)
    assert list(single) == ["index.html"] and b'src="' not in single["index.html"]


def test_random_crops_are_refused(scorer, exported, no_runtime):
    other = Scorer(scorer.workdir, crops="random:4")
    with refused(ConfigError, "conflict", "--crops"):
        web_folder.make(other, *exported, None, False)


def test_another_runtime_is_refused(tmp_path):
    build = browser_runtime.BUILDS[False]
    with refused(ConfigError, "not_found", "--ort", build["script"]):
        browser_runtime.read(build, str(tmp_path))
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / build["script"]).write_text("alert(1)")
    with refused(ConfigError, "changed", "--ort", build["script"]):
        browser_runtime.read(build, str(tmp_path))


def test_without_npm_the_folder_must_be_named(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXIQA_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with refused(ConfigError, "package", "--ort", browser_runtime.VERSION):
        browser_runtime.read(browser_runtime.BUILDS[False], None)


@pytest.mark.parametrize("script", ["exec sleep 60", "echo no network >&2; exit 1", "exit 1", "exit 0"])
def test_an_npm_that_fetches_nothing(script, tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("JAXIQA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(browser_runtime, "_PATIENCE", 0.5)
    with refused(ConfigError, "run_failed", "--ort", browser_runtime.VERSION):
        browser_runtime.read(browser_runtime.BUILDS[False], None)
    assert not (tmp_path / "cache").exists()


PLACES = [  # policy, height, width, crop, stride
    *((f"auto:{n}", *sides, 96, 0) for n in (1, 4, 7, 25) for sides in ((96, 96), (300, 451), (2000, 150))),
    *((kind, 300, 451, 96, 32) for kind in ("grid", "overlap", "whole")),
    *(("five", *sides, 96, 0) for sides in ((97, 300), (40, 50))),
]
SIDES = [((50, 70), 96), ((200, 90), 96), ((31, 33), 33)]  # of an image, and the least side


@needs_browser
def test_the_page_computes_what_python_computes(scorer, exported, no_runtime, served, tmp_path):
    """Places of crops, resized images, crops at two scales, and rows of scores; and what a failing engine shows."""
    rng = np.random.default_rng(0)
    image = lambda sides: rng.integers(0, 256, (*sides, 3)).astype(np.uint8)  # noqa: E731
    in_js = lambda x: f"{{data: Uint8Array.from({x.ravel().tolist()}), height: {x.shape[0]}, width: {x.shape[1]}}}"  # noqa: E731
    with browser.opened(served(web_folder.make(scorer, *exported, None, False)), tmp_path / "profile") as page:
        page.wait("document.readyState === 'complete' && !document.getElementById('fault').hidden")
        assert page.value("document.getElementById('files').disabled")
        for policy, height, width, crop, stride in PLACES:
            sides = np.broadcast_to(np.uint8(0), (height, width, 3))
            expected = positions(parse_policy(policy), sides, crop, stride).tolist()
            assert page.value(f"corners('{policy}', {height}, {width}, {crop}, {stride})") == expected, policy
        for sides, least in SIDES:
            x = image(sides)
            found = page.value(f"(() => [...fit({in_js(x)}, {least}, 0).data])()")
            assert np.array_equal(found, fit(x, least).ravel()), sides
        x = image((90, 130))
        assert np.array_equal(page.value(f"[...shrink({in_js(x)}, 2, 32).data]"), shrink(x, 2, 32).ravel())
        policy = {"policy": "auto:4", "side": 32, "scales": [1, 2, 0], "stride": 0, "min_side": 32, "resize": 0}
        made = (
            f"(() => {{const c = cropsOf({in_js(x)}, {json.dumps(policy)}); return [...c.make(0, c.places.length)]}})()"
        )
        expected = np.stack(cut_crops(parse_policy("auto:4"), x, 32, 0, (1, 2, 0)))
        assert np.array_equal(page.value(made), expected.ravel())
        for outputs in ([0.3], [-2.0, 0.1, 0.4], [5.0, 6.0]):
            row = page.value(f"rowOf(config.card, {outputs})")
            se = float(np.std(outputs, ddof=1)) / len(outputs) ** 0.5 if len(outputs) > 1 else float("nan")
            (score,) = scorer.card.scores([Prediction(float(np.mean(outputs)), se, len(outputs))])
            assert row["word"] == score.word
            for name in ("score", "native", "se", "percentile", "lo", "hi"):
                value = float("nan") if row[name] is None else row[name]
                assert value == pytest.approx(getattr(score, name), nan_ok=True), name
        text = page.value("csvOf([{path: 'a,\"b\".png', score: 1.5, native: null, status: 'ok'}])")
        (row,) = csv.DictReader(io.StringIO(text))
        assert row["path"] == 'a,"b".png' and row["score"] == "1.5" and row["native"] == ""


def runtime() -> str | None:
    """The folder of the unpacked package onnxruntime-web."""
    return os.environ.get("JAXIQA_ORT_WEB")


@pytest.mark.slow
@needs_browser
@pytest.mark.skipif(not runtime(), reason="JAXIQA_ORT_WEB names no unpacked package onnxruntime-web")
@pytest.mark.parametrize("single", [False, True], ids=["folder", "single file"])
def test_scores_of_photographs_are_those_of_python(single, served, tmp_path):
    """PNG, also transparent and small, and JPEG; by the keyboard, with a damaged file, as a table."""
    ours = Scorer(ready.FOLDER)
    file = onnx_file.make(ours, "fp32")
    files = web_folder.make(ours, file, onnx_file.runner(file), runtime(), single)
    assert sum(len(content) for name, content in files.items() if not name.startswith("ort/")) < 10e6 or single
    images = tmp_path / "images"
    images.mkdir()
    cat, coffee = skimage.data.chelsea(), skimage.data.coffee()
    alpha = np.tile(np.linspace(0, 255, cat.shape[1]).astype(np.uint8), (cat.shape[0], 1))
    Image.fromarray(cat).save(images / "a.png")
    Image.fromarray(cat[100:150, 100:180]).save(images / "b.png")
    Image.fromarray(np.dstack([cat, alpha]), "RGBA").save(images / "c.png")
    Image.fromarray(coffee).save(images / "d.jpg", quality=85)
    (images / "e.jpg").write_bytes(b"\xff\xd8\xff nothing")
    paths = sorted(images.iterdir())
    address = served(files)
    if single:
        (tmp_path / "page.html").write_bytes(files["index.html"])
        address = (tmp_path / "page.html").as_uri()
    with browser.opened(address, tmp_path / "profile") as page:
        page.wait("document.body?.classList.contains('ready')", 300)
        page.choose("#files", *paths)
        page.wait("results.length === 5 && results.every(({row}) => row)", 300)
        rows = {row["path"]: row for row in page.value("results.map(({row}) => ({...row, map: undefined}))")}
        assert rows.pop("e.jpg")["status"] == "refused"
        for path, expected in zip(paths, ours.scores(map(str, paths[:4])), strict=False):
            row = rows[path.name]
            limit = 0.1 if path.suffix == ".jpg" else 0.01
            assert row["score"] == pytest.approx(expected.score, abs=limit), path.name
            assert row["percentile"] == pytest.approx(expected.percentile, abs=limit) and row["word"] == expected.word
        shown = page.value("[...document.querySelectorAll('.number')].map((element) => element.textContent)")
        assert shown == [*(f"{rows[path.name]['score']:.1f}" for path in paths[:4]), "–"]
        page.value("at('sort').value = 'worst'; order()")
        names = page.value("[...document.querySelectorAll('.name')].map((element) => element.textContent)")
        assert names == [*sorted(rows, key=lambda name: rows[name]["score"]), "e.jpg"]
        page.value("document.querySelector('.open').focus()")
        page.press("Enter", 13)
        page.wait("at('detail').open && document.querySelector('.map').width > 0")
        page.press("Escape", 27)
        page.wait("!at('detail').open")
        assert not page.console
