"""Records to uint8 pixels: a source that decodes, resizes and caches images."""

import threading
from collections.abc import Sequence

import numpy as np

from jaxiqa.datasets.records import Record
from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import read_image
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
