"""The table of distortions: names, numbers, functions and the parameters of the five levels."""

import dataclasses
import operator
import re
from collections.abc import Callable

from jaxiqa.distortions.families.blur import gaussian_blur, lens_blur, motion_blur
from jaxiqa.distortions.families.brightness import brighten, darken, mean_shift
from jaxiqa.distortions.families.colour import (
    colour_diffusion,
    colour_saturation_hsv,
    colour_saturation_lab,
    colour_shift,
)
from jaxiqa.distortions.families.compression import jpeg, jpeg2000_codec, jpeg_codec
from jaxiqa.distortions.families.denoising import denoise
from jaxiqa.distortions.families.jpeg2000 import jpeg2000
from jaxiqa.distortions.families.noise import impulse_noise, multiplicative_noise, white_noise, white_noise_ycbcr
from jaxiqa.distortions.families.palette import colour_quantisation
from jaxiqa.distortions.families.sharpness import contrast_change, high_sharpen
from jaxiqa.distortions.families.spatial import colour_block, jitter, non_eccentricity_patch, pixelate
from jaxiqa.distortions.families.thresholds import quantisation
from jaxiqa.errors import ConfigError, suggest


@dataclasses.dataclass(frozen=True)
class Distortion:
    """One type of distortion.

    Attributes:
      id: KADID-10k's number, 1..25; 26 and up for types that KADID-10k does not have.
      name: British spelling, unique.
      family: blur, colour, compression, noise, brightness, spatial or sharpness.
      levels: the parameter of levels 1..5; the function's docstring says what it means.
      random: whether the result depends on a key.
      function: function(image_HWC, parameter[, key if random]) on the device; pure, the parameter may be traced.
      codec: codec(image_uint8_HWC, parameter) on the host; None if the function is exact.
      chains: indices 0..4 of the levels from weak to strong; one chain for each sign that the change has.
    """

    id: int
    name: str
    family: str
    levels: tuple[float, float, float, float, float]
    random: bool
    function: Callable
    codec: Callable | None = None
    chains: tuple[tuple[int, ...], ...] = ((0, 1, 2, 3, 4),)

    def severity(self, level: int) -> float:
        """How strong level 1..5 is, 0 to 5: its place in its chain; 0 if it does not change an 8-bit image."""
        if (self.name, level) in UNCHANGED:
            return 0.0
        chain = max((chain for chain in self.chains if level - 1 in chain), key=len)
        return 5 * (chain.index(level - 1) + 1) / len(chain)


# (type, level) of DISTORTIONS that do not change an 8-bit image.
UNCHANGED = (("gaussian_blur", 1), ("motion_blur", 1), ("colour_saturation_lab", 1), ("mean_shift", 3))

DISTORTIONS = (
    Distortion(1, "gaussian_blur", "blur", (0.1, 0.5, 1, 2, 5), False, gaussian_blur),
    Distortion(2, "lens_blur", "blur", (1, 2, 4, 6, 8), False, lens_blur),
    Distortion(3, "motion_blur", "blur", (1, 2, 4, 6, 10), True, motion_blur),
    Distortion(4, "colour_diffusion", "colour", (1, 3, 6, 8, 12), False, colour_diffusion),
    Distortion(5, "colour_shift", "colour", (1, 3, 6, 8, 12), True, colour_shift),
    Distortion(6, "colour_quantisation", "colour", (64, 48, 32, 16, 8), False, colour_quantisation),
    Distortion(7, "colour_saturation_hsv", "colour", (0.4, 0.2, 0.1, 0, -0.4), False, colour_saturation_hsv),
    Distortion(8, "colour_saturation_lab", "colour", (1, 2, 3, 6, 9), False, colour_saturation_lab),
    Distortion(9, "jpeg2000", "compression", (16, 32, 45, 120, 400), False, jpeg2000, jpeg2000_codec),
    Distortion(10, "jpeg", "compression", (43, 36, 24, 7, 4), False, jpeg, jpeg_codec),
    Distortion(11, "white_noise", "noise", (0.001, 0.002, 0.003, 0.005, 0.01), True, white_noise),
    Distortion(12, "white_noise_ycbcr", "noise", (0.0001, 0.0005, 0.001, 0.002, 0.003), True, white_noise_ycbcr),
    Distortion(13, "impulse_noise", "noise", (0.001, 0.005, 0.01, 0.02, 0.03), True, impulse_noise),
    Distortion(14, "multiplicative_noise", "noise", (0.001, 0.005, 0.01, 0.02, 0.05), True, multiplicative_noise),
    Distortion(15, "denoise", "noise", (0.01, 0.03, 0.05, 0.1, 0.15), True, denoise),
    Distortion(16, "brighten", "brightness", (0.1, 0.2, 0.4, 0.7, 1.1), False, brighten),
    Distortion(17, "darken", "brightness", (0.05, 0.1, 0.2, 0.4, 0.8), False, darken),
    Distortion(
        18, "mean_shift", "brightness", (0.15, 0.08, 0, -0.08, -0.15), False, mean_shift, chains=((2, 1, 0), (2, 3, 4))
    ),
    Distortion(19, "jitter", "spatial", (0.05, 0.1, 0.2, 0.5, 1), True, jitter),
    Distortion(20, "non_eccentricity_patch", "spatial", (20, 40, 60, 80, 100), True, non_eccentricity_patch),
    Distortion(21, "pixelate", "spatial", (0.01, 0.05, 0.1, 0.2, 0.5), False, pixelate),
    Distortion(22, "quantisation", "spatial", (20, 16, 13, 10, 7), False, quantisation),
    Distortion(23, "colour_block", "spatial", (2, 4, 6, 8, 10), True, colour_block),
    Distortion(24, "high_sharpen", "sharpness", (1, 2, 3, 6, 12), False, high_sharpen),
    # -0.2 would be no change.
    Distortion(
        25,
        "contrast_change",
        "sharpness",
        (0.3, 0.15, 0, -0.4, -0.6),
        False,
        contrast_change,
        chains=((2, 1, 0), (3, 4)),
    ),
)


def get_distortion(type: str | int, bank: tuple[Distortion, ...] = DISTORTIONS) -> Distortion:
    """Returns the bank's row of a name or number. Raises ValueError, with the nearest name, if it is unknown."""
    by_name = {row.name: row for row in bank}
    if isinstance(type, str):
        if type in by_name:
            return by_name[type]
        raise ValueError(f'unknown distortion "{type}"; {suggest(type, by_name)}')
    by_id = {row.id: row for row in bank}
    number = operator.index(type)
    if number not in by_id:
        raise ValueError(f"unknown distortion number {number}; choose one of: " + ", ".join(map(str, by_id)))
    return by_id[number]


def parse_types(text: str) -> list[int]:
    """Returns the numbers of the types in `text`: "all", or names, numbers and ranges (3-7) separated by commas.

    Raises ConfigError for an unknown type.
    """
    if text == "all":
        return [row.id for row in DISTORTIONS]
    try:
        words = [word.strip() for word in text.split(",")]
        found = set()
        for word in words:
            span = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
            numbers = range(int(span[1]), int(span[2] or span[1]) + 1) if span else [word]
            found |= {get_distortion(number).id for number in numbers}
        return sorted(found)
    except ValueError as error:
        raise ConfigError(f"--types: {error}", code="unknown", key="--types") from error
