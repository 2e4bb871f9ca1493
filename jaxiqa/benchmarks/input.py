"""Speed of the input of training: images decoded and cut, compared with a decoder alone, and from the cache."""

import contextlib
import functools
import itertools
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import simplejpeg

from jaxiqa.benchmarks import measure
from jaxiqa.benchmarks.score import photographs
from jaxiqa.datasets.records import Record
from jaxiqa.errors import DataError
from jaxiqa.inputs.image_paths import find_images
from jaxiqa.inputs.image_source import Images
from jaxiqa.inputs.pipeline import train_batches
from jaxiqa.scoring.engine import in_order, readers_by_default

CROP, BATCH = 224, 32
_WAITING = 5  # batches that a stream holds ready (inputs/pipeline.py), and the one in work
CACHED = 5.0  # bar: rate from the cache over that of decoding
SIDES = (512, 1080)  # shorter sides of the photographs


def decoder(paths: list[str], threads: int) -> Iterator:
    """Decodes as many files as a batch has crops, with the library alone, again and again."""

    def decode(path):
        with open(path, "rb") as file:
            return simplejpeg.decode_jpeg(file.read(), "RGB").shape

    decoded = in_order(itertools.cycle(paths), decode, threads)
    while batch := list(itertools.islice(decoded, BATCH)):
        yield batch


def batches_of(images: Images, threads: int) -> Iterator:
    """The batches of a run: decoded, or from the cache of `images`."""
    labels = np.zeros(len(images))
    return train_batches(images, labels, crop=CROP, batch_size=BATCH, seed=0, threads=threads)


def seconds(batches: Iterator, count: int) -> float:
    """Seconds of the next `count` batches after those that waited while the others had their turn."""
    for _ in itertools.islice(batches, _WAITING):
        pass
    began = time.perf_counter()
    for _ in itertools.islice(batches, count):
        pass
    return time.perf_counter() - began


def run(tiny: bool = False, images: str | None = None, output: str | None = None, compare: str | None = None) -> int:
    """Prints the table; returns 1 if the cache is below its bar.

    Args:
      images: a folder of JPEG files to measure; None for photographs of two sizes.
      tiny, output, compare: as for forward.run.
    """
    ledger = measure.Ledger("input", output, compare)
    threads = readers_by_default()
    rounds, count = (1, 1) if tiny else (3, 12)
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        sets = {f"{side} pixels": photographs(folder, side) for side in ((240,) if tiny else SIDES)}
        if images:
            paths = [path for path in find_images([images]) if path.lower().endswith((".jpg", ".jpeg"))]
            if not paths:
                raise DataError(
                    f"{images} has no JPEG files, and only those are decoded alone; name another folder",
                    code="empty",
                    key="--images",
                )
            sets = {images: paths}
        for name, paths in sets.items():
            records = [Record(path, 0.5, str(i)) for i, path in enumerate(paths)]
            streams = {
                "decoder alone": decoder(paths, threads),
                "training, decoded": batches_of(Images(records, CROP), threads),
                "training, from the cache": batches_of(Images(records, CROP, cache_gb=8.0), threads),
            }
            with contextlib.ExitStack() as stack:
                for batches in streams.values():
                    stack.enter_context(contextlib.closing(batches))
                times = measure.race(
                    {case: functools.partial(seconds, items, count) for case, items in streams.items()}, rounds
                )
            roof = times["decoder alone"].least
            for case, one in times.items():
                rate = count * BATCH / one.least
                ledger.add(f"{name}, {case}", one, images_per_s=rate, of_decoder=roof / one.least)
            speed = times["training, decoded"].least / times["training, from the cache"].least
            ledger.add(f"{name}, cache over decoding", ratio=speed, bar=CACHED)
            missed |= speed < CACHED
    ledger.close()
    return int(missed and not tiny)
