"""KADIS-700k: 140,000 pristine pictures of 512x384 without opinion scores, and the distortions meant for them."""

import math
import os

from jaxiqa.datasets import checks, tables
from jaxiqa.datasets.kadid10k import DISTORTIONS, LEVELS
from jaxiqa.datasets.records import Dataset, Record

CITATION = (
    "H. Lin, V. Hosu, D. Saupe: DeepFL-IQA: Weak Supervision for Deep IQA Feature Learning. arXiv:2001.08113, 2020. "
    "https://database.mmsp-kn.de/kadid-10k-database.html"
)
LICENSE = "terms of its owners (University of Konstanz), see the download page; nothing of it is in this package"
SCORE_RANGE = (0.0, 1.0)  # of nothing: nobody rated these pictures
HIGHER_IS_BETTER = True
HOW_TO_GET = (
    "download kadis700k.zip (44.6 GB) from https://database.mmsp-kn.de/kadid-10k-database.html and unpack it to "
    "data_dir"
)

COUNT = 140_000
_TYPES = {str(number): (number, name) for number, name in enumerate(DISTORTIONS, 1)}


def load(data_dir: str | os.PathLike, distorted: bool = False, allow_partial: bool = False) -> Dataset:
    """Reads kadis700k_ref_imgs.csv and ref_imgs/: a pool of pictures for label transfer and contrastive pretraining.

    There are no opinion scores: mos is NaN, and nothing can be trained on it, selected by it or tested with it.

    Args:
      data_dir: the folder with kadis700k_ref_imgs.csv.
      distorted: False lists the pristine pictures, one record each. True lists what the owners' script writes, five
        records for each: the pristine picture with the first type that the CSV gives it, yet to be applied at levels
        1..5, under the names of the script (`stem_TT_LL.bmp`). Distorted files of that script are not read.
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.

    Raises:
      DataError: the wrong folder, missing or extra pictures or rows, types that KADID-10k has not; all of them listed.
    """
    folder = checks.open_folder("kadis700k", data_dir, HOW_TO_GET)
    table = checks.find_one("kadis700k", folder, ("kadis700k_ref_imgs.csv",), HOW_TO_GET)
    images = checks.find_one("kadis700k", folder, ("ref_imgs",), HOW_TO_GET)
    faults = checks.Faults("kadis700k", folder, HOW_TO_GET)
    pictures = checks.list_pictures(folder, [images], faults)

    types: dict[str, str] = {}
    for where, row in tables.read_csv(os.path.join(folder, table), ("ref_im", "dist_type_1", "dist_type_2"), faults):
        name = row["ref_im"]
        if name in types:
            faults.add("rows for a picture that has one already", f"{where} {name}")
        for column in ("dist_type_1", "dist_type_2"):
            if row[column] not in _TYPES:
                faults.add(f"types that are not 1..{len(DISTORTIONS)}", f"{where} {column} {row[column]!r}")
        types[name] = row["dist_type_1"]
    if allow_partial:
        types = {name: type_ for name, type_ in types.items() if name.lower() in pictures}
    else:
        faults.compare(types, pictures)
        faults.count(len(types), COUNT, "rows")
    faults.refuse()

    records = []
    for name, type_ in types.items():
        path = os.path.join(folder, pictures[name.lower()])
        if not distorted:
            records.append(Record(path, math.nan, name))
            continue
        stem, (number, distortion) = os.path.splitext(name)[0], _TYPES[type_]
        for level in range(1, LEVELS + 1):
            id_ = f"{stem}_{number:02d}_{level:02d}.bmp"
            records.append(Record(path, math.nan, id_, stem, distortion, level, apply=(number, level)))
    return Dataset("kadis700k", records, SCORE_RANGE, HIGHER_IS_BETTER)
