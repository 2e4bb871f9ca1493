"""Scores as a pure function of arrays, for jit, vmap and grad: the crops are cut inside the function.

Legend: B images, N crops, S scales, H W sides of an image.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.errors import ConfigError
from jaxiqa.inputs.scales import same_place
from jaxiqa.models import scales_of
from jaxiqa.scoring.crops import five, parse_policy, positions
from jaxiqa.scoring.scorer import Scorer


def make_apply(scorer: Scorer) -> Callable:
    """Returns the function apply(images_BHWC) -> score_B of a checkpoint; see Metric.apply.

    Raises:
      ConfigError: the crop policy is "random:N", whose crops depend on the pixels.
    """
    card, model = scorer.card, scorer.model
    policy, crop, scales = parse_policy(card.crops), model.crop_size, scales_of(model)
    if policy.kind == "random":
        raise ConfigError(
            f"crops={card.crops}: the places of random crops depend on the pixels, so scores have no gradient; load "
            'the checkpoint with crops="auto:25"',
            code="conflict",
            key="crops",
        )
    stride, least = getattr(model, "stride", 0), policy.min_side(crop)
    # On no device, so that the function runs where its images are.
    variables = jax.tree.map(np.asarray, scorer.variables)
    mean, std = (np.asarray(values, np.float32) for values in (model.mean, model.std))

    def crops_of(x_BHWC, divisor, corners, sides):
        """(B, N, crop, crop, 3) at one scale; what lies outside the image is black."""
        copy = _shrunk(x_BHWC, divisor, crop)
        H, W = copy.shape[1:3]
        if policy.kind == "five" and divisor:
            places = five(H, W, crop)
        else:
            places = same_place(corners, sides, (H, W), crop)
        before = max(0, -int(places.min()))
        after = [max(0, int(places[:, axis].max()) + crop - side) for axis, side in enumerate((H, W))]
        copy = jnp.pad(copy, ((0, 0), (before, after[0]), (before, after[1]), (0, 0)))
        cut = [copy[:, y : y + crop, x : x + crop] for y, x in (places + before).tolist()]
        return jnp.stack(cut, axis=1)

    def apply(images_BHWC):
        if images_BHWC.ndim != 4 or images_BHWC.shape[-1] != 3:
            raise ConfigError(
                f"images of shape {images_BHWC.shape} are not (B, H, W, 3); add an axis to one image: images[None]",
                code="format",
                key="images",
            )
        x = jnp.asarray(images_BHWC)
        if x.dtype == jnp.uint8:
            x = x.astype(jnp.float32) / 255
        elif not jnp.issubdtype(x.dtype, jnp.floating):
            raise ConfigError(f"images are {x.dtype}, not uint8 or floats from 0 to 1", code="format", key="images")
        x = _fit(x.astype(jnp.float32), least, card.resize)
        B, H, W, _ = x.shape
        corners = positions(policy, np.broadcast_to(np.uint8(0), (H, W, 3)), crop, stride)
        parts = [crops_of(x, divisor, corners, (H, W)) for divisor in scales]
        N = parts[0].shape[1]
        crops = parts[0] if len(scales) == 1 else jnp.stack(parts, axis=2)
        crops = crops.reshape(B * N, *crops.shape[2:])
        channels = (1,) * (crops.ndim - 1) + (3,)
        crops = (crops - mean.reshape(channels)) / std.reshape(channels)
        output, _ = model.apply(variables, crops.astype(model.dtype), train=False)
        output_B = output.astype(jnp.float32).reshape(B, N).mean(1)
        return 100.0 * card.score01(output_B, jax.nn.sigmoid)

    return apply


def _shrunk(x_BHWC, divisor: int, crop: int):
    """As inputs.scales.shrink, without rounding."""
    if divisor == 1:
        return x_BHWC
    B, H, W, C = x_BHWC.shape
    sides = (max(H // divisor, 1), max(W // divisor, 1)) if divisor else (crop, crop)
    return jax.image.resize(x_BHWC, (B, *sides, C), "linear")


def _fit(x_BHWC, min_side: int, resize):
    """As inputs.transforms.fit, without rounding."""
    B, *sides, C = x_BHWC.shape
    if not isinstance(resize, int):
        sides, resize = list(resize), 0
    shorter = min(sides)
    wanted = max(resize or shorter, min_side)
    if wanted != shorter:
        sides = [max(wanted, math.floor(side * wanted / shorter + 0.5)) for side in sides]
    return x_BHWC if (B, *sides, C) == x_BHWC.shape else jax.image.resize(x_BHWC, (B, *sides, C), "cubic")
