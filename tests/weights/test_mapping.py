"""Import and export: legacy names, order, types, carried tensors, and zeros for missing ones."""

import ml_dtypes
import numpy as np
import pytest
from foreign import foreign_state_dict, to_legacy
from refused import refused

from jaxiqa.errors import CheckpointError
from jaxiqa.models.glintiqa import NAMES
from jaxiqa.weights import names
from jaxiqa.weights.mapping import export_tensors, import_tensors


@pytest.fixture
def tensors():
    tensors = foreign_state_dict("glintiqa", "test")
    tensors["clfe.backbone.bn1.num_batches_tracked"] = np.array(2**40 + 1)  # more than an int32
    tensors["vgfe.backbone.head.weight"] = np.full((10, 32), np.nan, np.float16)  # carried: not checked
    return tensors


def test_legacy_names(tensors):
    legacy = {to_legacy(name): array for name, array in tensors.items()}
    assert len(legacy) == len(tensors) and not legacy.keys() & tensors.keys()
    assert {names.current(NAMES, name) for name in legacy} == set(tensors)
    a, b = import_tensors("glintiqa", tensors.items(), "test"), import_tensors("glintiqa", legacy.items(), "test")
    np.testing.assert_equal(a.variables, b.variables)
    assert a.carried.keys() == b.carried.keys()
    assert {row["name"] for row in b.coverage} == set(legacy)


def test_a_tensor_under_both_names_is_there_twice(tensors):
    tensors["proj.bias"] = tensors["local_projection.bias"]
    with refused(CheckpointError, "mismatch", "glintiqa", "1 duplicate tensors: proj.bias"):
        import_tensors("glintiqa", tensors.items(), "test")


def test_round_trip_is_bit_exact(tensors):
    tensors["cwsa1.norm.bias"] = tensors["cwsa1.norm.bias"].astype(np.float16)
    tensors["cwsa2.norm.bias"] = tensors["cwsa2.norm.bias"].astype(ml_dtypes.bfloat16)
    imported = import_tensors("glintiqa", tensors.items(), "test")
    back, made_up = export_tensors("glintiqa", imported.variables, "test", imported.carried, imported.coverage)
    assert list(back) == list(tensors) and made_up == []
    for name, array in tensors.items():
        assert back[name].dtype == array.dtype and back[name].shape == array.shape, name
        assert back[name].tobytes() == array.tobytes(), name
    rows = {row["name"]: row for row in imported.coverage}
    assert rows["siem1.conv.weight"]["transform"] == "transpose (2, 3, 1, 0)"
    assert rows["siem1.conv.weight"]["ours"] == "params/siem1/conv/kernel"
    assert rows["vgfe.backbone.head.weight"]["ours"] == "carried"
    assert rows["cwsa2.norm.bias"]["dtype"] == "bfloat16" and len(rows["cwsa2.norm.bias"]["sha256"]) == 64


def test_a_manifest_that_lists_what_is_not_there(tensors):
    imported = import_tensors("glintiqa", tensors.items(), "test")
    imported.carried.pop("vgfe.backbone.head.weight")
    with refused(CheckpointError, "mismatch", "glintiqa", "convert", "manifest", "missing: vgfe.backbone.head.weight"):
        export_tensors("glintiqa", imported.variables, "test", imported.carried, imported.coverage)


def test_ignore_is_explicit(tensors):
    tensors["head.weight"] = np.zeros(3, np.float32)
    with refused(CheckpointError, "mismatch", "glintiqa", "1 unknown tensors: head.weight"):
        import_tensors("glintiqa", tensors.items(), "test")
    imported = import_tensors("glintiqa", tensors.items(), "test", [r"head\..*"])
    assert [row["name"] for row in imported.coverage if row["ours"] == "ignored"] == ["head.weight"]
    with refused(CheckpointError, "mismatch", "glintiqa", "1 unknown tensors"):  # the whole name must match
        import_tensors("glintiqa", tensors.items(), "test", ["head"])


@pytest.mark.parametrize("name", ["glintiqa", "resnet50", "vit_small_patch16_224", "van_b0"])
def test_a_model_trained_here_has_every_name_that_the_public_file_has(name, goldens):
    """Tensors that our graph lacks become zeros, so that PyTorch loads the file with strict=True."""
    shapes = goldens.models["models"][name]["shapes"]
    variables = import_tensors(name, goldens.seeded.seeded_state_dict(shapes, 0).items()).variables
    variant = {"glintiqa": "vit_s16_r50"}.get(name, name)
    tensors, made_up = export_tensors(name, variables, variant, {})
    assert {k: list(v.shape) for k, v in tensors.items()} == shapes
    assert all(not tensors[k].any() for k in made_up)
    assert all(k.endswith("num_batches_tracked") or k.startswith("vgfe.backbone.") for k in made_up)
    counters = [k for k in made_up if k.endswith("num_batches_tracked")]
    assert all(tensors[k].dtype == np.int64 and tensors[k].shape == () for k in counters)
