"""Where a model looks at a picture: positions of square crops, by one of three policies.

grid      the fewest evenly spaced crops that together see every pixel
random:N  N uniformly random crops, always the same ones for the same picture
whole     a patch model's own grid: every `stride` pixels, as far as whole crops fit
"""

import difflib
import re
import zlib
from typing import NamedTuple

import numpy as np

from jaxiqa.errors import ConfigError


class Policy(NamedTuple):
    """How many crops are taken and where; str() gives back the text it was parsed from."""

    kind: str  # "grid", "random" or "whole"
    count: int = 0  # crops per picture of "random"

    def __str__(self) -> str:
        return f"random:{self.count}" if self.kind == "random" else self.kind


def parse_policy(text: str) -> Policy:
    """The policy that a flag or a model names: "grid", "random:N" with N >= 1, or "whole".

    Raises ConfigError, with the nearest thing that would have worked, for any other text.
    """
    if text in ("grid", "whole"):
        return Policy(text)
    if found := re.fullmatch(r"random:([1-9][0-9]{0,5})", text):
        return Policy("random", int(found[1]))
    word, digits = re.sub(r"[^a-z]", "", text.lower()), re.sub(r"[^0-9]", "", text).lstrip("0")[:6]
    (nearest, *_) = difflib.get_close_matches(word, ["grid", "random", "whole"], cutoff=0.5) or ["grid"]
    suggestion = Policy(nearest, int(digits or 25) if nearest == "random" else 0)
    raise ConfigError(
        f"{text!r} are no crops (--crops, config.test_crops: grid, random:N, whole); did you mean {str(suggestion)!r}?"
    )


def positions(policy: Policy, image_HWC: np.ndarray, crop: int, stride: int = 0) -> np.ndarray:
    """Upper left corners of the crops of one picture.

    Args:
      policy: of parse_policy.
      image_HWC: uint8 (H, W, 3), both sides at least `crop`.
      crop: side of a crop in pixels.
      stride: of the grid of "whole", in pixels.

    Returns:
      int64 (n, 2) of (top, left). Random ones are seeded by the pixels, so a picture has the same crops under any name,
      in any order, alone and among others.
    """
    height, width = image_HWC.shape[:2]
    if policy.kind == "whole":
        _check(height, width, crop)
        tops, lefts = (np.arange(0, side - crop + 1, stride) for side in (height, width))
        return np.stack(np.meshgrid(tops, lefts, indexing="ij"), -1).reshape(-1, 2).astype(np.int64)
    if policy.kind == "grid":
        return grid(height, width, crop)
    return random_positions(height, width, crop, policy.count, zlib.crc32(np.ascontiguousarray(image_HWC)))


def grid(height: int, width: int, crop: int) -> np.ndarray:
    """The fewest crops that see every pixel, evenly spaced from edge to edge; rows first.

    Returns int64 (n, 2) of (top, left) with n = ceil(height / crop) * ceil(width / crop). Raises ValueError where the
    picture is smaller than a crop.
    """
    _check(height, width, crop)
    tops, lefts = (np.arange(n := -(-side // crop)) * (side - crop) // max(n - 1, 1) for side in (height, width))
    return np.stack(np.meshgrid(tops, lefts, indexing="ij"), -1).reshape(-1, 2).astype(np.int64)


def random_positions(height: int, width: int, crop: int, n: int, seed: int) -> np.ndarray:
    """n crops, each uniform over all places inside the picture: int64 (n, 2) of (top, left).

    Raises ValueError where the picture is smaller than a crop.
    """
    _check(height, width, crop)
    return np.random.default_rng(seed).integers([height - crop + 1, width - crop + 1], size=(n, 2))


def _check(height: int, width: int, crop: int) -> None:
    if not 0 < crop <= min(height, width):
        raise ValueError(f"no crop of {crop} pixels fits in a picture of {width} x {height}; enlarge it first")
