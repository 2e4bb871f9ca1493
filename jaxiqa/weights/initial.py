"""Initial parameters of a training run: from converted backbones or a whole model, instead of random ones."""

from collections.abc import Mapping

import jax
import numpy as np
from flax import traverse_util

from jaxiqa.errors import CheckpointError, ConfigError, suggest
from jaxiqa.models import find_model
from jaxiqa.weights.mapping import refuse


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


def place(part: str, variables: dict, shapes: dict, name: str, path) -> tuple[dict[str, np.ndarray], str]:
    """Assigns loaded variables to the paths that they have in a model.

    Args:
      part: "model" for the whole model, else a key of the model file's BACKBONES.
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
    below = "" if part == "model" else find_model(name).BACKBONES[part] + "/"
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
        if array.shape != leaf.shape and key.endswith("pos_embed") and array.shape[-1] == leaf.shape[-1]:
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


def resize_position_embedding(embedding_1ND: np.ndarray, tokens: int) -> np.ndarray:
    """Resizes a ViT's position embedding (1, 1 + n*n, D) to another grid: (1, tokens, D).

    Raises CheckpointError if one of the grids is not square.
    """
    old, new = (round((n - 1) ** 0.5) for n in (embedding_1ND.shape[1], tokens))
    if old * old + 1 != embedding_1ND.shape[1] or new * new + 1 != tokens:
        raise CheckpointError(
            f"a position embedding of {embedding_1ND.shape[1]} tokens cannot be resized to {tokens}: both grids must "
            "be square",
            code="mismatch",
            key="pos_embed",
        )
    D = embedding_1ND.shape[2]
    grid = embedding_1ND[:, 1:].reshape(1, old, old, D)
    grid = jax.image.resize(grid, (1, new, new, D), "bicubic", antialias=True)
    return np.concatenate([embedding_1ND[:, :1], np.asarray(grid).reshape(1, new * new, D)], axis=1)
