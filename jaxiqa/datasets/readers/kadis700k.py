"""KADIS-700k: 140,000 pristine images of 512x384 without opinion scores, and the distortions meant for them."""

import dataclasses
import math
import os

from jaxiqa.datasets import checks
from jaxiqa.datasets.formats import tables
from jaxiqa.datasets.readers.kadid10k import DISTORTIONS, LEVELS
from jaxiqa.datasets.records import Dataset, Record

CITATION = (
    "H. Lin, V. Hosu, D. Saupe: DeepFL-IQA: Weak Supervision for Deep IQA Feature Learning. arXiv:2001.08113, 2020. "
    "https://database.mmsp-kn.de/kadid-10k-database.html"
)
LICENSE = "terms of its owners (University of Konstanz), see the download page; nothing of it is in this package"
SCORE_RANGE = (0.0, 1.0)  # unused: these images have no ratings
HIGHER_IS_BETTER = True
HOW_TO_GET = (
    "download kadis700k.zip (44.6 GB) from https://database.mmsp-kn.de/kadid-10k-database.html and unpack it to "
    "data_dir"
)
ALIASES = ("kadis", "kadis-700k")
MARKERS = ("kadis700k_ref_imgs.csv",)

COUNT = 140_000
_TYPES = {str(number): (number, name) for number, name in enumerate(DISTORTIONS, 1)}


def load(data_dir: str | os.PathLike, distorted: bool = False, allow_partial: bool = False) -> Dataset:
    """Reads kadis700k_ref_imgs.csv and ref_imgs/: a pool of images for label transfer and contrastive pretraining.

    There are no opinion scores: mos is NaN, and the dataset cannot be used for supervised training or for tests.

    Args:
      data_dir: the folder.
      distorted: False lists the pristine images, one record each. True lists five records for each, which correspond to
        the files that the owners' script writes: the first distortion type of the image in the CSV, still to be applied
        at levels 1..5, under the script's names (`stem_TT_LL.bmp`). Distorted files of that script are not read.
      allow_partial: whether rows without an image are left out instead of refused.

    Raises:
      DataError: the folder cannot be used.
    """
    reading = checks.Reading("kadis700k", data_dir, HOW_TO_GET, allow_partial)
    table = reading.find("kadis700k_ref_imgs.csv")
    reading.list_images(reading.find("ref_imgs"))
    types: dict[str, str] = {}
    for where, row in tables.read_csv(reading.path(table), ("ref_im", "dist_type_1", "dist_type_2"), reading):
        reading.record(row["ref_im"], math.nan, where)
        for column in ("dist_type_1", "dist_type_2"):
            if row[column] not in _TYPES:
                reading.add(f"types that are not 1..{len(DISTORTIONS)}", f"{where} {column} {row[column]!r}")
        types[row["ref_im"]] = row["dist_type_1"]
    reading.complete(COUNT)
    pristine = reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER)
    if not distorted:
        return pristine
    records = []
    for r in pristine.records:
        stem, (number, distortion) = os.path.splitext(r.id)[0], _TYPES[types[r.id]]
        for level in range(1, LEVELS + 1):
            id_ = f"{stem}_{number:02d}_{level:02d}.bmp"
            records.append(Record(r.path, math.nan, id_, stem, distortion, level, apply=(number, level)))
    return dataclasses.replace(pristine, records=records)
