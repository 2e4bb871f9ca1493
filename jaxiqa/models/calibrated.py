"""Calibrated: a linear regressor of the features of another model, which stays as it is (jaxiqa calibrate).

The features are the means and the standard deviations, over an image or its tokens, of outputs that the file of the
other model declares (TAPS). The score of that model, if it gives one, is a feature too.

Legend: B batch, V views, H W image, D width, F features.
"""

import math
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxiqa.models import create_model, find_model, resnet
from jaxiqa.models.blocks.regressor import Regressor

PAPER = """jaxiqa's own: ridge regression on features of a frozen network, as linear probes are trained. Means and
standard deviations of features: Ding et al., "Image Quality Assessment: Unifying Structure and Texture Similarity",
IEEE TPAMI 44, 2022, arXiv 2004.07728, use both to compare textures."""
MEAN = resnet.MEAN
STD = resnet.STD
TEST_CROPS = "grid"
# Keys of `out` that jaxiqa probe reads.
TAPS = ("features",)

VARIANTS = {
    "linear": dict(of={"name": "resnet50", "variant": "resnet50_trunk"}, taps=resnet.TAPS, views=(0, 1)),
    "test": dict(of={"name": "resnet", "variant": "test"}, taps=("stage3", "stage4"), views=(0, 1)),
}


def names(of: Mapping) -> dict:
    """The table NAMES for another model, whose tensors have the prefix "base."."""
    base = ((f"base.{a}", f"base/{b}", kind) for a, b, kind in find_model(of["name"]).NAMES["mapped"])
    own = ("regressor.weights", "regressor/kernel", "matrix"), ("regressor.biases", "regressor/bias", "same")
    return {"mapped": (*base, *own), "carried": ()}


NAMES = names({"name": "resnet50"})

BACKBONES = {"base": "base"}

_LEAST = 1e-12  # variance that is added, so that the standard deviation of a constant has a gradient


class Model(nn.Module):
    """A regressor of the features of another model.

    `of` are the arguments of create_model for the other model. `taps` are keys of its second output: (B, ..., D), or
    lists of these. Each of `views` is a divisor of the sides of an image (0: the whole image, resized to a crop). The
    other model sees one view at a time, and the features of all views are used. Without views, it sees its usual input.
    """

    of: Mapping
    taps: tuple[str, ...]
    views: tuple[int, ...] = ()
    eval_bn: tuple[str, ...] = ()
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        fields = find_model(self.of["name"]).Model.__dataclass_fields__
        own = {"num_classes": 0, "eval_bn": self.eval_bn, "dtype": self.dtype}  # without a classifier
        self.base = create_model(**self.of, **{name: value for name, value in own.items() if name in fields})
        self.regressor = Regressor()

    @property
    def crop_size(self) -> int:
        """Side of the crops in pixels, as in the other model. So are mean, std and stride."""
        return _field(self.of, "crop_size")

    @property
    def mean(self) -> tuple[float, ...]:
        return _field(self.of, "mean")

    @property
    def std(self) -> tuple[float, ...]:
        return _field(self.of, "std")

    @property
    def stride(self) -> int:
        return _field(self.of, "stride", 0)

    @property
    def scales(self) -> tuple[int, ...]:
        """The views, else the scales of the other model."""
        return self.views or _field(self.of, "scales", (1,))

    def __call__(self, x, train: bool = False):
        """Images, normalised -> (score (B,), out).

        Args:
          x: (B, V, crop_size, crop_size, 3), a crop for each view, as the scorer cuts them; or images (B, H, W, 3),
            of which the views are taken here: bilinear and antialiased, at the centre.
          train: whether BatchNorms use statistics of the batch.

        Returns:
          `out["features"]` (B, F) is the input of the regressor. Without views, the rest of `out` is that of the other
          model, whose probe then explains these scores too.
        """
        if self.views and x.ndim == 4:
            x = jnp.stack([view(x, divisor, self.base.crop_size) for divisor in self.views], axis=1)
        if self.views:
            B, V = x.shape[:2]
            features_BF, out = self._features(x.reshape(B * V, *x.shape[2:]), train)[0].reshape(B, -1), {}
        else:
            features_BF, out = self._features(x, train)
        return self.regressor(features_BF), {**out, "features": features_BF}

    def _features(self, x, train: bool):
        score_B, out = self.base(x, train)
        features = [] if score_B is None else [score_B.astype(jnp.float32)[:, None]]
        for tap in self.taps:
            for value in out[tap] if isinstance(out[tap], list | tuple) else [out[tap]]:
                features += pooled(value.astype(jnp.float32))
        return jnp.concatenate(features, axis=-1), out


def _field(of: Mapping, field: str, default=None):
    """The field of the model that create_model(**of) makes; Flax would bind one that is made in a property."""
    module = find_model(of["name"])
    variant = module.VARIANTS[of.get("variant") or next(iter(module.VARIANTS))]
    declared = module.Model.__dataclass_fields__.get(field)
    return {**variant, **of}.get(field, declared.default if declared else default)


def pooled(x):
    """Mean and standard deviation over all axes but the first and the last: [(B, D), (B, D)]; [x] if x is (B, D)."""
    if x.ndim == 2:
        return [x]
    x = x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])
    mean = x.mean(1)
    return [mean, jnp.sqrt(jnp.square(x - mean[:, None]).mean(1) + _LEAST)]


def view(x_BHWC, divisor: int, crop: int):
    """The view of images with sides of at least `crop` pixels: (B, crop, crop, 3). See jaxiqa/inputs/scales.py."""
    B, H, W, C = x_BHWC.shape
    sides = (max(H // divisor, 1), max(W // divisor, 1)) if divisor else (crop, crop)
    if sides != (H, W):
        x_BHWC = jax.image.resize(x_BHWC, (B, *sides, C), "linear")
    edges = [(max(crop - side, 0) // 2, max(crop - side + 1, 0) // 2) for side in sides]
    x_BHWC = jnp.pad(x_BHWC, ((0, 0), *edges, (0, 0)))
    top, left = ((side - crop) // 2 for side in x_BHWC.shape[1:3])
    return x_BHWC[:, top : top + crop, left : left + crop]
