"""Held-out pictures distorted by every type: what a linear probe of distortion types is fitted and tested on."""

from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxiqa.distortions import distort_batch, label_classes
from jaxiqa.distortions.contrastive import CONTRASTIVE
from jaxiqa.distortions.eight_bits import to_uint8
from jaxiqa.inputs.pictures import Pictures
from jaxiqa.inputs.transforms import random_crop

CLASSES = ("pristine", *(row.name for row in CONTRASTIVE))
FAMILIES = ("pristine", *(row.family for row in CONTRASTIVE))
PARTS = ("fit", "val", "test")


class ProbeSet(NamedTuple):
    """N crops: uint8 images (N, S, S, 3), labels (N,) into CLASSES, and the part (N,) of PARTS their picture is in."""

    images: np.ndarray
    labels: np.ndarray
    parts: np.ndarray


def make_probe_set(pictures: Pictures, crop: int, batch_size: int, mesh: Mesh) -> ProbeSet:
    """One crop of every picture, as it is and with every type of the contrastive bank, at levels that take turns.

    Half of the pictures are to fit a probe on, a quarter to select by, a quarter to test on, so that no content is in
    two parts. Nothing here depends on a run's seed: probes of different runs see the same crops.

    Args:
      pictures: pristine ones, 4 or more.
      batch_size: crops distorted at once; a multiple of the devices.
    """
    classes = label_classes("type")
    n = len(pictures)
    rng = np.random.default_rng(0)
    clean = np.stack([random_crop(pictures[i], crop, rng) for i in range(n)])
    picture = np.repeat(np.arange(n), len(classes))
    labels = np.tile(np.arange(len(classes)), n)
    cells = np.array([classes[c][(p + c) % len(classes[c])] for p, c in zip(picture, labels, strict=True)], np.int32)
    keys = jax.random.split(jax.random.key(0), labels.size)

    @jax.jit
    def distorted(images, types, levels, keys):
        images = images.astype(np.float32) / 255
        return to_uint8(distort_batch(images, types, levels, keys, stretch=False, bank=CONTRASTIVE, mesh=mesh))

    images = []
    for start in range(0, labels.size, batch_size):
        rows = np.arange(start, start + batch_size) % labels.size  # the last batch is filled with the first rows
        images.append(jax.device_get(distorted(clean[picture[rows]], *cells[rows].T, keys[rows])))
    images = np.concatenate(images)[: labels.size]
    images = np.where((labels == 0)[:, None, None, None], clean[picture], images)
    quarter = 4 * picture // n
    return ProbeSet(images, labels, np.array([0, 0, 1, 2])[quarter])
