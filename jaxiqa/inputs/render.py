"""Renders records with a distortion to apply to files on disk, once.

The whole image is distorted (transforms.whole), because its label belongs to the whole image. The result depends only
on the record: its id is the seed of random distortions. Existing files are kept, and a file appears only when it is
complete, so the same call resumes after a stop.
"""

import dataclasses
import functools
import itertools
import os
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxiqa.datasets import default_data_dir
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.distortions import distort_exact
from jaxiqa.files import writing
from jaxiqa.inputs.decode import read_image
from jaxiqa.inputs.transforms import whole
from jaxiqa.version import __version__


def render(dataset: Dataset, data_dir: str | os.PathLike, indices: Iterable[int] | None = None) -> Dataset:
    """Renders records that have a distortion to apply.

    Args:
      dataset: the dataset.
      data_dir: the distorted images are written to a folder in it; if it is empty, to jaxiqa's own data folder.
      indices: indices of the records to render; None for all.

    Returns:
      the dataset; its rendered records have the path of the distorted image, and `apply` is None.
    """
    home = os.path.expanduser(data_dir) or default_data_dir(dataset.name)
    folder = Path(home) / f"distorted-{__version__}"  # another version may render other pixels
    records = list(dataset.records)
    needed = [i for i in (range(len(records)) if indices is None else indices) if records[i].apply]
    todo = [r for r in (records[i] for i in needed) if not _target(r, folder).exists()]
    # Neighbours have different types, so that threads compile different programs instead of waiting for the same one.
    todo.sort(key=lambda r: (r.path, r.apply[::-1]))
    if todo:
        folder.mkdir(parents=True, exist_ok=True)
        pristine = functools.lru_cache(2 * os.cpu_count())(lambda path: whole(read_image(path)))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            jobs = pool.map(
                lambda r: _write(distort_exact(pristine(r.path), *r.apply, seed_of(r)), _target(r, folder), "BMP"), todo
            )
            for _ in tqdm(jobs, f"distorting {dataset.name}", len(todo), unit=" images", mininterval=2):
                pass
    for i in needed:
        records[i] = dataclasses.replace(records[i], path=str(_target(records[i], folder)), apply=None)
    return dataclasses.replace(dataset, records=records)


def _target(record: Record, folder: Path) -> Path:
    return folder / f"{record.id}.bmp"  # PNG takes half the space, but as much time as the distortion


def render_whole(records: Iterable[Record], target: Callable[[Record], str], total: int) -> int:
    """Applies each record's `apply` to its whole image and writes BMP files; existing files are kept.

    Images are decoded one at a time.

    Args:
      records: records to render; those of one image are consecutive.
      target: returns the path of a record's file, whose folder is created.
      total: number of records.

    Returns:
      the number of written files.
    """
    written = 0
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=total, desc="rendering", unit=" images", mininterval=2, disable=None) as bar,
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
                lambda r, image=image: _write(distort_exact(image, *r.apply, seed_of(r)), target(r), "BMP"), todo
            ):
                bar.update()
            written += len(todo)
    return written


def seed_of(record: Record) -> int:
    """The seed of a record's random distortion."""
    return zlib.crc32(record.id.encode("utf-8", "surrogateescape"))


def write_png(image_HWC: np.ndarray, target: str | os.PathLike) -> None:
    """Writes uint8 (H, W, 3) as PNG; the file appears only when it is complete."""
    _write(image_HWC, target, "PNG")


def _write(image_HWC: np.ndarray, target: str | os.PathLike, format: str) -> None:
    with writing(target) as file:
        Image.fromarray(image_HWC).save(file, format=format, compress_level=1)


def remove_scratch(folder: str | os.PathLike, pid: int) -> None:
    """Removes the unfinished files that the process `pid` left in `folder` if it was stopped in write_png."""
    for scratch in Path(folder).glob(f"*.{pid}.tmp"):
        scratch.unlink()
