"""What is exported: the function from crops, uint8, to scores, with its weights inside; and crops to check it with.

Legend: B crops, S scales, F features.
"""

import importlib.resources
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.files import json_text
from jaxiqa.inputs.decode import read_image
from jaxiqa.inputs.transforms import fit, normalise
from jaxiqa.models import scales_of
from jaxiqa.scoring.crops import Cropper
from jaxiqa.scoring.scorer import Scorer

INPUT = "crops"
CHECKED = 32  # real crops that each file must agree on
Run = Callable[[np.ndarray], dict[str, np.ndarray]]  # of uint8 crops: {output: (B,)}
_PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")  # they come with scikit-image


class CropScores:
    """The function of a checkpoint: uint8 (B, S crop, crop, 3), RGB -> a tuple of float32 (B,), named `outputs`.

    The outputs are `score` (0..100, higher is better, not clipped), `native` (on the scale of the ratings, if there is
    one) and `output` (what the model returns). The score of an image is that of the mean `output` of its crops. That is
    the mean `score` of its crops too, unless the card has a logistic curve.

    Args:
      scorer: the loaded checkpoint.
      dtype: type of the computation in the layers whose type a model leaves open.
    """

    def __init__(self, scorer: Scorer, dtype=jnp.float32):
        self.card, self.model = scorer.card, scorer.model.clone(dtype=dtype)
        self.scales = tuple(scales_of(self.model))
        self.sides = scorer.predictor.cropper.shape
        self.variables = jax.tree.map(np.asarray, scorer.variables)
        self.outputs = ("score", *(["native"] if self.card.scale else []), "output")

    def __call__(self, crops_BHWC):
        crop, S = self.model.crop_size, len(self.scales)
        if S > 1:
            crops_BHWC = crops_BHWC.reshape(crops_BHWC.shape[0], S, crop, crop, 3)
        images = normalise(crops_BHWC, self.model.mean, self.model.std, self.model.dtype)
        output_B, _ = self.model.apply(self.variables, images, train=False)
        output_B = output_B.astype(jnp.float32)
        score01_B = self.card.score01(output_B, jax.nn.sigmoid)
        found = {"score": 100.0 * score01_B, "output": output_B}
        if scale := self.card.scale:
            share = score01_B if scale.higher_is_better else 1.0 - score01_B
            found["native"] = scale.lo + (scale.hi - scale.lo) * share
        return tuple(found[name] for name in self.outputs)

    def reference(self, crops_BHWC: np.ndarray) -> dict[str, np.ndarray]:
        """What JAX returns for crops, in full precision: {output: (B,)}."""
        with jax.default_matmul_precision("highest"):
            found = jax.jit(self)(crops_BHWC)
        return dict(zip(self.outputs, map(np.asarray, found), strict=True))


def describe(scorer: Scorer, precision: str) -> dict[str, str]:
    """What a file says about itself: texts, of which "card" and "crops" are JSON."""
    told = {**scorer.about(), "precision": precision}
    return {name: value if isinstance(value, str) else json_text(value) for name, value in told.items()}


def real_crops(scorer: Scorer, count: int = CHECKED) -> np.ndarray:
    """uint8 (count, S crop, crop, 3): crops of photographs, spread over all of them."""
    cropper = Cropper.of(scorer.model, "overlap")
    folder, crops = importlib.resources.files("skimage.data"), []
    for name in _PHOTOGRAPHS:
        with importlib.resources.as_file(folder / name) as path:
            crops += cropper(fit(read_image(path), cropper.min_side, scorer.card.resize))
    return np.stack([crops[i] for i in np.linspace(0, len(crops) - 1, count).astype(int)])


def largest_difference(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest difference of scores, 0..100; infinite if an output is NaN or infinite."""
    if not all(np.isfinite(values).all() for values in (*found.values(), *expected.values())):
        return float("inf")
    return float(np.abs(found["score"] - expected["score"]).max())
