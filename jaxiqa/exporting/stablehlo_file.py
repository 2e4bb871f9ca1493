"""StableHLO files: what jax.export writes and reads, for the CPU, CUDA, ROCm and TPU."""

import jax
import numpy as np
from jax import export

from jaxiqa.exporting.crop_scores import CropScores, Run
from jaxiqa.scoring.scorer import Scorer

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def make(scorer: Scorer) -> bytes:
    """The file of a checkpoint: jax.export.deserialize(file).call(crops) returns the tuple of CropScores."""
    function = CropScores(scorer)
    (batch,) = export.symbolic_shape("b")
    crops = jax.ShapeDtypeStruct((batch, *function.sides), np.uint8)
    return bytes(export.export(jax.jit(function), platforms=PLATFORMS)(crops).serialize())


def runner(file: bytes, outputs: tuple[str, ...]) -> Run:
    """Returns a function of crops that runs the file."""
    call = jax.jit(export.deserialize(bytearray(file)).call)
    return lambda crops: dict(zip(outputs, map(np.asarray, call(crops)), strict=True))
