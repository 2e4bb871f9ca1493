"""Name tables and load_torch: all tensors are used, and unknown tensors are refused by name."""

import numpy as np
import pytest
import torch_writer as w
from flax import traverse_util
from foreign import foreign_state_dict, to_legacy
from refused import refused

from jaxiqa.errors import CheckpointError
from jaxiqa.models import find_model
from jaxiqa.weights import load_torch, names


@pytest.mark.parametrize(
    "name", ["glintiqa", pytest.param("mfen", marks=pytest.mark.slow), "vit", "resnet", "van", "cnniqa", "arniqa"]
)
def test_round_trip(name):
    """Every leaf has exactly one foreign name, and a round trip returns the same arrays."""
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
    with refused(
        CheckpointError,
        "mismatch",
        "glintiqa",
        "1 unknown tensors: surprise.weight",
        "1 missing tensors: local_projection.bias",
        "1 tensors with another shape: siem1.conv.weight (3, 2, 64, 32) for (3, 3, 64, 32)",
        "1 tensors with NaN or infinite values: cwsa2.norm.bias",
    ):
        load_torch("glintiqa", tensors, "test")


@pytest.mark.parametrize("prefix", ["encoder", "model"])
def test_resnets_with_numbered_layers(prefix):
    """CONTRIQUE's and ARNIQA's files number the layers of the trunk; torchvision's names give the same variables."""
    tensors = foreign_state_dict("resnet", "test")
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    numbered = {}
    for name, array in tensors.items():
        layer, rest = name.split(".", 1)
        numbered[f"{prefix}.{numbers[layer]}.{rest}" if layer in numbers else name] = array
    assert f"{prefix}.4.0.downsample.1.running_mean" in numbered and f"{prefix}.0.weight" in numbered
    np.testing.assert_equal(load_torch("resnet", numbered, "test"), load_torch("resnet", tensors, "test"))
    numbered[f"{prefix}.2.weight"] = np.zeros(3, np.float32)
    with refused(CheckpointError, "mismatch", "resnet", f"1 unknown tensors: {prefix}.2.weight"):
        load_torch("resnet", numbered, "test")


@pytest.mark.slow
def test_a_trunk_without_a_classifier():
    """CONTRIQUE and ARNIQA publish such trunks. They also fit the model with a classifier, which is then absent."""
    tensors = foreign_state_dict("resnet", "resnet50_trunk")
    variables = load_torch("resnet50_trunk", tensors)
    assert "fc" not in variables["params"] and len(tensors) == 265
    np.testing.assert_array_equal(variables["params"]["conv1"]["kernel"], tensors["conv1.weight"].transpose(2, 3, 1, 0))
    with pytest.warns(UserWarning, match="the classifier fc is absent"):
        np.testing.assert_equal(load_torch("resnet50", tensors), variables)


def test_legacy_and_wrapped_files(tmp_path):
    """Old names, a module. prefix, an entry of a training checkpoint and the old container give the same variables."""
    tensors = {key: np.ascontiguousarray(array) for key, array in foreign_state_dict("glintiqa", "test").items()}
    expected = load_torch("glintiqa", tensors, "test")
    body = {name: w.whole(key, tensors[key]) for key in tensors for name in [to_legacy(key)]}
    parallel = w.mapping({f"module.{name}": value for name, value in body.items()})
    files = {
        "old.pth": w.legacy_file(w.mapping(body), tensors),
        "parallel.pt": w.zip_file(parallel, tensors),
        "wrapped.tar": w.legacy_file(w.mapping({"epoch": w.integer(3), "state_dict": parallel}, False), tensors),
        "model.pth": w.zip_file(w.mapping({"model": w.mapping(body), "best": w.integer(1)}, False), tensors),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        np.testing.assert_equal(load_torch("glintiqa", tmp_path / name, "test"), expected)
