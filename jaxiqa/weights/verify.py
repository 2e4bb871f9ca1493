"""A converted model's outputs against what the original code computed."""

import json

import jax
import numpy as np

from jaxiqa.errors import CheckpointError
from jaxiqa.models import create_model

TOLERANCE = 1e-4  # of a tap's largest magnitude


def verify(name: str, variant: str, variables: dict, path) -> dict[str, float]:
    """Error of each output of a golden file, relative to the output's largest magnitude.

    The file is JSON: {"seed": S, "outputs": {TAP: {"shape", "mean", "std", "absmax", "first"}}}, or with several models
    {"seed": S, "models": {NAME: {"outputs": ...}}}. The input is, NHWC and already normalised,

      numpy.random.Generator(numpy.random.PCG64([S, 77])).standard_normal((n, size, size, 3)).astype("float32")

    with n the leading dimension of the outputs and size the model's crop. A TAP is "score" or "logits", a name in the
    model's `out` ("layerN" means "stageN"), or one with a number behind it for lists ("vgfe0"). Shapes and the `first`
    values of the flattened array are in PyTorch's layout (NCHW).

    Raises:
      CheckpointError: the file is no such JSON, or an output has another shape.
    """
    try:
        with open(path) as file:
            golden = json.load(file)
        outputs = (golden["models"][name] if "models" in golden else golden)["outputs"]
        n = next(iter(outputs.values()))["shape"][0]
        generator = np.random.Generator(np.random.PCG64([golden["seed"], 77]))
    except (OSError, ValueError, KeyError, IndexError, TypeError, StopIteration) as error:
        raise CheckpointError(
            f"--verify {path} holds no outputs of {name} ({type(error).__name__}: {error})"
        ) from error
    model = create_model(name, variant)
    images = generator.standard_normal((n, model.crop_size, model.crop_size, 3)).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        score, out = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    return {tap: relative_error(tap, find_tap(tap, score, out), expected) for tap, expected in outputs.items()}


def relative_error(tap: str, ours, golden: dict) -> float:
    """Largest difference of the first values, mean, std and magnitude to the golden's, over its magnitude."""
    ours = np.asarray(ours, np.float64)
    if ours.ndim == 4:
        ours = ours.transpose(0, 3, 1, 2)
    if list(ours.shape) != golden["shape"]:
        raise CheckpointError(f"output {tap} is of shape {list(ours.shape)}, not {golden['shape']} as in the golden")
    first = np.array(golden["first"])
    differences = [np.abs(ours.ravel()[: len(first)] - first).max(), abs(ours.mean() - golden["mean"])]
    differences += [abs(ours.std() - golden["std"]), abs(np.abs(ours).max() - golden["absmax"])]
    return float(max(differences) / golden["absmax"])


def find_tap(name: str, score, out: dict):
    """The array that a golden's name means; CheckpointError where there is none."""
    taps = {f"{k}{i}": tap for k, taps in out.items() if isinstance(taps, list | tuple) for i, tap in enumerate(taps)}
    taps |= out | {"score": score, "logits": score}
    if (alias := name.replace("layer", "stage")) not in taps:
        raise CheckpointError(f'the model has no output "{name}"; it has {", ".join(out)}')
    return taps[alias]
