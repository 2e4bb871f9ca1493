"""Records and other forms of images to uint8 pixels: a source that decodes, resizes and caches images."""

import os
import threading
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxiqa.datasets.records import Record
from jaxiqa.distortions.eight_bits import to_uint8_on_host
from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import from_pil, read_image, rounds_to_8_bits
from jaxiqa.inputs.transforms import fit


class Images:
    """The decoded images of `records`: `images[i]` is uint8 (H, W, 3), both sides at least `min_side`.

    Args:
      records: records without a distortion to apply (`apply` is None; see inputs/render.py).
      min_side: an image with a shorter side below this (a model's crop size) is enlarged to it, bicubically.
      resize: shorter side, or (height, width), to which images are resized, bicubically with antialiasing; 0 keeps
        their size.
      cache_gb: up to this many GiB of decoded images are kept in memory, so that later epochs need not decode them.
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
            raise DataError(f"{record.path}: {error}", code=error.code, key=record.path) from error


def pixels(image) -> np.ndarray:
    """Converts a path, an open file, the bytes of a file, a Pillow image or an array to uint8 (H, W, 3).

    An array is (H, W, 3) RGB or (H, W) grey, of uint8, or of floats in 0..1, which are rounded to 8 bits. A float
    outside is accepted if it rounds to 0 or 255: fp32 leaves such noise.

    Raises:
      DataError: the image cannot be read, or the array has another shape, type or range.
    """
    if isinstance(image, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(image, "read"):
        return read_image(image)
    if isinstance(image, Image.Image):
        return from_pil(image)
    image = np.asarray(image)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        hint = "; move the channels last" if image.ndim == 3 and image.shape[0] == 3 else ""
        raise DataError(
            f"an array of shape {image.shape} is not an image; it must be (H, W, 3) or (H, W){hint}", code="format"
        )
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating) and image.dtype != jnp.bfloat16:
        raise DataError(
            f"the value of white in an array of {image.dtype} is unknown; pass uint8, or floats in 0..1", code="format"
        )
    image = image.astype(np.float32)
    if not rounds_to_8_bits(image):
        raise DataError(
            f"the values of a float image must be in 0..1, not {image.min():.6g}..{image.max():.6g}; divide them by "
            "the value of white, or clip them",
            code="value",
        )
    return to_uint8_on_host(image)
