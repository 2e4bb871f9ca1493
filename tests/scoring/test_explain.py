"""Probabilities by family of distortions beside the scores."""

import flax.linen as nn
import jax
import numpy as np
from etils import epath
from refused import refused

from jaxiqa.errors import CheckpointError
from jaxiqa.evaluation.probe import Probe
from jaxiqa.scoring.explain import Explainer, keep_probe
from jaxiqa.scoring.predict import Predictor
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
    np.testing.assert_allclose(probability, expected, rtol=1e-5)


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
        explained.explanation, [(e + 1) / 2 / (e + 3), 2 / (e + 3), (e + 1) / 2 / (e + 3)], rtol=1e-5
    )


def test_no_probe_and_a_damaged_one(tmp_path):
    with refused(CheckpointError, "not_found", None, "probe.npz", "--explain"):
        Explainer(epath.Path(tmp_path), "mfen")
    (tmp_path / "probe.npz").write_bytes(b"no archive")
    with refused(CheckpointError, "damaged", tmp_path / "probe.npz"):
        Explainer(epath.Path(tmp_path), "mfen")


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
