"""Data of training on transferred labels: whole pristine images, which the device distorts and then crops.

A transferred label belongs to a whole image with one distortion. So the host draws a type, a level and the position of
a crop and sends them with the whole image, and the step distorts the image before it cuts the crop.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.distortions import DISTORTIONS, distort_batch
from jaxiqa.distortions.eight_bits import to_uint8
from jaxiqa.errors import ConfigError
from jaxiqa.inputs.decode import read_image
from jaxiqa.inputs.image_source import Images
from jaxiqa.inputs.transforms import HEIGHT, WIDTH, Augment, a_row_for_each_crop, centre_corner, whole

_DISTORTS = 2**31  # folded into the key of a step; no part of a batch (training/step.py) has this number


class PoolImages(Images):
    """The pool's images in the training part of a dataset with transferred labels: uint8 (384, 512, 3) each.

    Args:
      dataset: a dataset with `transferred`; its records are not rendered.
      indices: indices of the n records that train.
      native: whether labels are on the dataset's own scale; else they are 0..1.
      cache_gb: as in Images.
      resize: must be 0, because labels belong to images of one size.

    Attributes:
      cells: C pairs (type, level).
      labels: float32 (n, C).

    Raises:
      ConfigError: resize is not 0.
    """

    def __init__(self, dataset: Dataset, indices: list[int], native: bool, cache_gb: float, resize=0):
        if resize:
            raise ConfigError(
                f"config.resize={resize} must be 0: the labels of {dataset.name} are valid for images of "
                f"{HEIGHT}x{WIDTH} only",
                code="conflict",
                key="config.resize",
            )
        super().__init__([dataset.records[i] for i in indices], min(HEIGHT, WIDTH), cache_gb=cache_gb)
        self.cells = np.array(dataset.transferred.cells, np.int32)
        mos_NC = dataset.transferred.mos_NC[indices]
        self.labels = np.asarray(mos_NC if native else dataset.scale.to_score01(mos_NC), np.float32)

    def _read(self, record: Record) -> np.ndarray:
        return whole(read_image(record.path))

    def draw(self, example: dict, rng: np.random.Generator, crop: int, augment: Augment, crops: int = 1) -> dict:
        """Draws a distortion and crops of `crop` pixels for an example.

        Returns:
          the example with "label", "type" and "level" of the distortion; "corner", the upper left corner (y, x) of the
          crop; and "mirror", whether the crop is then mirrored top-down and left-right, each with probability 1/2 if
          `augment` allows it. With several crops, both are (crops, 2). "image" stays whole.
        """
        many = (crops,) if crops > 1 else ()
        cell = rng.integers(len(self.cells))
        type_, level = self.cells[cell]
        if augment.crop == "centre":
            corner = np.broadcast_to(np.array(centre_corner(HEIGHT, WIDTH, crop), np.int32), (*many, 2))
        else:
            corner = rng.integers((HEIGHT - crop + 1, WIDTH - crop + 1), size=(*many, 2), dtype=np.int32)
        mirror = (rng.random((*many, 2)) < 0.5) & (augment.vertical, augment.horizontal)
        drawn = {"label": example["label"][cell], "type": type_, "level": level, "corner": corner}
        return {**example, **drawn, "mirror": mirror}


def batch_columns(crops: int = 1) -> dict:
    """{name: (shape of one row, dtype)} of a batch of PoolImages.draw, except for its labels and indices."""
    many = (crops,) if crops > 1 else ()
    drawn = {
        "type": ((), jnp.int32),
        "level": ((), jnp.int32),
        "corner": ((*many, 2), jnp.int32),
        "mirror": ((*many, 2), jnp.bool_),
    }
    return {"image": ((HEIGHT, WIDTH, 3), jnp.uint8), **drawn}


def make_crops(cells, crop: int, mesh):
    """crops_of(batch, key) -> {"image": uint8 (N, crop, crop, 3), "label", "index"}, for batches of PoolImages.draw.

    N is the number of crops of all images. The crops of an image are adjacent.

    Args:
      cells: (C, 2), the types and levels that may occur.
      crop: side of the crops in pixels.
      mesh: mesh of the devices.

    The key of crops_of is that of the step.
    """
    types = {int(type_) for type_, _ in cells}
    bank = tuple(row for row in DISTORTIONS if row.id in types)  # other types are not compiled

    def cut(image_HWC, corner, mirror):
        image_HWC = jax.lax.dynamic_slice(image_HWC, (corner[0], corner[1], 0), (crop, crop, 3))
        image_HWC = jnp.where(mirror[0], image_HWC[::-1], image_HWC)
        return jnp.where(mirror[1], image_HWC[:, ::-1], image_HWC)

    def crops_of(batch, key):
        keys_B = jax.random.split(jax.random.fold_in(key, _DISTORTS), batch["type"].size)
        images = batch["image"].astype(jnp.float32) / 255
        images = distort_batch(images, batch["type"], batch["level"], keys_B, bank=bank, mesh=mesh)
        several = batch["corner"].ndim > 2
        crops = jax.vmap(jax.vmap(cut, (None, 0, 0)) if several else cut)(images, batch["corner"], batch["mirror"])
        found = {"image": to_uint8(crops), "label": batch["label"], "index": batch["index"]}
        return a_row_for_each_crop(found) if several else found

    return crops_of
