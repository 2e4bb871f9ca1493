"""Foreign weights to parameter trees."""

from collections.abc import Mapping

import jax
import numpy as np
from flax import traverse_util

from jaxiqa.errors import CheckpointError
from jaxiqa.models import create_model, find_model
from jaxiqa.weights import names


def _report(title: str, items: list[str]) -> str:
    return f"{len(items)} {title}: {', '.join(items)}" if items else ""


def load_torch(name: str, source: Mapping[str, np.ndarray], variant: str | None = None) -> dict:
    """Variables of model `name` from tensors under PyTorch names.

    Args:
      name: as for create_model.
      source: {PyTorch name: array}, in PyTorch's layout.
      variant: as for create_model.

    Returns:
      {"params": ..., "batch_stats": ...}, fp32 NumPy arrays in our layout.

    Raises:
      CheckpointError: tensors that are unknown, missing, of another shape or not finite; all of them are listed.
    """
    table = find_model(name).NAMES
    rules = names.rules(table)
    model = create_model(name, variant)
    images = jax.ShapeDtypeStruct((1, model.crop_size, model.crop_size, 3), np.float32)
    expected = traverse_util.flatten_dict(jax.eval_shape(model.init, jax.random.key(0), images), sep="/")

    loaded, unknown, shapes, infinite = {}, [], [], []
    for foreign, array in source.items():
        rule, path = next(((r, p) for r in rules if (p := r.to_ours(foreign)) is not None), (None, None))
        if path not in expected:
            if not names.is_carried(table, foreign):
                unknown.append(foreign)
            continue
        array = np.asarray(array)
        if array.ndim != (len(rule.axes) if rule.axes else array.ndim):
            shapes.append(f"{foreign} {array.shape}")
            continue
        array = np.ascontiguousarray(rule.import_array(array), dtype=np.float32)
        if array.shape != expected[path].shape:
            shapes.append(f"{foreign} {array.shape} for {expected[path].shape}")
        elif not np.isfinite(array).all():
            infinite.append(foreign)
        loaded[path] = array
    refused = [foreign.split()[0] for foreign in shapes]
    missing = [_foreign_name(rules, path) for path in expected if path not in loaded]
    problems = [
        _report("unknown tensors", unknown),
        _report("missing tensors", [m for m in missing if m not in refused]),
        _report("tensors of another shape", shapes),
        _report("tensors that are not finite", infinite),
    ]
    if any(problems):
        raise CheckpointError(f"these weights do not fit {name}: {'; '.join(p for p in problems if p)}")
    return traverse_util.unflatten_dict(loaded, sep="/")


def _foreign_name(rules: list[names.Rule], path: str) -> str:
    return next((f for rule in rules if (f := rule.to_foreign(path)) is not None), path)
