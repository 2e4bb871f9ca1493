"""Initial weights of a system from backbones: what is loaded, skipped, resized and refused."""

import json

import jax
import numpy as np
import pytest
from etils import epath
from flax import traverse_util
from refused import refused
from tiny_run import make_config, trained_config

from jaxiqa.errors import CheckpointError, ConfigError
from jaxiqa.models import create_model
from jaxiqa.runs.checkpoint import Checkpoints, Saved
from jaxiqa.runs.checkpoint_meta import CheckpointMeta
from jaxiqa.train import train
from jaxiqa.training.state import jit_once
from jaxiqa.weights.initial import check_init, part_variables, place
from jaxiqa.weights.mapping import abstract_leaves, resize_position_embedding


@pytest.fixture(scope="module")
def shapes():
    return abstract_leaves("glintiqa", "test")


@pytest.fixture(scope="module")
def initial_vit():
    """Variables of a ViT with more blocks than GlintIQA's test variant has."""
    model = create_model("vit", "test", depth=5)
    return jax.device_get(jit_once(model.init)(jax.random.key(7), np.zeros((1, 64, 64, 3), np.float32)))


@pytest.fixture
def vit(initial_vit):
    """A copy, which a test may change."""
    return jax.tree.map(np.copy, initial_vit)


def test_a_backbone_goes_where_the_system_has_it(vit, shapes):
    loaded, line = place("vgfe", vit, shapes, "glintiqa", "vit.dir")
    mine = {p for p in shapes if p.startswith("params/vgfe/backbone/")}
    assert set(loaded) == mine
    flat = traverse_util.flatten_dict(vit["params"], sep="/")
    for path, array in loaded.items():
        np.testing.assert_array_equal(array, flat[path.removeprefix("params/vgfe/backbone/")])
    others = len(shapes) - len(mine)
    assert line.startswith(f"init.vgfe: {len(mine)} tensors from vit.dir; skipped {len(flat) - len(mine)} that are not")
    assert "(block4, head, norm)" in line and line.endswith(f"; {others} others keep their initial values")


def test_a_part_of_another_model_is_taken(shapes):
    """An encoder starts from that of a whole model; a backbone and the model of an outside package have no parts."""
    whole = {path: np.full(leaf.shape, i, np.float32) for i, (path, leaf) in enumerate(flat_leaves("arniqa"))}
    variables = traverse_util.unflatten_dict(whole, sep="/")
    encoder = part_variables("encoder", {"model": {"name": "arniqa"}}, variables)
    leaves = {path: leaf for path, leaf in flat_leaves("resnet") if "/fc/" not in path}
    loaded, line = place("model", encoder, leaves, "resnet", "arniqa.dir")
    assert loaded.keys() == leaves.keys() and "skipped" not in line
    for path, array in loaded.items():
        np.testing.assert_array_equal(array, whole[path.replace("/", "/encoder/", 1)])
    for card in ({}, {"model": {"name": "resnet"}}, {"model": {"name": "mylab.net"}, "package": "mylab"}):
        assert part_variables("encoder", card, variables) is variables
    assert part_variables("dan", {"model": {"name": "arniqa"}}, variables) is variables


def flat_leaves(name):
    return abstract_leaves(name, "test").items()


def test_what_is_missing_or_of_another_shape_is_listed(vit, shapes):
    del vit["params"]["block2"]["norm1"]["bias"]
    vit["params"]["patch_embed"]["bias"] = np.zeros(7, np.float32)
    with refused(
        CheckpointError,
        "mismatch",
        "config.init.vgfe",
        "vit.dir",
        "1 missing: params/block2/norm1/bias",
        "1 with another shape: params/patch_embed/bias (7,) for (32,)",
    ):
        place("vgfe", vit, shapes, "glintiqa", "vit.dir")


def test_position_embeddings_are_resized(vit, shapes):
    big = create_model("vit", "test", depth=5, crop_size=128)
    vit["params"]["pos_embed"] = np.zeros((1, 65, 32), np.float32)
    assert jax.eval_shape(big.init, jax.random.key(0), np.zeros((1, 128, 128, 3)))["params"]["pos_embed"].shape[1] == 65
    loaded, line = place("vgfe", vit, shapes, "glintiqa", "vit.dir")
    assert loaded["params/vgfe/backbone/pos_embed"].shape == (1, 17, 32)
    assert "resized params/pos_embed from 65 to 17 tokens" in line
    ramp = np.concatenate([[[[9.0]]], np.arange(8.0).repeat(8).reshape(1, 64, 1)], axis=1).astype(np.float32)
    small = resize_position_embedding(ramp, 17)
    assert small[0, 0, 0] == 9 and small.shape == (1, 17, 1)
    rows = small[0, 1:, 0].reshape(4, 4)
    np.testing.assert_allclose(rows, rows[:, :1].repeat(4, 1), atol=1e-5)
    np.testing.assert_allclose(rows[1:3, 0], [2.5, 4.5], atol=0.05)  # a ramp stays a ramp
    with refused(CheckpointError, "mismatch", "pos_embed", "18"):
        resize_position_embedding(np.zeros((1, 18, 4), np.float32), 17)


def test_parts_are_checked():
    check_init("glintiqa", {"model": "", "vgfe": "x", "clfe": ""})
    with refused(ConfigError, "unknown", "config.init.vgef", "glintiqa", '"vgfe"'):
        check_init("glintiqa", {"vgef": ""})
    with refused(ConfigError, "conflict", "config.init.model"):
        check_init("glintiqa", {"model": "a", "vgfe": "b"})


@pytest.mark.slow
def test_training_starts_from_it(vit, pictures, trained, tmp_path, capsys):
    """Frozen parts keep the loaded values; config.init.model loads the whole model from a workdir."""
    converted = tmp_path / "converted"
    with Checkpoints(converted, CheckpointMeta()) as checkpoints:
        checkpoints.save(0, {"params": vit["params"], "batch_stats": {}})
    changes = {"total": "1 steps", "eval_every": "1 steps", "frozen": ("^vgfe/", "^clfe/backbone/")}
    train(make_config(pictures, **changes, **{"init.vgfe": str(converted)}), epath.Path(tmp_path / "a"))
    text = capsys.readouterr().out
    assert "init.vgfe: " in text and "frozen tensors are random, because config.init loads none into them" in text
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params = Saved(tmp_path / "a").load(("params",), device)["params"]
    kernel = params["vgfe"]["backbone"]["block3"]["mlp"]["fc1"]["kernel"]
    np.testing.assert_array_equal(kernel, vit["params"]["block3"]["mlp"]["fc1"]["kernel"])

    whole = {
        "init.model": str(trained[0]),
        "total": "1 steps",
        "eval_every": "1 steps",
        "optimizer.learning_rate": 1e-9,
    }
    train(trained_config(pictures, **whole), epath.Path(tmp_path / "b"))
    about = json.loads((tmp_path / "b" / "init.json").read_text())
    source = Saved(trained[0])
    assert about == {"model": {"checkpoint": str(trained[0]), "step": source.step, "sha256": source.digest()}}
    assert len(source.digest()) == 64 and source.digest() != Saved(tmp_path / "b").digest()
    before, after = (Saved(w).load(("params",), device)["params"] for w in (trained[0], tmp_path / "b"))
    for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)
