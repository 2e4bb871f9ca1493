"""ARNIQA: outputs of an independent PyTorch implementation, and files in the authors' form."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_writer as w
from tiny_run import run_program

from jaxiqa.datasets.records import Scale
from jaxiqa.models import create_model
from jaxiqa.models.arniqa import REGRESSORS, shrunk
from jaxiqa.scoring.scorer import Scorer
from jaxiqa.training.state import jit_once
from jaxiqa.weights.files import read_tensors, write_tensors


def write_regressor(path, tensors):
    """A TorchScript archive with the tensors in an instance of a class."""
    body = w.module({"training": b"\x88", **{name: w.whole(name, array) for name, array in tensors.items()}})
    path.write_bytes(w.script_file(body, tensors))


@pytest.mark.slow
def test_golden(goldens, shared, tmp_path, capsys):
    """From the authors' two files to scores and back: embeddings to 1e-4, scores to 1e-3, the encoder bit for bit."""
    import skimage.data

    golden = json.loads((shared / "goldens" / "arniqa.json").read_text())
    encoder = goldens.seeded.seeded_state_dict(golden["shapes"], golden["seed"])
    write_tensors(tmp_path / "ARNIQA.pth", encoder)
    draw = np.random.Generator(np.random.PCG64([golden["seed"], 4096]))
    weights = 3 * draw.standard_normal((1, 4096)).astype(np.float32)
    regressor = {"weights": weights, "biases": np.array(golden["regressor"]["biases"], np.float32)}
    write_regressor(tmp_path / "regressor_koniq10k.pth", regressor)
    both = f"--source={tmp_path / 'ARNIQA.pth'}", f"--regressor={tmp_path / 'regressor_koniq10k.pth'}"
    done = run_program("convert", "--model=arniqa", *both, f"--output={tmp_path / 'w'}")
    assert done.returncode == 0 and "57 carried" in done.stdout, (done.stdout, done.stderr)

    scorer = Scorer(tmp_path / "w")
    assert scorer.card.crops == "five" and scorer.card.dataset == "koniq10k"
    assert scorer.card.scale == Scale(1.0, 100.0, True) and scorer.card.labels == "native"
    expected, errors = golden["outputs"], {}
    pairs = np.stack([goldens.seeded.seeded_input(seed) for seed in (1, 2)], axis=1)
    with jax.default_matmul_precision("highest"):
        score, out = jax.jit(scorer.model.apply)(scorer.variables, pairs)
        embedding, tensor = np.asarray(out["embedding"]), expected["tensor"]
        errors["embedding"] = np.abs(embedding[0, :8] - tensor["embedding_first8"]).max() / tensor["absmax"]
        errors["half"] = np.abs(embedding[0, 2048:2056] - tensor["embedding_half_first8"]).max() / tensor["absmax"]
        errors["absmax"] = abs(np.abs(embedding).max() / tensor["absmax"] - 1)
        errors["score"] = np.abs(score - np.array(tensor["score"])).max()
        for name in ("coffee", "chelsea"):
            (found,) = scorer.scores([getattr(skimage.data, name)()])
            se = np.std(expected[name]["crop_scores"], ddof=1) / 5**0.5
            errors[name] = max(abs(found.native - expected[name]["score"]), abs(found.se * 0.99 - se))
    with capsys.disabled():
        print("\narniqa: " + "  ".join(f"{k} {v:.1e}" for k, v in errors.items()))
    assert max(errors[name] for name in ("embedding", "half", "absmax")) <= 1e-4
    assert max(errors.values()) <= 1e-3

    back = f"--target={tmp_path / 'back.pth'}", f"--regressor={tmp_path / 'regressor.pth'}"
    done = run_program("convert", f"--source={tmp_path / 'w'}", *back)
    assert done.returncode == 0 and "zeros" not in done.stdout, done.stderr
    for name, before in {"back.pth": encoder, "regressor.pth": regressor}.items():
        after = read_tensors(tmp_path / name)
        assert list(after) == list(before)
        for key, array in before.items():
            assert after[key].dtype == array.dtype and after[key].shape == array.shape, key
            assert after[key].tobytes() == array.tobytes(), key


def test_images_and_pairs_of_crops():
    """An image is halved by the model; a pair of crops is used as it is. Both vectors of an embedding have length 1."""
    model = create_model("arniqa", "test")
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 64, 64, 3)), jnp.float32)
    variables, forward = jit_once(model.init)(jax.random.key(0), x), jax.jit(model.apply)
    score, out = forward(variables, x)
    D = 8 * 8 * 4
    assert score.shape == (2,) and out["embedding"].shape == (2, 2 * D) and out["pooled"].shape == (2, D)
    full, half = np.split(np.asarray(out["embedding"]), 2, axis=1)
    np.testing.assert_allclose([np.square(part).sum(1) for part in (full, half)], 1, rtol=1e-5)
    np.testing.assert_allclose(full, out["pooled"] / np.linalg.norm(out["pooled"], axis=1, keepdims=True), rtol=1e-5)
    kernel, bias = variables["params"]["regressor"]["kernel"], variables["params"]["regressor"]["bias"]
    np.testing.assert_allclose(score, (out["embedding"] @ kernel)[:, 0] + bias, rtol=1e-5, atol=1e-6)
    small = shrunk(x, 2)
    _, paired = forward(variables, jnp.stack([small, small[::-1]], axis=1))
    np.testing.assert_allclose(paired["embedding"][:, :D], half, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(paired["embedding"][::-1, D:], half, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 96), (75, 81)])
def test_shrunk_is_pillows_resize(size, tmp_path):
    from jaxiqa.inputs.scales import shrink

    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    ours = np.asarray(shrunk(image[None].astype(np.float32), 2))[0]
    assert ours.shape == (size[0] // 2, size[1] // 2, 3)
    assert np.abs(ours - shrink(image, 2)).max() <= 1.0  # Pillow rounds to 8 bits after each axis


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(name):
    """The ends of each scale are 0 and 1; only LIVE and CSIQ have DMOS."""
    lo, hi, higher = REGRESSORS[name]
    scale = Scale(lo, hi, higher)
    assert [float(scale.to_score01(end)) for end in (lo, hi)] == ([0, 1] if higher else [1, 0])
    assert higher == (name not in ("live", "csiq"))
    assert (lo, hi) == {"csiq": (0, 1), "tid2013": (0, 9), "kadid10k": (1, 5)}.get(name, (1, 100))
