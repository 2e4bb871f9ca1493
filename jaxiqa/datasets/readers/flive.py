"""FLIVE (PaQ-2-PiQ, LIVE-FB): 39,810 photographs from the web with their authentic distortions; official split."""

import collections
import os

from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.formats import tables
from jaxiqa.datasets.records import Dataset

CITATION = (
    "Z. Ying, H. Niu, P. Gupta, D. Mahajan, D. Ghadiyaram, A. Bovik: From Patches to Images (PaQ-2-PiQ): Mapping "
    "the Perceptual Space of Image Quality. CVPR 2020. https://github.com/baidut/PaQ-2-PiQ"
)
LICENSE = "of the collections its images are from (VOC, EMOTIC, AVA and others); nothing of it is in this package"
SCORE_RANGE = (0.0, 100.0)
HIGHER_IS_BETTER = True
HOW_TO_GET = (
    "collect the images with the notebook database_prep.ipynb of https://github.com/baidut/PaQ-2-PiQ into "
    "data_dir/database, and put labels_image.csv, labels640.csv and labels=640_padded.csv from its folder database/ "
    "into data_dir"
)
ALIASES = ("fblive", "livefb", "live-fb", "paq2piq")
MARKERS = ("labels_image.csv",)
KNOWN = Known(39_810, "0.00", "94.33", "72.13")

SOURCES = {"voc_emotic_ava": 38_808, "blur_dataset": 999, "EE371R": 3}
SIZES = {"train": 30_253, "val": 7_727, "test": 1_827}  # the images of EE371R are in no part
_TRAINED = "labels=640_padded.csv"


def load(data_dir: str | os.PathLike, official_split: bool = True, allow_partial: bool = False) -> Dataset:
    """Reads labels_image.csv and the images that it names, below database/ or data_dir. Patches are not read.

    The official split tests on labels640.csv (a side of more than 640 pixels) and divides labels=640_padded.csv into
    training and validation by its column is_valid. The three images of EE371R are rated, but in no part of the split.
    Images without a row are ignored, because the folders come from other collections.

    Args:
      data_dir: the folder.
      official_split: False uses random splits by image, as GlintIQA does (31,848/7,962), and reads only
        labels_image.csv.
      allow_partial: whether rows without an image are left out instead of refused.

    Raises:
      DataError: the folder cannot be used.
    """
    reading = checks.Reading("flive", data_dir, HOW_TO_GET, allow_partial)
    table = reading.find("labels_image.csv")
    home = "database" if os.path.isdir(reading.path("database")) else ""
    for source in SOURCES:
        reading.list_images(os.path.join(home, source), prefix=f"{source}/")
    for where, row in tables.read_csv(reading.path(table), ("name", "mos"), reading):
        reading.record(row["name"], reading.label(row["mos"], where, SCORE_RANGE), where)
    parts = _official(reading) if official_split else {}
    reading.complete(extra_allowed=reading.images)
    if not allow_partial:
        found = collections.Counter(name.split("/")[0] for name in reading.records)
        for source, count in SOURCES.items():
            reading.count(found[source], count, f"rows of {source}")
        for part, names in parts.items():
            reading.count(len(names), SIZES[part], f"rows of part {part}")
    split = {part: [i for i, name in enumerate(reading.records) if name in names] for part, names in parts.items()}
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER, official_split=split or None)


def _official(reading: checks.Reading) -> dict[str, set[str]]:
    """Names of the images by part."""
    rows = []
    for table, columns in {_TRAINED: ("name_image", "is_valid"), "labels640.csv": ("name_image",)}.items():
        reading.find(table, hint="; or set official_split=False")
        rows += tables.read_csv(reading.path(table), columns, reading)
    parts: dict[str, set[str]] = {part: set() for part in SIZES}
    for where, row in rows:
        name, is_valid = row["name_image"], row.get("is_valid", "")
        part = {"false": "train", "true": "val", "": "test"}.get(is_valid.lower())
        if part is None:
            reading.add("rows whose is_valid is neither True nor False", f"{where} {is_valid!r}")
        elif name not in reading.records:
            reading.add("images of the split that are not in labels_image.csv", f"{where} {name}")
        elif any(name in names for names in parts.values()):
            reading.add("images that are twice in the split", f"{where} {name}")
        else:
            parts[part].add(name)
    return parts
