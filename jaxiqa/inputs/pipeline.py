"""Pictures to device batches, with Grain. Batch k is a pure function of (seed, k), on any number of hosts."""

from collections.abc import Callable

import grain
import jax
import numpy as np

from jaxiqa.inputs.pictures import Pictures
from jaxiqa.inputs.transforms import random_crop, random_flip


class _Examples:
    """Pictures with their labels; a Grain source."""

    def __init__(self, pictures: Pictures, labels: np.ndarray):
        self._pictures, self._labels = pictures, np.asarray(labels, np.float32)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> dict:
        return {"image": self._pictures[index], "label": self._labels[index], "index": np.int32(index)}


def train_batches(
    pictures: Pictures,
    labels,
    *,
    crop: int,
    batch_size: int,
    seed: int,
    start: int = 0,
    threads: int = 2,
    draw: Callable[[dict, np.random.Generator, int], dict] | None = None,
) -> grain.DatasetIterator:
    """This host's share of an endless stream of shuffled, augmented batches, from batch `start` on.

    Args:
      pictures, labels: the training part, N each.
      crop: side of the crops in pixels; one crop per picture and epoch.
      batch_size: global; a multiple of the number of hosts.
      seed: of order and augmentation.
      start: number of the first batch.
      threads: that decode.
      draw: another way to make an example for the device of one of the pictures: draw(example, rng, crop).

    Returns:
      iterator of {"image": uint8 (b, crop, crop, 3), "label": fp32 (b,), "index": int32 (b,)}, b per host. Close it.
    """

    def augment(example, rng):
        if draw is not None:
            return draw(example, rng, crop)
        image = random_crop(random_flip(example["image"], rng), crop, rng)
        return {**example, "image": np.ascontiguousarray(image)}

    hosts, host = jax.process_count(), jax.process_index()
    # Augment and batch before the hosts' slice and before to_iter_dataset: then neither the number of hosts nor of
    # threads changes a batch.
    dataset = (
        grain.MapDataset.source(_Examples(pictures, labels))
        .seed(seed)
        .shuffle()
        .repeat()
        .random_map(augment)
        .batch(batch_size // hosts, drop_remainder=True)[host::hosts][start:]
    )
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4)))


def rows_of(batch: dict, records) -> list[dict]:
    """What a host batch holds, a row for each picture: {"id", "path"} of its record, and values such as "label"."""
    values = {name: array.tolist() for name, array in batch.items() if array.ndim == 1 and name != "index"}
    seen = [records[int(i) % len(records)] for i in batch["index"]]
    return [
        {"id": r.id, "path": str(r.path), **{name: column[n] for name, column in values.items()}}
        for n, r in enumerate(seen)
    ]
