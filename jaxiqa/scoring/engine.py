"""Runs images through one compiled function. Threads read them, batches have few shapes, results keep their order.

Scores (scoring/predict.py) and semantic features (saqt/features.py) are computed here. An image becomes one or more
tiles: crops of one size for a score, the whole image for a feature. A batch has B tiles of sides H W; each tile has F
outputs.
"""

import collections
from collections.abc import Callable, Iterator, Sequence

import grain
import jax
import numpy as np

from jaxiqa.errors import DataError


def stream_outputs(
    images: Sequence,
    tiles_of: Callable[[np.ndarray], tuple[Sequence[np.ndarray], tuple[int, int], Sequence[int]]],
    forward: Callable[[np.ndarray, np.ndarray], jax.Array],
    read: Callable[..., np.ndarray] | None = None,
    threads: int = 2,
) -> Iterator[np.ndarray | DataError]:
    """Yields the outputs (tiles, F) of each image, or its DataError, in order, each as soon as it is known.

    Args:
      images: `images[i]` is the argument of `read`; without `read` it is uint8 (H, W, 3) or a DataError.
      tiles_of: function of an image that returns three values: one or more tiles, uint8 (h, w, 3); the sides (H, W) of
        their batch, h <= H and w <= W; and the allowed numbers of tiles in a batch of these sides, ascending. A full
        batch has the largest number; a batch that ends early has the smallest number that holds its tiles. Tiles of
        other sides begin a new batch.
      forward: function of uint8 (B, H, W, 3) and int32 (B, 2) that returns (B, F). A tile lies in the upper left corner
        of its row of the batch, padded with zeros. The integers are h and w of the tile; they are 0 in a row without a
        tile.
      read: returns uint8 (H, W, 3), or raises DataError.
      threads: number of reading threads. A few more images than threads are in memory at a time, and an image may take
        half a gigabyte.
    """
    waiting: collections.deque = collections.deque()  # for each image: its number of outputs, and the outputs so far
    in_flight: collections.deque = collections.deque()

    def collect():
        owners, outputs = in_flight.popleft()
        for owner, output in zip(owners, jax.device_get(outputs), strict=False):  # padding has no owner
            owner.append(output)

    def finished():
        while waiting and len(waiting[0][1]) == waiting[0][0]:
            _, outputs = waiting.popleft()
            yield outputs[0] if isinstance(outputs[0], DataError) else np.stack(outputs)

    for owners, *batch in _batches(_read(images, read, threads), tiles_of, waiting):
        in_flight.append((owners, forward(*batch)))
        if len(in_flight) > 2:
            collect()
        yield from finished()
    while in_flight:
        collect()
    yield from finished()


def _read(images: Sequence, read: Callable | None, threads: int) -> grain.DatasetIterator:
    def image_or_error(index):
        if read is None:
            return images[index]
        try:
            return read(images[index])
        except DataError as error:
            return error

    dataset = grain.MapDataset.range(len(images))  # not of the images: Grain leaves out those that are None
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(4, threads))
    return iter(dataset.map(image_or_error).to_iter_dataset(options))


def _batches(images, tiles_of, waiting):
    """Yields (owners, uint8 (B, H, W, 3), int32 (B, 2)) and appends each image to `waiting`.

    owners: for each tile, the list that its output is appended to.
    """
    owners, batch = [], None

    def cut():
        size = next(n for n in allowed if n >= len(owners))
        return owners, batch[:size], sizes[:size]

    try:
        for image in images:
            if isinstance(image, DataError):
                waiting.append((1, [image]))
                continue
            tiles, sides, allowed_now = tiles_of(image)
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
