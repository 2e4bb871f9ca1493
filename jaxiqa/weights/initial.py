"""Where a training run starts: parameters of converted backbones, or of a whole model, in place of random ones."""

from collections.abc import Mapping

import jax
import numpy as np
from flax import traverse_util

from jaxiqa.errors import CheckpointError, ConfigError, suggest
from jaxiqa.models import find_model
from jaxiqa.weights.mapping import refuse


def check_init(name: str, init: Mapping[str, str]) -> None:
    """ConfigError for a key of config.init that names no part of model `name`."""
    parts = ["model", *getattr(find_model(name), "BACKBONES", {})]
    for key in init:
        if key not in parts:
            raise ConfigError(f"config.init.{key}: {name} has no such part; {suggest(key, parts)}")
    if init.get("model") and any(path for key, path in init.items() if key != "model"):
        raise ConfigError("config.init.model starts the whole model; leave its other parts empty")


def place(part: str, variables: dict, shapes: dict, name: str, path) -> tuple[dict[str, np.ndarray], str]:
    """Loaded variables under the paths where a model has them.

    Args:
      part: "model" for all of it, else a key of the model file's BACKBONES.
      variables: {"params": ..., "batch_stats": ...} of the checkpoint at `path`.
      shapes: flat {"params/...": ShapeDtypeStruct} of the model.
      name: of the model.
      path: of the checkpoint, for messages.

    Returns:
      ({path in the model: array}, what was loaded, skipped and resized, in a line). A position embedding for another
      grid is resized, bicubically and with antialiasing, its class token's part left as it is.

    Raises:
      CheckpointError: the model needs parameters that the checkpoint lacks or has in another shape; all are listed.
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
    problems = {"missing": missing, "of another shape": misshaped}
    refuse(f"config.init.{part}: checkpoint {path} does not fit {name}", problems)
    stems = ", ".join(sorted({path.split("/")[1] for path in source}))
    skipped = f"; skipped {len(source)} it has no place for ({stems})" if source else ""
    resized = f"; resized {', '.join(resized)}" if resized else ""
    rest = len(shapes) - len(loaded)
    return loaded, f"init.{part}: {len(loaded)} tensors from {path}{skipped}{resized}; {rest} others as initialised"


def resize_position_embedding(embedding_1ND: np.ndarray, tokens: int) -> np.ndarray:
    """A ViT's position embedding (1, 1 + n*n, D) for another grid, (1, tokens, D).

    Raises CheckpointError where one of the grids is not square.
    """
    old, new = (round((n - 1) ** 0.5) for n in (embedding_1ND.shape[1], tokens))
    if old * old + 1 != embedding_1ND.shape[1] or new * new + 1 != tokens:
        raise CheckpointError(f"a position embedding of {embedding_1ND.shape[1]} tokens is of no square grid")
    D = embedding_1ND.shape[2]
    grid = embedding_1ND[:, 1:].reshape(1, old, old, D)
    grid = jax.image.resize(grid, (1, new, new, D), "bicubic", antialias=True)
    return np.concatenate([embedding_1ND[:, :1], np.asarray(grid).reshape(1, new * new, D)], axis=1)
