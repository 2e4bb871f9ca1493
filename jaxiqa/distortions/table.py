"""The one table of distortions: what exists, in which order, at which five levels."""

import dataclasses
import difflib
import operator
from collections.abc import Callable

from jaxiqa.distortions.blur import gaussian_blur, lens_blur, motion_blur
from jaxiqa.distortions.brightness import brighten, darken, mean_shift
from jaxiqa.distortions.colour import colour_diffusion, colour_saturation_hsv, colour_saturation_lab
from jaxiqa.distortions.compression import jpeg, jpeg2000_codec, jpeg_codec
from jaxiqa.distortions.noise import impulse_noise, multiplicative_noise, white_noise, white_noise_ycbcr
from jaxiqa.distortions.sharpness import contrast_change, high_sharpen
from jaxiqa.distortions.spatial import pixelate


@dataclasses.dataclass(frozen=True)
class Distortion:
    """One type of distortion.

    Attributes:
      id: KADID-10k's number, 1..25.
      name: British spelling, unique.
      family: blur, colour, compression, noise, brightness, spatial or sharpness.
      levels: the parameter of levels 1..5; what it means is in the function's docstring.
      random: whether the result depends on a key.
      function: function(image_HWC, parameter[, key if random]) on the device; None where there is only a codec.
      codec: codec(image_uint8_HWC, parameter) on the host; None where the function is exact.
    """

    id: int
    name: str
    family: str
    levels: tuple[float, float, float, float, float]
    random: bool
    function: Callable | None
    codec: Callable | None = None

    @property
    def device(self) -> bool:
        """Whether there is a form that runs on the device."""
        return self.function is not None


DISTORTIONS = (
    Distortion(1, "gaussian_blur", "blur", (0.1, 0.5, 1, 2, 5), False, gaussian_blur),
    Distortion(2, "lens_blur", "blur", (1, 2, 4, 6, 8), False, lens_blur),
    Distortion(3, "motion_blur", "blur", (1, 2, 4, 6, 10), True, motion_blur),
    Distortion(4, "colour_diffusion", "colour", (1, 3, 6, 8, 12), False, colour_diffusion),
    Distortion(7, "colour_saturation_hsv", "colour", (0.4, 0.2, 0.1, 0, -0.4), False, colour_saturation_hsv),
    Distortion(8, "colour_saturation_lab", "colour", (1, 2, 3, 6, 9), False, colour_saturation_lab),
    Distortion(9, "jpeg2000", "compression", (16, 32, 45, 120, 400), False, None, jpeg2000_codec),
    Distortion(10, "jpeg", "compression", (43, 36, 24, 7, 4), False, jpeg, jpeg_codec),
    Distortion(11, "white_noise", "noise", (0.001, 0.002, 0.003, 0.005, 0.01), True, white_noise),
    Distortion(12, "white_noise_ycbcr", "noise", (0.0001, 0.0005, 0.001, 0.002, 0.003), True, white_noise_ycbcr),
    Distortion(13, "impulse_noise", "noise", (0.001, 0.005, 0.01, 0.02, 0.03), True, impulse_noise),
    Distortion(14, "multiplicative_noise", "noise", (0.001, 0.005, 0.01, 0.02, 0.05), True, multiplicative_noise),
    Distortion(16, "brighten", "brightness", (0.1, 0.2, 0.4, 0.7, 1.1), False, brighten),
    Distortion(17, "darken", "brightness", (0.05, 0.1, 0.2, 0.4, 0.8), False, darken),
    Distortion(18, "mean_shift", "brightness", (0.15, 0.08, 0, -0.08, -0.15), False, mean_shift),
    Distortion(21, "pixelate", "spatial", (0.01, 0.05, 0.1, 0.2, 0.5), False, pixelate),
    Distortion(24, "high_sharpen", "sharpness", (1, 2, 3, 6, 12), False, high_sharpen),
    Distortion(25, "contrast_change", "sharpness", (0.3, 0.15, 0, -0.4, -0.6), False, contrast_change),
)
_BY_NAME = {row.name: row for row in DISTORTIONS}
_BY_ID = {row.id: row for row in DISTORTIONS}


def get_distortion(type: str | int) -> Distortion:
    """The row of a name or KADID-10k number. Raises ValueError, with the nearest name, for any other."""
    if isinstance(type, str):
        if type in _BY_NAME:
            return _BY_NAME[type]
        near = difflib.get_close_matches(type, _BY_NAME, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(_BY_NAME)
        raise ValueError(f"unknown distortion {type!r}; {hint}")
    number = operator.index(type)
    if number not in _BY_ID:
        raise ValueError(f"unknown distortion number {number}; known: " + ", ".join(map(str, _BY_ID)))
    return _BY_ID[number]
