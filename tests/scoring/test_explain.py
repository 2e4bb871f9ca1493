"""Probabilities by family of distortions beside the scores."""

import dataclasses
import io
import pathlib
import tempfile

import flax.linen as nn
import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image
from refused import refused
from small_checkpoint import write_source

from jaxiqa.errors import CheckpointError, DataError
from jaxiqa.evaluation.probe import Probe
from jaxiqa.inputs.probe_set import KINDS, Sample
from jaxiqa.inputs.transforms import random_crop
from jaxiqa.scoring import reasons
from jaxiqa.scoring.explain import Explainer, explainer_if_any, in_words, keep_probe
from jaxiqa.scoring.predict import Predictor
from jaxiqa.scoring.scorer import Scorer
from jaxiqa.training import sharding

PROBE = Probe(
    np.array([[4, 0, 0, 0], [0, 4, 4, 0], [0, 0, 0, 4]], np.float32),
    np.zeros(4, np.float32),
    ("pristine", "gaussian_blur", "lens_blur", "white_noise"),
    ("pristine", "blur", "blur", "noise"),
)


class MeanColour(nn.Module):
    """The score is the mean of a crop; the features are the means of its channels."""

    crop_size: int = 8
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    dtype: type = np.float32

    @nn.compact
    def __call__(self, x_BHWC, train: bool = False):
        return x_BHWC.mean((1, 2, 3)), {"dan_pooled": x_BHWC.mean((1, 2))}


def test_families(tmp_path):
    PROBE.save(tmp_path / "probe.npz")
    explainer = Explainer(epath.Path(tmp_path), "mfen")
    assert explainer.families == ("pristine", "blur", "noise")
    probability = jax.jit(explainer)({"dan_pooled": np.eye(3, dtype=np.float32)})
    e = np.exp(4)
    expected = [[e / (e + 3), 2 / (e + 3), 1 / (e + 3)], [1, 2 * e, 1], [1 / (e + 3), 2 / (e + 3), e / (e + 3)]]
    expected[1] = [x / (2 * e + 2) for x in expected[1]]
    np.testing.assert_allclose(probability[:, :3], expected, rtol=1e-5)
    assert np.isnan(probability[:, 3]).all()  # files of 0.1.0 have no severity


def test_means_over_the_crops_of_an_image(tmp_path):
    """An image half blue and half red is half noise and half pristine; its score is the same without an explanation."""
    PROBE.save(tmp_path / "probe.npz")
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, :8, 2], image[:, 8:, 0] = 255, 255
    batches = sharding.batch_sharding(sharding.make_mesh())
    (explained,) = Predictor(MeanColour(), "grid", batches, [4], Explainer(epath.Path(tmp_path), "mfen"))({}, [image])
    (plain,) = Predictor(MeanColour(), "grid", batches, [4])({}, [image])
    assert explained[:3] == plain[:3] and plain.explanation == () and explained.crops == 2
    e = np.exp(4)
    np.testing.assert_allclose(
        explained.explanation[:3], [(e + 1) / 2 / (e + 3), 2 / (e + 3), (e + 1) / 2 / (e + 3)], rtol=1e-5
    )


def saved(probe: Probe) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        probe.save(f"{folder}/probe.npz")
        return pathlib.Path(folder, "probe.npz").read_bytes()


