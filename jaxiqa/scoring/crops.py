"""Positions of the square crops that a model scores, by one of three policies.

grid      the fewest evenly spaced crops that cover every pixel
random:N  N uniformly random crops, always the same ones for the same image
whole     a patch model's own grid: a crop every `stride` pixels, if all of it is inside the image
"""

import dataclasses
import re
import zlib

import numpy as np

from jaxiqa.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class Policy:
    """How many crops are taken, and how they are placed; str() returns the text of parse_policy."""

    kind: str  # "grid", "random" or "whole"
    count: int = 0  # crops per image of "random"

    def __str__(self) -> str:
        return f"random:{self.count}" if self.kind == "random" else self.kind


def parse_policy(text: str) -> Policy:
    """Parses a policy: "grid", "random:N" with N >= 1, or "whole".

    Raises:
      ConfigError: any other text; the message names the nearest valid policy.
    """
    if text in ("grid", "whole"):
        return Policy(text)
    if found := re.fullmatch(r"random:([1-9][0-9]{0,5})", text):
        return Policy("random", int(found[1]))
    word, digits = re.sub(r"[^a-z]", "", text.lower()), re.sub(r"[^0-9]", "", text).lstrip("0")[:6]
    near = nearest(word, ["grid", "random", "whole"], 0.5) or "grid"
    suggestion = Policy(near, int(digits or 25) if near == "random" else 0)
    raise ConfigError(
        f"{text!r} is not a crop policy (--crops, config.test_crops: grid, random:N, whole); did you mean "
        f"{str(suggestion)!r}?",
        code="value",
        key="crops",
    )


def positions(policy: Policy, image_HWC: np.ndarray, crop: int, stride: int = 0) -> np.ndarray:
    """Upper left corners of the crops of one image.

    Args:
      policy: from parse_policy.
      image_HWC: uint8 (H, W, 3), both sides at least `crop`.
      crop: side of a crop in pixels.
      stride: distance between the crops of "whole", in pixels.

    Returns:
      int64 (n, 2) of (top, left). The pixels are the seed of random crops, so an image has the same crops under any
      name and in any list of images.

    Raises:
      ValueError: the image is smaller than a crop.
    """
    height, width = image_HWC.shape[:2]
    if policy.kind == "whole":
        _check(height, width, crop)
        tops, lefts = (np.arange(0, side - crop + 1, stride) for side in (height, width))
        return np.stack(np.meshgrid(tops, lefts, indexing="ij"), -1).reshape(-1, 2).astype(np.int64)
    if policy.kind == "grid":
        return grid(height, width, crop)
    return random_positions(height, width, crop, policy.count, zlib.crc32(image_HWC.tobytes()))


def grid(height: int, width: int, crop: int) -> np.ndarray:
    """The fewest crops that cover every pixel, evenly spaced from edge to edge, row by row.

    Returns int64 (n, 2) of (top, left) with n = ceil(height / crop) * ceil(width / crop). Raises ValueError if the
    image is smaller than a crop.
    """
    _check(height, width, crop)
    tops, lefts = (np.arange(n := -(-side // crop)) * (side - crop) // max(n - 1, 1) for side in (height, width))
    return np.stack(np.meshgrid(tops, lefts, indexing="ij"), -1).reshape(-1, 2).astype(np.int64)


def random_positions(height: int, width: int, crop: int, n: int, seed: int) -> np.ndarray:
    """n crops, each uniform over all positions inside the image: int64 (n, 2) of (top, left).

    Raises ValueError if the image is smaller than a crop.
    """
    _check(height, width, crop)
    return np.random.default_rng(seed).integers([height - crop + 1, width - crop + 1], size=(n, 2))


def _check(height: int, width: int, crop: int) -> None:
    if not 0 < crop <= min(height, width):
        raise ValueError(f"no crop of {crop} pixels fits in an image of {width} x {height}; enlarge it first")
