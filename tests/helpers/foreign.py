"""Weights under PyTorch names, without PyTorch."""

import jax
import numpy as np
from flax import traverse_util

from jaxiqa.models import create_model, find_model
from jaxiqa.weights import names

# Older files of the public code: old prefix -> current prefix.
LEGACY = {
    "transformer.": "vgfe.backbone.", "cnn.": "clfe.backbone.", "patch_embed1.": "clfe.patch_embed1.",
    "patch_embed2.": "clfe.patch_embed2.", "patch_embed3.": "clfe.patch_embed3.", "att_cnn.": "local_cwsa.",
    "proj.": "local_projection.", "fusion1.": "cwsa1.", "fusion2.": "cwsa2.", "fusion3.": "cwsa3.",
    "fusion4.": "cwsa4.", "conv1.": "siem1.conv.", "conv2.": "siem2.conv.", "conv3.": "siem3.conv.",
    "conv4.": "siem4.conv.", "out.": "quality_head.layers.",
}  # fmt: skip


def foreign_state_dict(name: str, variant: str) -> dict[str, np.ndarray]:
    """Random tensors under PyTorch names for every leaf of a model, named by the inverse of the name table."""
    model = create_model(name, variant)
    images = jax.ShapeDtypeStruct((1, model.crop_size, model.crop_size, 3), np.float32)
    leaves = traverse_util.flatten_dict(jax.eval_shape(model.init, jax.random.key(0), images), sep="/")
    rng, tensors = np.random.default_rng(0), {}
    for path, leaf in leaves.items():
        matches = [(r, f) for r in names.rules(find_model(name).NAMES) if (f := r.to_foreign(path)) is not None]
        assert len(matches) == 1, f"{path}: {matches}"
        rule, foreign = matches[0]
        values = rng.standard_normal(leaf.shape).astype(np.float32)
        values = np.abs(values) + 0.5 if foreign.endswith("running_var") else values
        tensors[foreign] = rule.export_array(values)
    return tensors


def to_legacy(name: str) -> str:
    """The name of a tensor in an older GlintIQA file."""
    old, new = next((o, n) for o, n in LEGACY.items() if name.startswith(n))
    return old + name.removeprefix(new)
