"""Import and export: legacy names, order, types, carried tensors, and zeros for missing ones."""

import jax
import ml_dtypes
import numpy as np
import pytest
from foreign import foreign_state_dict, to_legacy
from refused import refused

from jaxiqa.errors import CheckpointError
from jaxiqa.models import create_model, find_model
from jaxiqa.models.glintiqa import NAMES
from jaxiqa.weights import load_torch, mapping, names
from jaxiqa.weights.mapping import export_tensors, import_tensors, resize_position_embedding


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


@pytest.fixture(scope="module")
def leaves():
    """abstract_leaves of the test variants, traced once for this file."""
    return {name: mapping.abstract_leaves(name, "test") for name in ("vit", "resnet", "van")}


@pytest.fixture
def traced(leaves, monkeypatch):
    monkeypatch.setattr(mapping, "abstract_leaves", lambda name, variant: leaves[name])
    rng = np.random.default_rng(0)

    def tensors(name):
        rules = names.rules(find_model(name).NAMES)
        found = {}
        for path, leaf in leaves[name].items():
            rule = next(r for r in rules if r.to_foreign(path) is not None)
            found[rule.to_foreign(path)] = rule.export_array(rng.standard_normal(leaf.shape).astype(np.float32))
        return found

    return tensors


PREFIXES = [
    *("module.", "model.", "net.", "backbone.", "_orig_mod.", "_fsdp_wrapped_module.", "module.model.backbone."),
    *("encoder_q.0.", "student.module._orig_mod."),
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_prefixes_are_found_by_the_names_of_the_model(name, prefix, traced):
    """All tensors have the prefix; all but one; wrappers inside the names; and no prefix at all."""
    tensors = traced(name)
    expected = import_tensors(name, tensors.items(), "test")
    assert expected.prefix == "" and expected.notes == []
    longer = {prefix + k: v for k, v in tensors.items()}
    some = {k if i == 3 else prefix + k: v for i, (k, v) in enumerate(tensors.items())}
    inside = {f"{prefix}{k.replace('.', '._checkpoint_wrapped_module.', 1)}": v for k, v in tensors.items()}
    for one in (longer, some, inside):
        imported = import_tensors(name, one.items(), "test")
        np.testing.assert_equal(imported.variables, expected.variables)
        assert [row["name"] for row in imported.coverage] == list(one)
        back, _ = export_tensors(name, imported.variables, "test", imported.carried, imported.coverage)
        assert list(back) == list(tensors)
    longer[f"{prefix}surprise"] = longer["surprise"] = np.zeros(2)
    with refused(CheckpointError, "mismatch", name, f"2 unknown tensors: {prefix}surprise, surprise"):
        import_tensors(name, longer.items(), "test")
    import_tensors(name, longer.items(), "test", [".*surprise"])


def test_a_backbone_inside_another_model(traced):
    """The other parts are unknown, and --ignore leaves them out by their names in the file."""
    plain = traced("vit")
    tensors = {f"student.{k}": v for k, v in plain.items()}
    teacher = {f"teacher.{k}": v + 1 for k, v in plain.items()}
    with refused(CheckpointError, "mismatch", "vit", "unknown tensors: teacher."):
        import_tensors("vit", (tensors | teacher).items(), "test")
    imported = import_tensors("vit", (teacher | tensors).items(), "test", [r"teacher\..*"])
    assert imported.prefix == "student."
    np.testing.assert_equal(imported.variables, import_tensors("vit", plain.items(), "test").variables)


@pytest.mark.parametrize("name", ["vit", "resnet", "van"])
@pytest.mark.parametrize("head", ["other classes", "none", "ignored", "another layer", "no bias"])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_backbone_needs_no_classifier(name, head, prefix, traced):
    plain, layer = traced(name), {"vit": "head", "resnet": "fc", "van": "head"}[name]
    tensors = {prefix + k: v for k, v in plain.items()}
    weight, bias = tensors.pop(f"{prefix}{layer}.weight"), tensors.pop(f"{prefix}{layer}.bias")
    more = {
        "other classes": {"weight": weight[:3], "bias": bias[:3]},
        "none": {},
        "ignored": {"weight": weight, "bias": bias},
        "another layer": {"1.weight": weight, "1.bias": bias},
        "no bias": {"weight": weight},
    }[head]
    more = {f"{prefix}{layer}.{k}": v for k, v in more.items()}
    ignore = [rf"{layer}\..*"] if head == "ignored" else []
    imported = import_tensors(name, (tensors | more).items(), "test", ignore)
    assert len(imported.notes) == 1 and layer in imported.notes[0]
    assert imported.variables["params"].keys() | {layer} == {
        path.split("/")[1] for path in mapping.abstract_leaves(name, "test") if path.startswith("params/")
    }
    assert layer not in imported.variables["params"]
    left_out = {row["name"]: row["ours"] for row in imported.coverage if row["ours"] in ("ignored", "dropped")}
    assert left_out == dict.fromkeys(more, "ignored" if ignore else "dropped")
    back, _ = export_tensors(name, imported.variables, "test", imported.carried, imported.coverage)
    assert sorted(back) == sorted(k.removeprefix(prefix) for k in tensors)
    tensors.pop(next(k for k in tensors if k.endswith("bias")))
    with refused(CheckpointError, "mismatch", name, "1 missing tensors"):
        import_tensors(name, (tensors | more).items(), "test", ignore)


def test_a_model_without_its_classifier_runs(traced):
    tensors = {k: v for k, v in traced("vit").items() if not k.startswith("head.")}
    with pytest.warns(UserWarning, match="the classifier head is absent"):
        variables = load_torch("vit", tensors, "test")
    model = create_model("vit", "test", num_classes=0)
    _, out = jax.eval_shape(lambda x: model.apply(variables, x), np.zeros((1, 64, 64, 3), np.float32))
    assert out["block1"].shape == (1, 17, 32)


def test_a_system_needs_all_its_tensors(tensors):
    del tensors["quality_head.layers.0.weight"]
    with refused(CheckpointError, "mismatch", "glintiqa", "1 missing tensors: quality_head"):
        import_tensors("glintiqa", tensors.items(), "test")


def test_a_position_embedding_of_another_grid_is_resized(traced):
    tensors = traced("vit")
    small = tensors["pos_embed"]
    tensors["pos_embed"] = resize_position_embedding(small, 37)
    imported = import_tensors("vit", tensors.items(), "test")
    expected = resize_position_embedding(tensors["pos_embed"], small.shape[1])
    np.testing.assert_array_equal(imported.variables["params"]["pos_embed"], expected)
    (row,) = [row for row in imported.coverage if row["name"] == "pos_embed"]
    assert row["transform"] == "resized from 37 to 17 tokens" and row["shape"] == [1, 37, 32]
    assert imported.notes == ["pos_embed was resized from 37 to 17 tokens"]
    for shape, code in (((1, 36, 32), "mismatch"), ((1, 37, 16), "mismatch"), ((37, 32), "mismatch")):
        tensors["pos_embed"] = np.zeros(shape, np.float32)
        with refused(CheckpointError, code, None, str(shape[-2])):
            import_tensors("vit", tensors.items(), "test")
    tensors["pos_embed"] = np.full((1, 37, 32), np.nan, np.float32)
    with refused(CheckpointError, "mismatch", "vit", "NaN or infinite values: pos_embed"):
        import_tensors("vit", tensors.items(), "test")


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
