"""Records to pictures: a random-access source that decodes, resizes and remembers."""

import threading
from collections.abc import Sequence

import numpy as np

from jaxiqa.datasets.records import Record
from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import read_image
from jaxiqa.inputs.transforms import fit


class Pictures:
    """The decoded pictures of `records`: `pictures[i]` is uint8 (H, W, 3), both sides at least `min_side`.

    Args:
      records: files as they are (`apply` is None; see inputs/render.py).
      min_side: pictures with a shorter side below it (a model's crop) are enlarged to it, bicubically.
      resize: every picture's shorter side or (height, width), bicubic with antialiasing; 0 leaves the size alone.
      cache_gb: decoded pictures are kept in memory up to this many GiB, so that later epochs decode nothing.
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
