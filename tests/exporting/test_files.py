"""Exported files of every model: run without JAX, in lower precision, and by jax.export without jaxiqa."""

import functools
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from small_checkpoint import write_source

from jaxiqa.datasets.records import Scale
from jaxiqa.exporting import onnx_file, stablehlo_file
from jaxiqa.exporting.crop_scores import CropScores, describe, largest_difference, real_crops
from jaxiqa.scoring.scorer import Scorer

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

CURVE = {"kind": "logistic", "parameters": [0.9, 0.1, 0.0, 2.0]}
CARDS = {  # every model of ours, and every kind of card
    "arniqa": {"scale": Scale(0.0, 1.0), "curve": CURVE},
    "calibrated": {"scale": Scale(1.0, 5.0), "labels": "native"},
    "cnniqa": {"scale": Scale(0.0, 100.0, False), "labels": "native", "crops": "whole"},
    "compact": {},
    "glintiqa": {"dtype": "bfloat16"},
    "mfen": {"scale": Scale(1.0, 5.0), "labels": "native"},
}
WITHOUT_JAX = """
import sys
sys.modules["jax"] = sys.modules["jaxiqa"] = None  # an import of them fails
import numpy, onnxruntime
folder = sys.argv[1]
crops = numpy.load(folder + "/crops.npy")
session = onnxruntime.InferenceSession(folder + "/model.onnx", providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
numpy.savez(folder + "/found.npz", **dict(zip(names, session.run(names, {"crops": crops}))))
"""


@pytest.fixture(scope="module")
def scorers(tmp_path_factory):
    """scorers(name): the Scorer of a small checkpoint of a model."""
    base = tmp_path_factory.mktemp("exported")
    return functools.cache(lambda name: Scorer(write_source(base / name, name, **CARDS[name])))


@pytest.fixture(scope="module")
def files(scorers, tmp_path_factory):
    """files(name): folder of a file, its outputs for seven crops in a process without JAX, and those of JAX."""
    base = tmp_path_factory.mktemp("files")

    @functools.cache
    def make(name):
        (folder := base / name).mkdir()
        (folder / "model.onnx").write_bytes(onnx_file.make(scorers(name), "fp32"))
        np.save(folder / "crops.npy", crops := real_crops(scorers(name), 7))
        subprocess.run([sys.executable, "-c", WITHOUT_JAX, folder], check=True)
        return folder, dict(np.load(folder / "found.npz")), CropScores(scorers(name)).reference(crops)

    return make


_SLOW = ("calibrated", "glintiqa", "mfen")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in _SLOW else []) for n in CARDS])
def test_onnx_runtime_computes_the_scores_without_jax(files, scorers, name):
    _, found, expected = files(name)
    assert found.keys() == expected.keys() == {"score", "output", *(["native"] if scorers(name).card.scale else [])}
    assert np.ptp(expected["score"]) > 1e-3
    assert largest_difference(found, expected) < 0.01
    for output, values in expected.items():
        np.testing.assert_allclose(found[output], values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["arniqa", "cnniqa", "compact"])
def test_the_outputs_are_those_of_the_card(files, scorers, name):
    """Of an image of one crop, as jaxiqa score reports them."""
    scorer, (_, found, _) = scorers(name), files(name)
    crops = real_crops(scorer, 7)
    rows = scorer.card.scores(scorer.predictor.stream(scorer.variables, crops[:, None], are_crops=True))
    score, native = np.array([(row.score, row.native) for row in rows]).T
    np.testing.assert_allclose(found["score"], score, atol=0.01)
    if scorer.card.scale:
        np.testing.assert_allclose(found["native"], native, atol=0.01)


def test_the_metadata_describes_the_model(files, scorers):
    model = onnx.load(files("cnniqa")[0] / "model.onnx")
    told = {prop.key: prop.value for prop in model.metadata_props}
    assert told == describe(scorers("cnniqa"), "fp32")
    assert told["weights_sha256"] == scorers("cnniqa").digest and len(told["weights_sha256"]) == 64
    assert json.loads(told["card"]) == json.loads(json.dumps(scorers("cnniqa").card.to_dict()))
    assert json.loads(told["crops"])["policy"] == "whole" and json.loads(told["crops"])["side"] == 33


@pytest.mark.parametrize(("name", "precision", "limit"), [("arniqa", "fp16", 0.5), ("cnniqa", "int8", 5.0)])
def test_files_in_lower_precision(files, scorers, name, precision, limit):
    """They are smaller, and their scores are near, but not the same."""
    folder, _, expected = files(name)
    data = onnx_file.make(scorers(name), precision)
    crops = real_crops(scorers(name), 7)
    found = onnx_file.runner(data)(crops)
    assert 0 < largest_difference(found, expected) < limit
    assert len(data) < 0.75 * (folder / "model.onnx").stat().st_size


def test_a_stablehlo_file_needs_jax_only(scorers):
    scorer = scorers("cnniqa")
    data = stablehlo_file.make(scorer)
    exported = jax.export.deserialize(bytearray(data))
    assert set(exported.platforms) == {"cpu", "cuda", "rocm", "tpu"}
    function = CropScores(scorer)
    for count in (1, 5):
        crops = real_crops(scorer, count)
        found = dict(zip(function.outputs, map(np.asarray, exported.call(crops)), strict=True))
        assert largest_difference(found, function.reference(crops)) < 0.01
