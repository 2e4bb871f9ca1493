"""The square crops that a model scores, by one of six policies.

grid      the fewest evenly spaced crops that cover every pixel
overlap   those of grid and one between each two neighbours, so that most pixels are in four crops; for quality maps
five      the centre and the four corners; what lies outside a smaller image is black
auto:N    those of grid, if they are at most N; else at most N of equal spacing, from edge to edge
random:N  N uniformly random crops, always the same ones for the same image
whole     a patch model's own grid: a crop every `stride` pixels, if all of it is inside the image
"""

import dataclasses
import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxiqa.errors import ConfigError, nearest
from jaxiqa.inputs.scales import cut, same_place, shrink
from jaxiqa.models import scales_of

_PLAIN = ("grid", "overlap", "five", "whole")
_COUNTED = ("auto", "random")  # policies with a number of crops


@dataclasses.dataclass(frozen=True)
class Policy:
    """How many crops are taken, and how they are placed; str() returns the text of parse_policy."""

    kind: str  # "grid", "overlap", "five", "auto", "random" or "whole"
    count: int = 0  # crops per image of "random", at most as many of "auto"

    def __str__(self) -> str:
        return f"{self.kind}:{self.count}" if self.kind in _COUNTED else self.kind

    def min_side(self, crop: int) -> int:
        """The sides that an image must have at least, in pixels; smaller images are enlarged first."""
        return 1 if self.kind == "five" else crop


def parse_policy(text: str) -> Policy:
    """Parses a policy: "grid", "overlap", "five", "auto:N" or "random:N" with N >= 1, or "whole".

    Raises:
      ConfigError: any other text; the message names the nearest valid policy.
    """
    if text in _PLAIN:
        return Policy(text)
    if found := re.fullmatch(rf"({'|'.join(_COUNTED)}):([1-9][0-9]{{0,5}})", text):
        return Policy(found[1], int(found[2]))
    word, digits = re.sub(r"[^a-z]", "", text.lower()), re.sub(r"[^0-9]", "", text).lstrip("0")[:6]
    near = nearest(word, [*_PLAIN, *_COUNTED], 0.5) or "grid"
    suggestion = Policy(near, int(digits or 25) if near in _COUNTED else 0)
    raise ConfigError(
        f"{text!r} is not a crop policy (--crops, config.test_crops: grid, overlap, five, auto:N, random:N, whole); "
        f"did you mean {str(suggestion)!r}?",
        code="value",
        key="crops",
    )


@dataclasses.dataclass(frozen=True)
class Cropper:
    """Cuts the crops that one model scores under one policy. It holds no weights and needs no device.

    Attributes:
      policy: the parsed policy.
      crop, stride, scales: of the model (see cut_crops).
    """

    policy: Policy
    crop: int
    stride: int
    scales: tuple[int, ...]

    @classmethod
    def of(cls, model: Any, policy: str) -> "Cropper":
        """The crops of a model from create_model.

        Raises:
          ConfigError: `policy` is not a policy, or does not fit the model.
        """
        parsed, stride = parse_policy(policy), getattr(model, "stride", 0)
        if parsed.kind == "whole" and not stride:
            raise ConfigError(
                f'crops="whole": this model scores crops of {model.crop_size} pixels; use grid, five, auto:N or '
                "random:N",
                code="conflict",
                key="crops",
            )
        return cls(parsed, model.crop_size, stride, tuple(scales_of(model)))

    @property
    def min_side(self) -> int:
        """The sides that images must have at least, in pixels."""
        return self.policy.min_side(self.crop)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of a crop: (S crop, crop, 3)."""
        return len(self.scales) * self.crop, self.crop, 3

    def __call__(self, image_HWC: np.ndarray) -> list[np.ndarray]:
        """The crops of an image with sides of at least `min_side`, as cut_crops returns them."""
        return cut_crops(self.policy, image_HWC, self.crop, self.stride, self.scales)


def positions(policy: Policy, image_HWC: np.ndarray, crop: int, stride: int = 0) -> np.ndarray:
    """Upper left corners of the crops of one image.

    Args:
      policy: from parse_policy.
      image_HWC: uint8 (H, W, 3), both sides at least policy.min_side(crop).
      crop: side of a crop in pixels.
      stride: distance between the crops of "whole", in pixels.

    Returns:
      int64 (n, 2) of (top, left). A crop of "five" that is larger than the image has a negative corner. The pixels are
      the seed of random crops, so an image has the same crops under any name and in any list of images.

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
    if policy.kind == "overlap":
        return _spread(height, width, crop, *overlap_shape(height, width, crop))
    if policy.kind == "five":
        return five(height, width, crop)
    if policy.kind == "auto":
        return lattice(height, width, crop, policy.count)
    return random_positions(height, width, crop, policy.count, zlib.crc32(image_HWC.tobytes()))


