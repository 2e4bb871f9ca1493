"""What training on transferred labels sees: whole pristine pictures, which the device distorts and then crops.

A transferred label is that of a whole picture with one distortion. So the host sends the whole picture, with a type, a
level and the place of a crop that it has drawn, and the step distorts the picture before it cuts the crop.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.distortions import DISTORTIONS, distort_batch
from jaxiqa.distortions.eight_bits import to_uint8
from jaxiqa.errors import ConfigError
from jaxiqa.inputs.decode import read_image
from jaxiqa.inputs.pictures import Pictures
from jaxiqa.inputs.transforms import HEIGHT, WIDTH, whole

_DISTORTS = 2**31  # folded into a step's key; no part of a batch (training/accumulate.py) has this number


class Sources(Pictures):
    """The training part of a dataset with transferred labels: `sources[i]` is a pristine picture, uint8 (384, 512, 3).

    Args:
      dataset: with `transferred`; its records as they were read, not rendered.
      indices: of the n records that train.
      native: whether labels are on the dataset's own scale, and not 0..1.
      cache_gb, resize: as of Pictures; another size is refused.

    Attributes:
      cells: C pairs (type, level).
      labels: float32 (n, C).

    Raises:
      ConfigError: a size that is not that of the rated pictures.
    """

    def __init__(self, dataset: Dataset, indices: list[int], native: bool, cache_gb: float, resize=0):
        if resize:
            raise ConfigError(
                f"config.resize={resize}: {dataset.name} trains on pictures of {HEIGHT}x{WIDTH}, at which its labels "
                "were given; leave it at 0"
            )
        super().__init__([dataset.records[i] for i in indices], min(HEIGHT, WIDTH), cache_gb=cache_gb)
        self.cells = np.array(dataset.transferred.cells, np.int32)
        mos_NC = dataset.transferred.mos_NC[indices]
        self.labels = np.asarray(mos_NC if native else dataset.scale.to_score01(mos_NC), np.float32)

    def _read(self, record: Record) -> np.ndarray:
        return whole(read_image(record.path))

    def draw(self, example: dict, rng: np.random.Generator, crop: int) -> dict:
        """An example with the type, level and label of its distortion, and where a crop of `crop` pixels is to be cut.

        "image" stays whole; "corner" is the crop's upper left corner (y, x); "mirror" says whether it is then mirrored
        top-down and left-right, each with probability 1/2.
        """
        cell = rng.integers(len(self.cells))
        type_, level = self.cells[cell]
        corner = rng.integers((HEIGHT - crop + 1, WIDTH - crop + 1), dtype=np.int32)
        drawn = {"label": example["label"][cell], "type": type_, "level": level, "corner": corner}
        return {**example, **drawn, "mirror": rng.random(2) < 0.5}


def batch_columns() -> dict:
    """{name: (shape of one row, dtype)} of a batch of Sources.draw: whole images, and what it draws beside them."""
    drawn = {
        "type": ((), jnp.int32),
        "level": ((), jnp.int32),
        "corner": ((2,), jnp.int32),
        "mirror": ((2,), jnp.bool_),
    }
    return {"image": ((HEIGHT, WIDTH, 3), jnp.uint8), **drawn}


def make_crops(cells, crop: int, mesh):
    """crops_of(batch, key) -> {"image": uint8 (B, crop, crop, 3), "label", "index"}, for batches of Sources.draw.

    `cells` (C, 2) are the types and levels that may come. The key is that of the step, which is folded once more.
    """
    types = {int(type_) for type_, _ in cells}
    bank = tuple(row for row in DISTORTIONS if row.id in types)  # what cannot come is not compiled

    def cut(image_HWC, corner, mirror):
        image_HWC = jax.lax.dynamic_slice(image_HWC, (corner[0], corner[1], 0), (crop, crop, 3))
        image_HWC = jnp.where(mirror[0], image_HWC[::-1], image_HWC)
        return jnp.where(mirror[1], image_HWC[:, ::-1], image_HWC)

    def crops_of(batch, key):
        keys_B = jax.random.split(jax.random.fold_in(key, _DISTORTS), batch["type"].size)
        images = batch["image"].astype(jnp.float32) / 255
        images = distort_batch(images, batch["type"], batch["level"], keys_B, bank=bank, mesh=mesh)
        images = jax.vmap(cut)(images, batch["corner"], batch["mirror"])
        return {"image": to_uint8(images), "label": batch["label"], "index": batch["index"]}

    return crops_of
