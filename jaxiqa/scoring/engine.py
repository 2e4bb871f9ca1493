"""Runs images through one compiled function. Threads read them, batches have few shapes, results keep their order.

Scores (scoring/predict.py) and semantic features (saqt/features.py) are computed here. An image becomes one or more
tiles: crops of one size for a score, the whole image for a feature. A batch has B tiles of sides H W; each tile has F
outputs.
"""

import collections
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxiqa.errors import DataError
from jaxiqa.scoring.meter import Meter

END = object()  # an item that ends a batch, and is yielded in its place


def readers_by_default() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stream_outputs(
    images: Iterable,
    tiles_of: Callable[[Any], tuple[Sequence[np.ndarray], tuple[int, int], Sequence[int]]],
    forward: Callable[[np.ndarray, np.ndarray], jax.Array],
    read: Callable[..., Any] | None = None,
    threads: int | None = None,
    meter: Meter | None = None,
) -> Iterator[Any]:
    """Yields the outputs (tiles, F) of each image, or its DataError, in order, each as soon as it is known.

    Args:
      images: arguments of `read`, of any number: they are taken when they are needed. Without `read`, a sequence whose
        items are uint8 (H, W, 3) or a DataError; an error of the sequence itself ends the stream. The item END is
        yielded as it is, and begins a new batch: what follows it does not change the batches before it, nor the
        reverse.
      tiles_of: function of an image that returns three values: one or more tiles, uint8 (h, w, 3); the sides (H, W) of
        their batch, h <= H and w <= W; and the allowed numbers of tiles in a batch of these sides, ascending. A full
        batch has the largest number; a batch that ends early has the smallest number that holds its tiles. Tiles of
        other sides begin a new batch. It is called in the reading threads.
      forward: function of uint8 (B, H, W, 3) and int32 (B, 2) that returns (B, F). A tile lies in the upper left corner
        of its row of the batch, padded with zeros. The integers are h and w of the tile; they are 0 in a row without a
        tile.
      read: returns uint8 (H, W, 3), or raises DataError.
      threads: number of reading threads; default: one for each core. About twice as many images are in memory at a
        time, and an image may take half a gigabyte.
      meter: adds up how long the threads read and how long the devices compute.
    """
    waiting: collections.deque = collections.deque()  # for each image: its number of outputs, and the outputs so far
    in_flight: collections.deque[tuple[list, Future]] = collections.deque()
    meter, threads = meter or Meter(), threads or readers_by_default()
    if read is None:
        sequence: Any = images
        images = range(len(sequence))

    def tiles_or_error(item):
        if item is END:
            return END
        with meter.reading():
            if read is None:
                image = sequence[item]
            else:
                try:
                    image = read(item)
                except DataError as error:
                    return error
            return image if isinstance(image, DataError) else tiles_of(image)

    def collect():
        owners, outputs = in_flight.popleft()
        for owner, output in zip(owners, outputs.result(), strict=False):  # padding has no owner
            owner.append(output)

    def finished():
        while waiting and len(waiting[0][1]) == waiting[0][0]:
            _, outputs = waiting.popleft()
            alone = outputs[0] is END or isinstance(outputs[0], DataError)
            yield outputs[0] if alone else np.stack(outputs)

    with ThreadPoolExecutor(1, "jaxiqa-collect") as collector:
        for owners, *batch in _batches(in_order(images, tiles_or_error, threads), waiting):
            if owners:
                outputs = forward(*batch)  # returns at once, but compiles each shape at its first use
                in_flight.append((owners, collector.submit(_fetch, outputs, meter.now(), meter)))
                if len(in_flight) > 2:
                    collect()
            yield from finished()
        while in_flight:
            collect()
        yield from finished()


def _fetch(outputs: jax.Array, began: float, meter: Meter) -> np.ndarray:
    """The outputs of a batch on the host, when the devices have computed them."""
    found = jax.device_get(outputs)
    meter.computed(began)
    return found


def in_order(items: Iterable, function: Callable, threads: int) -> Iterator:
    """Yields function(item) in the order of the items, computed by threads. A bounded number waits to be taken."""
    waiting: collections.deque[Future] = collections.deque()
    with ThreadPoolExecutor(threads, "jaxiqa-read") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _batches(images, waiting):
    """Yields (owners, uint8 (B, H, W, 3), int32 (B, 2)), or ([],) for an image without tiles.

    Appends each image to `waiting`. owners: for each tile, the list that its output is appended to.
    """
    owners, batch = [], None

    def cut():
        size = next(n for n in allowed if n >= len(owners))
        return owners, batch[:size], sizes[:size]

    try:
        for image in images:
            if image is END and owners:
                yield cut()
                owners = []
            if image is END or isinstance(image, DataError):
                waiting.append((1, [image]))
                yield ([],)
                continue
            tiles, sides, allowed_now = image
            waiting.append((len(tiles), []))
            if owners and batch.shape[1:3] != sides:
                yield cut()
                owners = []
            for tile in tiles:
                if not owners:
                    allowed = allowed_now
                    batch, sizes = np.zeros((allowed[-1], *sides, 3), np.uint8), np.zeros((allowed[-1], 2), np.int32)
                height, width = sizes[len(owners)] = tile.shape[:2]
                batch[len(owners), :height, :width] = tile
                owners.append(waiting[-1][1])
                if len(owners) == len(batch):
                    yield cut()
                    owners = []
    finally:
        images.close()
    if owners:
        yield cut()