def grid(height: int, width: int, crop: int) -> np.ndarray:
    """The fewest crops that cover every pixel, evenly spaced from edge to edge, row by row.

    Returns int64 (n, 2) of (top, left) with n = ceil(height / crop) * ceil(width / crop). Raises ValueError if the
    image is smaller than a crop.
    """
    _check(height, width, crop)
    return _spread(height, width, crop, -(-height // crop), -(-width // crop))


def overlap_shape(height: int, width: int, crop: int) -> tuple[int, int]:
    """The numbers of rows and columns of "overlap": 2 n - 1, where "grid" has n. Raises ValueError as grid()."""
    _check(height, width, crop)
    return 2 * -(-height // crop) - 1, 2 * -(-width // crop) - 1


def lattice(height: int, width: int, crop: int, n: int) -> np.ndarray:
    """At most n crops in rows and columns, evenly spaced from edge to edge, row by row; never more than grid().

    The numbers of rows and columns are those that divide the image into cells with the shortest longer side, so they
    follow the shape of the image. With n >= 4, the corners of the image are in a crop. A single row or column lies in
    the middle.

    Returns int64 (at most n, 2) of (top, left). Raises ValueError if the image is smaller than a crop.
    """
    _check(height, width, crop)
    most_rows, most_columns = -(-height // crop), -(-width // crop)
    fits = [(rows, min(most_columns, n // rows)) for rows in range(1, min(most_rows, n) + 1)]

    def cell(shape):
        misses_corners = shape[0] < min(2, most_rows) or shape[1] < min(2, most_columns)
        sides = height / shape[0], width / shape[1]
        return misses_corners, max(sides), min(sides)

    return _spread(height, width, crop, *min(fits, key=cell))


def _spread(height: int, width: int, crop: int, rows: int, columns: int) -> np.ndarray:
    tops, lefts = (
        np.arange(n) * (side - crop) // (n - 1) if n > 1 else np.array([(side - crop) // 2])
        for side, n in ((height, rows), (width, columns))
    )
    return np.stack(np.meshgrid(tops, lefts, indexing="ij"), -1).reshape(-1, 2).astype(np.int64)


def five(height: int, width: int, crop: int) -> np.ndarray:
    """The crop at the centre, then top left, bottom left, top right, bottom right: int64 (5, 2) of (top, left)."""
    bottom, right = height - crop, width - crop
    centre = (height // 2 - crop // 2, width // 2 - crop // 2)
    return np.array([centre, (0, 0), (bottom, 0), (0, right), (bottom, right)])


def cut_crops(
    policy: Policy, image_HWC: np.ndarray, crop: int, stride: int = 0, scales: Sequence[int] = (1,)
) -> list[np.ndarray]:
    """The n crops of one image, each uint8 (S crop, crop, 3): those at S scales, one below the other.

    Args:
      policy, image_HWC, crop, stride: as for positions.
      scales: the integers by which the sides of the image are divided. Crops at other scales are at the same places in
        proportion; those of "five" are the centre and the corners at each scale. At scale 0, all are the whole image.

    Raises:
      ValueError: as for positions.
    """
    corners, columns = positions(policy, image_HWC, crop, stride), []
    for divisor in scales:
        copy = shrink(image_HWC, divisor, crop)
        if policy.kind == "five" and divisor:
            places = five(copy.shape[0], copy.shape[1], crop)
        else:
            places = same_place(corners, image_HWC.shape, copy.shape, crop)
        columns.append([cut(copy, top, left, crop) for top, left in places.tolist()])
    return columns[0] if len(scales) == 1 else [np.concatenate(parts) for parts in zip(*columns, strict=True)]


def random_positions(height: int, width: int, crop: int, n: int, seed: int) -> np.ndarray:
    """n crops, each uniform over all positions inside the image: int64 (n, 2) of (top, left).

    Raises ValueError if the image is smaller than a crop.
    """
    _check(height, width, crop)
    return np.random.default_rng(seed).integers([height - crop + 1, width - crop + 1], size=(n, 2))


def _check(height: int, width: int, crop: int) -> None:
    if not 0 < crop <= min(height, width):
        raise ValueError(f"no crop of {crop} pixels fits in an image of {width} x {height}; enlarge it first")
