"""Compares a converted model's outputs with those of the original code."""

import json

import jax
import numpy as np

from jaxiqa.errors import CheckpointError, read_code
from jaxiqa.models import create_model, find_model

TOLERANCE = 1e-4  # of a tap's largest magnitude


def verify(name: str, variant: str, variables: dict, path) -> dict[str, float]:
    """Returns the error of each output of a golden file, relative to the output's largest magnitude.

    The file is JSON: {"seed": S, "outputs": {TAP: {"shape", "mean", "std", "absmax", "first"}}}, or with several models
    {"seed": S, "models": {NAME: {"outputs": ...}}}. The input is, NHWC and already normalised,

      numpy.random.Generator(numpy.random.PCG64([S, 77])).standard_normal((n, size, size, 3)).astype("float32")

    where n is the leading dimension of the outputs and size the model's crop. A TAP is "score", "logits" or a name in
    the model's `out` ("layerN" means "stageN"); an item of a list is its name and index ("vgfe0"). Shapes and the
    `first` values of the flattened array are in PyTorch's layout (NCHW).

    Raises:
      CheckpointError: the file is not such JSON, the model lacks an output, or an output has another shape.
    """
    try:
        with open(path) as file:
            golden = json.load(file)
        outputs = (golden["models"][name] if "models" in golden else golden)["outputs"]
        n = next(iter(outputs.values()))["shape"][0]
        generator = np.random.Generator(np.random.PCG64([golden["seed"], 77]))
    except (OSError, ValueError, KeyError, IndexError, TypeError, StopIteration) as error:
        code = read_code(error) if isinstance(error, OSError) else "format"
        raise CheckpointError(
            f"--verify {path} does not hold outputs of {name} ({type(error).__name__}: {error})", code=code, key=path
        ) from error
    layer = find_model(name).NAMES.get("classifier")
    model = create_model(name, variant, **({"num_classes": 0} if layer and layer not in variables["params"] else {}))
    images = generator.standard_normal((n, model.crop_size, model.crop_size, 3)).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        score, out = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    return {tap: relative_error(tap, find_tap(tap, score, out), expected) for tap, expected in outputs.items()}


def relative_error(tap: str, ours, golden: dict) -> float:
    """Returns the largest difference in first values, mean, std and magnitude, over the golden output's magnitude.

    Raises CheckpointError if the shapes differ.
    """
    ours = np.asarray(ours, np.float64)
    if ours.ndim == 4:
        ours = ours.transpose(0, 3, 1, 2)
    if list(ours.shape) != golden["shape"]:
        raise CheckpointError(
            f"output {tap} has shape {list(ours.shape)}, but {golden['shape']} in the golden file",
            code="mismatch",
            key=tap,
        )
    first = np.array(golden["first"])
    differences = [np.abs(ours.ravel()[: len(first)] - first).max(), abs(ours.mean() - golden["mean"])]
    differences += [abs(ours.std() - golden["std"]), abs(np.abs(ours).max() - golden["absmax"])]
    return float(max(differences) / golden["absmax"])


def find_tap(name: str, score, out: dict):
    """Returns the output that a golden file calls `name`. Raises CheckpointError if the model does not have it."""
    taps = {f"{k}{i}": tap for k, taps in out.items() if isinstance(taps, list | tuple) for i, tap in enumerate(taps)}
    taps |= out | {"score": score, "logits": score}
    if taps.get(alias := name.replace("layer", "stage")) is None:
        raise CheckpointError(f'the model has no output "{name}"; it has {", ".join(out)}', code="unknown", key=name)
    return taps[alias]
