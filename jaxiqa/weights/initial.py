"""Initial parameters of a training run: from converted backbones or a whole model, instead of random ones."""

from collections.abc import Mapping

import numpy as np
from flax import traverse_util

from jaxiqa.errors import ConfigError, suggest
from jaxiqa.models import find_model
from jaxiqa.weights.mapping import is_other_grid, refuse, resize_position_embedding


def check_init(name: str, init: Mapping[str, str]) -> None:
    """Raises ConfigError if a key of config.init is not a part of model `name`."""
    parts = ["model", *getattr(find_model(name), "BACKBONES", {})]
    for key in init:
        if key not in parts:
            raise ConfigError(
                f"config.init.{key}: {name} does not have this part; {suggest(key, parts)}",
                code="unknown",
                key=f"config.init.{key}",
            )
    if init.get("model") and any(path for key, path in init.items() if key != "model"):
        raise ConfigError(
            "config.init.model loads the whole model; leave the other keys of config.init empty",
            code="conflict",
            key="config.init.model",
        )


def part_variables(part: str, card: Mapping, variables: dict) -> dict:
    """Returns the variables of the part `part` of a checkpoint's model, all variables if the model has no such part.

    Args:
      part: a key of config.init.
      card: of the checkpoint; empty for a run of jaxiqa pretrain.
      variables: {"params": ..., "batch_stats": ...} of the checkpoint.
    """
    if not card or card.get("package"):  # the module of an outside model is not imported because a file names it
        return variables
    path = getattr(find_model(card["model"]["name"]), "BACKBONES", {}).get(part)
    if path is None:
        return variables
    for name in path.split("/"):
        variables = {collection: tree.get(name, {}) for collection, tree in variables.items()}
    return variables


def place(part: str, variables: dict, shapes: dict, name: str, path) -> tuple[dict[str, np.ndarray], str]:
    """Assigns loaded variables to the paths that they have in a model.

    Args:
      part: a key of config.init. If it is none of the model file's BACKBONES, it is the whole model.
      variables: {"params": ..., "batch_stats": ...} of the checkpoint at `path`.
      shapes: flat {"params/...": ShapeDtypeStruct} of the model.
      name: of the model.
      path: of the checkpoint, for messages.

    Returns:
      ({path in the model: array}, a line that says what was loaded, skipped and resized). A position embedding for
      another grid is resized (bicubic, antialiased); the part of the class token is not changed.

    Raises:
      CheckpointError: parameters are missing in the checkpoint or have another shape. The message lists all of them.
    """
    backbone = getattr(find_model(name), "BACKBONES", {}).get(part)
    below = f"{backbone}/" if backbone else ""
    source = traverse_util.flatten_dict({k: v for k, v in variables.items() if v}, sep="/")
    loaded, missing, misshaped, resized = {}, [], [], []
    for target, leaf in shapes.items():
        collection, rest = target.split("/", 1)
        if not rest.startswith(below):
            continue
        key = f"{collection}/{rest.removeprefix(below)}"
        if key not in source:
            missing.append(key)
            continue
        array = np.asarray(source.pop(key), np.float32)
        if is_other_grid(key, array.shape, leaf.shape):
            resized.append(f"{key} from {array.shape[1]} to {leaf.shape[1]} tokens")
            array = resize_position_embedding(array, leaf.shape[1])
        if array.shape != leaf.shape:
            misshaped.append(f"{key} {array.shape} for {leaf.shape}")
        loaded[target] = array
    problems = {"missing": missing, "with another shape": misshaped}
    refuse(f"config.init.{part}: checkpoint {path} does not fit {name}", problems, f"config.init.{part}")
    stems = ", ".join(sorted({path.split("/")[1] for path in source}))
    skipped = f"; skipped {len(source)} that are not in the model ({stems})" if source else ""
    changed = f"; resized {', '.join(resized)}" if resized else ""
    rest = len(shapes) - len(loaded)
    return (
        loaded,
        f"init.{part}: {len(loaded)} tensors from {path}{skipped}{changed}; {rest} others keep their initial values",
    )
