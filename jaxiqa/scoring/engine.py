"""Images through one compiled function: read by threads, put into batches of few shapes, results in the images' order.

Scores (predict.py) and semantic features (retrieval/features.py) are computed here. An image becomes one or more tiles:
crops of one size for a score, the whole image for a feature. B tiles in a batch of sides H W, F outputs of each tile.
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
    """The outputs of each image, (tiles, F), or the DataError in its place: in order, each as soon as it is known.

    Args:
      images: `images[i]` is what `read` takes; without `read` it is uint8 (H, W, 3), or a DataError in its place.
      tiles_of: an image to one or more tiles, uint8 (h, w, 3); the sides (H, W) of their batch, h <= H and w <= W; and
        how many tiles a batch of these sides may have, ascending: a full one the largest number, one that ends before
        it is full the smallest that holds its tiles. Tiles of other sides begin another batch.
      forward: uint8 (B, H, W, 3) and int32 (B, 2) to (B, F). Tiles are in the upper left corner of their place, beyond
        them are zeros; the integers are h and w, zeros for a place without a tile.
      read: gives uint8 (H, W, 3), or raises DataError.
      threads: that read. A few images more than that are in memory, and an image may take half a gigabyte.
    """
    waiting: collections.deque = collections.deque()  # of each image how many outputs it gets, and those so far
    in_flight: collections.deque = collections.deque()

    def collect():
        owners, outputs = in_flight.popleft()
        for owner, output in zip(owners, jax.device_get(outputs), strict=False):  # the padding has no owner
            owner.append(output)

    def known():
        while waiting and len(waiting[0][1]) == waiting[0][0]:
            _, outputs = waiting.popleft()
            yield outputs[0] if isinstance(outputs[0], DataError) else np.stack(outputs)

    for owners, *batch in _batches(_read(images, read, threads), tiles_of, waiting):
        in_flight.append((owners, forward(*batch)))
        if len(in_flight) > 2:
            collect()
        yield from known()
    while in_flight:
        collect()
    yield from known()


def _read(images: Sequence, read: Callable | None, threads: int) -> grain.DatasetIterator:
    def image_or_error(image):
        try:
            return read(image)
        except DataError as error:
            return error

    dataset = grain.MapDataset.source(images)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(4, threads))
    return iter((dataset.map(image_or_error) if read else dataset).to_iter_dataset(options))


def _batches(images, tiles_of, waiting):
    """(the list that the output of each tile goes to, uint8 (B, H, W, 3), int32 (B, 2)); `waiting` gets each image."""
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
