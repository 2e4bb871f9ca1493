"""Whole pictures at the size at which KADID-10k's were rated: transferred labels belong to all of such a picture."""

import itertools
import os
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxiqa.datasets.records import Record
from jaxiqa.distortions import distort_exact
from jaxiqa.errors import full_disk
from jaxiqa.inputs.decode import read_image

HEIGHT, WIDTH = 384, 512


def whole(image_HWC: np.ndarray) -> np.ndarray:
    """uint8 (384, 512, 3): the largest centred part of 3:4, resized bicubically with antialiasing."""
    height, width = image_HWC.shape[:2]
    if (height, width) == (HEIGHT, WIDTH):
        return image_HWC
    scale = min(height / HEIGHT, width / WIDTH)
    down, left = (height - HEIGHT * scale) / 2, (width - WIDTH * scale) / 2
    box = (left, down, left + WIDTH * scale, down + HEIGHT * scale)
    return np.array(Image.fromarray(image_HWC).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=box))


def render_whole(records: Iterable[Record], target: Callable[[Record], str], total: int) -> int:
    """Applies each record's `apply` to the whole of its picture and writes BMP files; returns how many were written.

    Files that exist are kept, and a file appears only when it is complete, so the same call goes on where it stopped.
    A picture depends on its record alone. Pictures are decoded one at a time.

    Args:
      records: with `apply`; those of one picture in a row.
      target: path of a record's file; its folder is made.
      total: of the records, for the progress bar.
    """
    written = 0
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=total, desc="rendering", unit=" pictures", mininterval=2, disable=None) as bar,
    ):
        for path, members in itertools.groupby(records, key=lambda r: r.path):
            members = list(members)
            todo = [r for r in members if not os.path.exists(target(r))]
            bar.update(len(members) - len(todo))
            if not todo:
                continue
            image = whole(read_image(path))
            for folder in {os.path.dirname(target(r)) for r in todo}:
                os.makedirs(folder, exist_ok=True)
            for _ in pool.map(
                lambda r, image=image: _write_bmp(distort_exact(image, *r.apply, seed_of(r)), target(r)), todo
            ):
                bar.update()
            written += len(todo)
    return written


def seed_of(record: Record) -> int:
    """The seed of a record's random distortion."""
    return zlib.crc32(record.id.encode("utf-8", "surrogateescape"))


def _write_bmp(image_HWC: np.ndarray, target: str) -> None:
    scratch = f"{target}.{os.getpid()}.tmp"
    with full_disk(target):
        Image.fromarray(image_HWC).save(scratch, format="BMP")
    os.replace(scratch, target)
