"""Data of a linear probe of distortion types: held-out images, distorted by every type."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxiqa.distortions import DISTORTIONS, distort_batch, distort_exact, label_classes
from jaxiqa.distortions.crop_bank import CONTRASTIVE
from jaxiqa.distortions.eight_bits import to_uint8
from jaxiqa.inputs.image_source import Images
from jaxiqa.inputs.transforms import fit, random_crop

CLASSES = ("pristine", *(row.name for row in CONTRASTIVE))
FAMILIES = ("pristine", *(row.family for row in CONTRASTIVE))
PARTS = ("fit", "val", "test")
# Of the samples below: KADID-10k's types, with the real codecs.
KINDS = ("pristine", *(row.name for row in DISTORTIONS))
KIND_FAMILIES = ("pristine", *(row.family for row in DISTORTIONS))
_LEAST = 64  # pixels of a side that distortions need
_LEVELS = 2  # of each type in the samples of an image
_CLEAN = 16  # undistorted crops in the samples of an image: a quarter of all


class ProbeSet(NamedTuple):
    """N crops: uint8 images (N, S, S, 3), labels (N,), indices into CLASSES, and parts (N,), indices into PARTS."""

    images: np.ndarray
    labels: np.ndarray
    parts: np.ndarray


def make_probe_set(images: Images, crop: int, batch_size: int, mesh: Mesh) -> ProbeSet:
    """Makes a probe set: one crop of every image, undistorted and with every type of the contrastive bank.

    The levels take turns. Half of the images are for fitting a probe, a quarter for selection and a quarter for the
    test, so that no content is in two parts. Nothing here depends on the seed of a run: all runs get the same crops.

    Args:
      images: 4 or more pristine images.
      crop: side of the crops in pixels.
      batch_size: number of crops distorted at once; a multiple of the number of devices.
      mesh: mesh of the devices.
    """
    classes = label_classes("type")
    n = len(images)
    rng = np.random.default_rng(0)
    clean = np.stack([random_crop(images[i], crop, rng) for i in range(n)])
    image_N = np.repeat(np.arange(n), len(classes))
    labels = np.tile(np.arange(len(classes)), n)
    cells = np.array([classes[c][(p + c) % len(classes[c])] for p, c in zip(image_N, labels, strict=True)], np.int32)
    keys = jax.random.split(jax.random.key(0), labels.size)

    @jax.jit
    def distorted(images, types, levels, keys):
        images = images.astype(np.float32) / 255
        return to_uint8(distort_batch(images, types, levels, keys, stretch=False, bank=CONTRASTIVE, mesh=mesh))

    images = []
    for start in range(0, labels.size, batch_size):
        rows = np.arange(start, start + batch_size) % labels.size  # the last batch is filled with the first rows
        images.append(jax.device_get(distorted(clean[image_N[rows]], *cells[rows].T, keys[rows])))
    images = np.concatenate(images)[: labels.size]
    images = np.where((labels == 0)[:, None, None, None], clean[image_N], images)
    quarter = 4 * image_N // n
    return ProbeSet(images, labels, np.array([0, 0, 1, 2])[quarter])


class Sample(NamedTuple):
    """A crop whose distortion is known."""

    image: np.ndarray  # uint8 (S, S, 3)
    label: int  # index into KINDS
    severity: float  # 0 (pristine) to 5 (strongest level)


def samples(image_HWC: np.ndarray, side: int, turn: int) -> Iterator[Sample]:
    """Yields the samples of an undistorted image: crops without a distortion, and with each type at two levels.

    Args:
      image_HWC: uint8; an image that is smaller than a crop is enlarged.
      side: of a crop in pixels, at least 64.
      turn: number of the image, from which the levels and the places of the crops follow.
    """
    rng = np.random.default_rng(turn)
    image_HWC = fit(image_HWC, side)
    for _ in range(_CLEAN):
        yield Sample(random_crop(image_HWC, side, rng), 0, 0.0)
    for row in DISTORTIONS:
        for k in range(_LEVELS):
            level = 1 + (turn + row.id + k * 5 // _LEVELS) % 5
            done = distort_exact(random_crop(image_HWC, side, rng), row.id, level, turn, stretch=False)
            severity = row.severity(level)
            yield Sample(done, row.id if severity else 0, severity)


def side_of(crop: int, scales: tuple[int, ...]) -> int:
    """Side of a sample for a model that sees crops at these scales (inputs/scales.py), in pixels."""
    return max(_LEAST, crop * max(1, *scales))
