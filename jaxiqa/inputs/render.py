"""Pristine pictures with a distortion to apply -> distorted files on disk, once."""

import dataclasses
import functools
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import jaxiqa
from jaxiqa.datasets import default_data_dir
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.distortions import distort_exact
from jaxiqa.errors import full_disk
from jaxiqa.inputs.decode import read_image
from jaxiqa.inputs.whole import seed_of, whole


def render(dataset: Dataset, data_dir: str | os.PathLike, indices: Iterable[int] | None = None) -> Dataset:
    """The dataset with records' `apply` done: distorted pictures are in a folder of `data_dir`, `apply` is None.

    Without a data_dir they go where the program keeps its own files. The whole picture is distorted (see whole.py),
    because its label belongs to the whole picture. Files that exist are kept; a file appears only when it is complete.
    A picture depends on its record alone (random distortions are seeded by the id). `indices` are those of the records
    that are needed, None for all.
    """
    home = os.path.expanduser(data_dir) or default_data_dir(dataset.name)
    folder = Path(home) / f"distorted-{jaxiqa.__version__}"  # a newer version may draw other pixels
    records = list(dataset.records)
    needed = [i for i in (range(len(records)) if indices is None else indices) if records[i].apply]
    todo = [r for r in (records[i] for i in needed) if not _target(r, folder).exists()]
    if todo:
        folder.mkdir(parents=True, exist_ok=True)
        pristine = functools.lru_cache(2 * os.cpu_count())(lambda path: whole(read_image(path)))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            jobs = pool.map(
                lambda r: write_png(distort_exact(pristine(r.path), *r.apply, seed_of(r)), _target(r, folder)), todo
            )
            for _ in tqdm(jobs, f"distorting {dataset.name}", len(todo), unit=" pictures", mininterval=2):
                pass
    for i in needed:
        records[i] = dataclasses.replace(records[i], path=str(_target(records[i], folder)), apply=None)
    return dataclasses.replace(dataset, records=records)


def _target(record: Record, folder: Path) -> Path:
    return folder / f"{record.id}.png"


def write_png(image_HWC: np.ndarray, target: str | os.PathLike) -> None:
    """Writes uint8 (H, W, 3) losslessly; the file appears only when it is complete."""
    scratch = Path(f"{os.fspath(target)}.{os.getpid()}.tmp")
    with full_disk(target):
        Image.fromarray(image_HWC).save(scratch, format="PNG", compress_level=1)
    os.replace(scratch, target)


def remove_scratch(folder: str | os.PathLike, pid: int) -> None:
    """Removes what the process `pid`, stopped in the middle of write_png, left unfinished in `folder`."""
    for scratch in Path(folder).glob(f"*.{pid}.tmp"):
        scratch.unlink()
