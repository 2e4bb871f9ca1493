"""Images to device batches, with Grain. Batch k is a pure function of (seed, k), on any number of hosts."""

from collections.abc import Callable, Mapping, Sequence

import grain
import jax
import numpy as np

from jaxiqa.inputs.image_source import Images
from jaxiqa.inputs.transforms import DEFAULT_AUGMENT, Augment, augmented


class _Examples:
    """Images with their labels and other columns; a Grain source."""

    def __init__(self, images: Images, columns: Mapping[str, np.ndarray]):
        self._images = images
        self._columns = {name: np.asarray(values, np.float32) for name, values in columns.items()}

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict:
        row = {name: values[index] for name, values in self._columns.items()}
        return {"image": self._images[index], **row, "index": np.int32(index)}


def train_batches(
    images: Images,
    labels,
    *,
    crop: int,
    batch_size: int,
    seed: int,
    start: int = 0,
    threads: int = 2,
    augment: Augment = DEFAULT_AUGMENT,
    draw: Callable[[dict, np.random.Generator, int, Augment, int], dict] | None = None,
    more: Mapping[str, np.ndarray] | None = None,
    scales: Sequence[int] = (1,),
    crops_per_image: int = 1,
) -> grain.DatasetIterator:
    """Returns this host's share of an endless stream of shuffled, augmented batches, from batch `start` on.

    Args:
      images, labels: N images of the training part and their labels.
      crop: side of the crops in pixels; each image gives `crops_per_image` crops in an epoch.
      batch_size: number of images in a batch of all hosts; a multiple of the number of hosts.
      seed: of order and augmentation.
      start: number of the first batch.
      threads: number of decoding threads.
      augment: how a crop is drawn.
      draw: draw(example, rng, crop, augment, crops_per_image) -> example, in place of the crops and their
        augmentation.
      more: {name: (N, ...)}, more columns.
      scales: of the crops; with S > 1 of them an image of the batch is (S, crop, crop, 3). Without effect on `draw`.
      crops_per_image: with N > 1, an image of the batch is (N, crop, crop, 3) or (N, S, crop, crop, 3); see
        transforms.a_row_for_each_crop.

    Returns:
      iterator of {"image": uint8 (b, crop, crop, 3), "label": fp32 (b,), "index": int32 (b,)} and the fp32 columns of
      `more`, with b examples per host. The caller closes it.
    """

    def drawn(example, rng):
        if draw is not None:
            return draw(example, rng, crop, augment, crops_per_image)
        crops = [augmented(example["image"], crop, rng, augment, scales) for _ in range(crops_per_image)]
        return {**example, "image": np.stack(crops) if crops_per_image > 1 else crops[0]}

    hosts, host = jax.process_count(), jax.process_index()
    # Augment and batch come before the slice of the host and before to_iter_dataset, so that a batch does not depend on
    # the number of hosts or threads.
    dataset = (
        grain.MapDataset.source(_Examples(images, {"label": labels, **(more or {})}))
        .seed(seed)
        .shuffle()
        .repeat()
        .random_map(drawn)
        .batch(batch_size // hosts, drop_remainder=True)[host::hosts][start:]
    )
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4)))


def rows_of(batch: dict, records) -> list[dict]:
    """A row for each image of a host batch: {"id", "path"} of its record, and values such as "label"."""
    values = {name: array.tolist() for name, array in batch.items() if array.ndim == 1 and name != "index"}
    seen = [records[int(i) % len(records)] for i in batch["index"]]
    return [
        {"id": r.id, "path": str(r.path), **{name: column[n] for name, column in values.items()}}
        for n, r in enumerate(seen)
    ]
