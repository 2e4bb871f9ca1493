"""Distorts clean images: the distortion types of KADID-10k, each at five levels.

`distort` and, for mixed batches, `distort_batch` run inside a jitted step. `distort_exact` runs on the host, with the
real codecs.
"""

from jaxiqa.distortions.batch import distort_batch
from jaxiqa.distortions.crop_bank import CONTRASTIVE
from jaxiqa.distortions.draw import draw, draw_classes, label_classes, load_bank
from jaxiqa.distortions.single import distort, distort_exact
from jaxiqa.distortions.table import DISTORTIONS, Distortion, get_distortion, parse_types

__all__ = [
    "CONTRASTIVE",
    "DISTORTIONS",
    "Distortion",
    "distort",
    "distort_batch",
    "distort_exact",
    "draw",
    "draw_classes",
    "get_distortion",
    "label_classes",
    "load_bank",
    "parse_types",
]