def written(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


NAMES = {"classes": np.array(PROBE.classes), "families": np.array(PROBE.families)}
NAN = dataclasses.replace(PROBE, bias=np.float32([0, 0, 0, np.nan]))
HOSTILE = {
    "no archive": b"no archive",
    "cut": saved(PROBE)[:-40],
    "pickle": written(weight=np.array([{}], object), bias=PROBE.bias, **NAMES),
    "no families": written(weight=PROBE.weight, bias=PROBE.bias, classes=NAMES["classes"]),
    "other shapes": written(weight=PROBE.weight, bias=PROBE.bias[:2], **NAMES),
    "about": written(weight=PROBE.weight, bias=PROBE.bias, **NAMES, about=np.array("[1]")),
    "not finite": saved(NAN),
    "severity": saved(dataclasses.replace(PROBE, severity=np.zeros(2, np.float32))),
}


def test_no_probe(tmp_path):
    with refused(CheckpointError, "not_found", None, "probe.npz", "jaxiqa probe"):
        Explainer(epath.Path(tmp_path), "mfen")


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_probes(tmp_path, case):
    (tmp_path / "probe.npz").write_bytes(HOSTILE[case])
    with refused(CheckpointError, "damaged", tmp_path / "probe.npz"):
        Explainer(epath.Path(tmp_path), "mfen")


def test_a_changed_weight_is_found_by_its_digest(tmp_path):
    with np.load(io.BytesIO(saved(PROBE))) as file:
        arrays = dict(file)
    arrays["weight"] = arrays["weight"] + 1
    (tmp_path / "probe.npz").write_bytes(written(**arrays))
    with refused(CheckpointError, "damaged", tmp_path / "probe.npz"):
        Explainer(epath.Path(tmp_path), "mfen")


def test_a_probe_belongs_to_its_weights(tmp_path):
    dataclasses.replace(PROBE, taps=("dan_pooled",), about={"weights": "a"}).save(tmp_path / "probe.npz")
    assert Explainer(epath.Path(tmp_path), "compact", "a").about == {"weights": "a"}
    with refused(CheckpointError, "mismatch", tmp_path / "probe.npz", "jaxiqa probe"):
        Explainer(epath.Path(tmp_path), "compact", "b")


def test_a_probe_that_nobody_asked_for_may_be_missing_or_of_other_weights(tmp_path, capsys):
    folder = epath.Path(tmp_path)
    assert explainer_if_any(folder, "compact", "a") is None and not capsys.readouterr().out
    dataclasses.replace(PROBE, taps=("dan_pooled",), about={"weights": "a"}).save(tmp_path / "probe.npz")
    assert explainer_if_any(folder, "compact", "a").families == ("pristine", "blur", "noise")
    assert explainer_if_any(folder, "compact", "b") is None and "probe.npz" in capsys.readouterr().out


def test_severity_and_words(tmp_path):
    probe = dataclasses.replace(PROBE, severity=np.float32([2, 9, 0, 1]), taps=("dan_pooled",))
    probe.save(tmp_path / "probe.npz")
    explainer = Explainer(epath.Path(tmp_path), "mfen")
    found = np.asarray(explainer({"dan_pooled": np.eye(3, dtype=np.float32)}))
    assert found[:, 3].tolist() == [3.0, 5.0, 1.0]  # clipped to 5
    assert in_words(explainer.families, found[1]) == "blur 98 %; severity 5.0 of 5"
    assert in_words(explainer.families, ()) == in_words(explainer.families, [np.nan] * 4) == ""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("glintiqa", marks=pytest.mark.slow),
        pytest.param("mfen", marks=pytest.mark.release),
        "cnniqa",
        "compact",
    ],
)
def test_every_model_gets_a_probe_that_tells_distortions(tmp_path, monkeypatch, name):
    """Random weights, smooth photographs, and two distortions that are easy to tell: noise, and a change of colour."""
    rng = np.random.default_rng(0)

    def samples(image_HWC, side, turn):
        for _ in range(4):
            clean = random_crop(image_HWC, side, rng)
            noise = rng.normal(0, 60, clean.shape)
            yield Sample(clean, 0, 0.0)
            yield Sample(np.clip(clean + noise, 0, 255).astype(np.uint8), KINDS.index("white_noise"), 4.0)
            yield Sample((clean * [1.0, 0.2, 0.2]).astype(np.uint8), KINDS.index("colour_shift"), 2.0)

    monkeypatch.setattr(reasons, "samples", samples)
    scorer = Scorer(write_source(tmp_path / name, name, **({"crops": "whole"} if name == "cnniqa" else {})))
    images = [
        np.asarray(Image.fromarray(rng.integers(60, 200, (4, 5, 3), np.uint8)).resize((160, 128), 3)) for _ in range(8)
    ]
    probe = reasons.fit(scorer.model, scorer.card, scorer.variables, images, scorer.digest, "8 gradients")
    assert probe.about["held_out"] == 2 and probe.about["balanced_accuracy"] > 0.6
    assert probe.about["severity_error"] < 1.3  # 1.7 if all were called 2
    probe.save(scorer.workdir / "probe.npz")
    explained = Scorer(tmp_path / name, explain=True)
    (found,) = explained.stream(images[:1])
    assert len(found.explanation) == len(explained.families) + 1 == 9
    assert sum(found.explanation[:-1]) == pytest.approx(1, abs=1e-4) and 0 <= found.explanation[-1] <= 5
    with refused(DataError, "empty"):
        reasons.fit(scorer.model, scorer.card, scorer.variables, images[:3], "", "")


def test_the_probe_of_the_step_that_is_taken_is_kept(tmp_path):
    pretrained = type("Pretrained", (), {"workdir": epath.Path(tmp_path), "step": 7})
    other = epath.Path(tmp_path) / "mfen"
    other.mkdir()
    PROBE.save(tmp_path / "probe_6.npz")
    keep_probe(pretrained, other)
    assert not (other / "probe.npz").exists()
    PROBE.save(tmp_path / "probe_7.npz")
    keep_probe(pretrained, other)
    assert Explainer(other, "mfen").families == ("pristine", "blur", "noise")
