"""Weights under PyTorch names, without PyTorch."""

import jax
import numpy as np
from flax import traverse_util

from jaxiqa.models import create_model, find_model
from jaxiqa.weights import names


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
        values = rng.standard_normal(leaf.shape).astype(np.float32)
        values = np.abs(values) + 0.5 if foreign.endswith("running_var") else values
        tensors[foreign] = rule.export_array(values)
    return tensors
