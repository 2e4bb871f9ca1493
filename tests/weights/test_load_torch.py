"""Name tables and load_torch: everything is used, anything else is refused by name."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from jaxiqa.errors import CheckpointError
from jaxiqa.models import create_model, find_model
from jaxiqa.weights import load_torch, names


def foreign_state_dict(name: str, variant: str) -> dict[str, np.ndarray]:
    """Random tensors under PyTorch names for every leaf of a model, made with the table read backwards."""
    model = create_model(name, variant)
    images = jax.ShapeDtypeStruct((1, model.crop_size, model.crop_size, 3), np.float32)
    leaves = traverse_util.flatten_dict(jax.eval_shape(model.init, jax.random.key(0), images), sep="/")
    rng, tensors = np.random.default_rng(0), {}
    for path, leaf in leaves.items():
        matches = [(r, f) for r in names.rules(find_model(name).NAMES) if (f := r.to_foreign(path)) is not None]
        assert len(matches) == 1, f"{path}: {matches}"
        rule, foreign = matches[0]
        tensors[foreign] = rule.export_array(rng.standard_normal(leaf.shape).astype(np.float32))
    return tensors


@pytest.mark.parametrize("name", ["glintiqa", "vit", "resnet", "van", "cnniqa"])
def test_round_trip(name):
    """Every leaf has exactly one foreign name, and reading what was written gives the same arrays."""
    tensors = foreign_state_dict(name, "test")
    flat = traverse_util.flatten_dict(load_torch(name, tensors, "test"), sep="/")
    assert len(flat) == len(tensors)
    rules = names.rules(find_model(name).NAMES)
    for path, array in flat.items():
        rule, foreign = next((r, f) for r in rules if (f := r.to_foreign(path)) is not None)
        assert rule.to_ours(foreign) == path
        np.testing.assert_array_equal(rule.export_array(array), tensors[foreign])


def test_bookkeeping_and_unused_tensors_are_carried():
    tensors = foreign_state_dict("glintiqa", "test")
    tensors["clfe.backbone.bn1.num_batches_tracked"] = np.zeros((), np.int64)
    tensors["vgfe.backbone.head.weight"] = np.zeros((10, 32), np.float32)
    assert set(load_torch("glintiqa", tensors, "test")) == {"params", "batch_stats"}


def test_everything_wrong_is_listed_at_once():
    tensors = foreign_state_dict("glintiqa", "test")
    tensors["surprise.weight"] = np.zeros(3, np.float32)
    del tensors["local_projection.bias"]
    tensors["siem1.conv.weight"] = tensors["siem1.conv.weight"][..., :2]
    tensors["cwsa2.norm.bias"] = tensors["cwsa2.norm.bias"] * np.nan
    with pytest.raises(CheckpointError) as caught:
        load_torch("glintiqa", tensors, "test")
    message = str(caught.value)
    assert "1 unknown tensors: surprise.weight" in message
    assert "1 missing tensors: local_projection.bias" in message
    assert "1 tensors of another shape: siem1.conv.weight (3, 2, 64, 32) for (3, 3, 64, 32)" in message
    assert "1 tensors that are not finite: cwsa2.norm.bias" in message
