"""How fast images are read and how fast the devices compute, while both happen at the same time."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple


class Rates(NamedTuple):
    """Images per second; 0 as long as nothing was measured."""

    decode: float  # that all readers can read, decode and cut
    model: float  # that the devices can score

    def __str__(self) -> str:
        limit = "decoding" if self.decode < self.model else "the model"
        return f"decode {self.decode:.1f} images/s, model {self.model:.1f} images/s: {limit} limits the speed"


class Meter:
    """Adds up the seconds of reading threads and of the devices. May be used from many threads.

    Attributes:
      images: number of images that were read.
      batches: number of batches that were computed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.images = self.batches = 0
        self._reading = self._computing = self._last = 0.0

    def now(self) -> float:
        """The time, for `computed`."""
        return time.perf_counter()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Measures the reading of one image."""
        began = self.now()
        try:
            yield
        finally:
            with self._lock:
                self.images += 1
                self._reading += self.now() - began

    def computed(self, began: float) -> None:
        """Adds a batch that was handed to the devices at `began` and is finished now.

        Batches are finished in order, and a batch that waited for the one before it did not compute meanwhile.
        """
        with self._lock:
            end = self.now()
            self.batches += 1
            self._computing += end - max(began, self._last)
            self._last = end

    def rates(self, readers: int) -> Rates:
        """The rates so far. On a CPU that also runs the model, both are those that each has beside the other."""
        with self._lock:
            decode = self.images * readers / self._reading if self._reading else 0.0
            return Rates(decode, self.images / self._computing if self._computing else 0.0)
