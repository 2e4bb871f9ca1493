"""Records, and whatever else holds an image, to uint8 pixels: a source that decodes, resizes and remembers."""

import os
import threading
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxiqa.datasets.records import Record
from jaxiqa.distortions.eight_bits import to_uint8_on_host
from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import from_pil, read_image
from jaxiqa.inputs.transforms import fit


class Pictures:
    """The decoded images of `records`: `pictures[i]` is uint8 (H, W, 3), both sides at least `min_side`.

    Args:
      records: files as they are (`apply` is None; see inputs/render.py).
      min_side: images with a shorter side below it (a model's crop) are enlarged to it, bicubically.
      resize: each image's shorter side or (height, width), bicubic with antialiasing; 0 leaves the size alone.
      cache_gb: decoded images are kept in memory up to this many GiB, so that later epochs decode nothing.
    """

    def __init__(
        self, records: Sequence[Record], min_side: int, resize: int | Sequence[int] = 0, cache_gb: float = 0.0
    ):
        self.records = records
        self._min_side, self._resize = min_side, resize
        self._room = cache_gb * 2**30
        self._kept: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> np.ndarray:
        index = int(index) % len(self.records)
        image = self._kept.get(index)
        if image is None:
            image = self._read(self.records[index])
            with self._lock:
                if index not in self._kept and image.nbytes <= self._room:
                    self._room -= image.nbytes
                    self._kept[index] = image
        return image

    def _read(self, record: Record) -> np.ndarray:
        image = read_image(record.path)
        try:
            return fit(image, self._min_side, self._resize)
        except DataError as error:
            raise DataError(f"{record.path}: {error}") from error


def pixels(picture) -> np.ndarray:
    """uint8 (H, W, 3) of a path, the bytes of a file, a Pillow image or an array.

    Arrays are (H, W, 3) RGB, or (H, W) grey: uint8, or floating point in 0..1, which is rounded to 8 bits.

    Raises:
      DataError: it cannot be read, or an array of another shape, type or range.
    """
    if isinstance(picture, str | os.PathLike | bytes | bytearray | memoryview):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return from_pil(picture)
    image = np.asarray(picture)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        hint = "; move the channels last" if image.ndim == 3 and image.shape[0] == 3 else ""
        raise DataError(f"an array of shape {image.shape} is not an image; it must be (H, W, 3) or (H, W){hint}")
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating) and image.dtype != jnp.bfloat16:
        raise DataError(f"an array of {image.dtype} has no defined white; pass uint8, or floats in 0..1")
    image = image.astype(np.float32)
    if not (image.min() >= 0 and image.max() <= 1):  # nor nan
        raise DataError(
            f"a float picture must be in 0..1, not {image.min():g}..{image.max():g}; divide it by its white"
        )
    return to_uint8_on_host(image)
