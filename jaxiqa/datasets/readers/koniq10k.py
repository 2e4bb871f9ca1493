"""KonIQ-10k: 10,073 photographs from the web with their authentic distortions, rated by a crowd; official split."""

import math
import os
from collections.abc import Iterator

from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.diagnosis import Finding
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.formats import tables
from jaxiqa.datasets.formats.meta_csv import Meta
from jaxiqa.datasets.records import Dataset

CITATION = (
    "V. Hosu, H. Lin, T. Sziranyi, D. Saupe: KonIQ-10k: An Ecologically Valid Database for Deep Learning of Blind "
    "Image Quality Assessment. IEEE TIP 29, 2020. https://database.mmsp-kn.de/koniq-10k-database.html"
)
LICENSE = "terms of its owners (University of Konstanz), see the download page; nothing of it is in this package"
SCORE_RANGE = (0.0, 100.0)  # of the z-score
HIGHER_IS_BETTER = True
HOW_TO_GET = (
    "download koniq10k_512x384.zip (or koniq10k_1024x768.zip, for images='1024x768') from "
    "https://database.mmsp-kn.de/koniq-10k-database.html and koniq10k_distributions_sets.csv from "
    "https://github.com/subpic/koniq (metadata/), both to data_dir"
)
ALIASES = ("koniq", "koniq-10k")
MARKERS = _SETS, _SCORES = "koniq10k_distributions_sets.csv", "koniq10k_scores_and_distributions.csv"
KNOWN = Known(10_073, "3.912", "88.389", "58.73", ((384, 512), (768, 1024)))  # z-scores
_OTHER_SCALE = checks.Kind(
    "labels on the 1..5 scale, not z-scores",
    "labels",
    "take koniq10k_distributions_sets.csv as it is published, whose MOS is the z-score",
)

SETS = {"training": "train", "validation": "val", "test": "test"}
# Raters chose 1..5. The z-score of a mean rating x is about 27.82 x - 29.23, a line fitted to all images (PLCC 0.995).
STEP = 27.82
CATEGORIES = tuple(round(STEP * rating - 29.23, 2) for rating in range(1, 6))
_COUNTS = tuple(f"c{rating}" for rating in range(1, 6))
SIZES = {"train": 7058, "val": 1000, "test": 2015}


def load(
    data_dir: str | os.PathLike,
    images: str = "512x384",
    official_split: bool = True,
    allow_partial: bool = False,
) -> Dataset:
    """Reads koniq10k_distributions_sets.csv. Its column MOS, a z-score, is the label.

    Without the official split, koniq10k_scores_and_distributions.csv is enough. Its column MOS is on another scale
    (1..5), so MOS_zscore is read instead. The columns SD and c1..c5, of ratings 1..5, are read if they exist; STEP and
    CATEGORIES convert them to the scale of the label.

    Args:
      data_dir: the folder.
      images: the folder of images in it, 512x384 or 1024x768.
      official_split: False uses random splits by image, as several papers do (8,058/2,015).
      allow_partial: whether rows without an image are left out instead of refused.

    Raises:
      DataError: the folder cannot be used.
    """
    reading = checks.Reading("koniq10k", data_dir, HOW_TO_GET, allow_partial)
    columns: dict[str, tuple[str, ...]] = {_SETS: ("image_name", "MOS", "set")}
    if not official_split:
        columns[_SCORES] = ("image_name", "MOS_zscore")
    hint = ""
    if official_split and reading.has(_SCORES):
        hint = f". To read {_SCORES}, which has no split, with random splits: {checks.option(official_split=False)}"
    table = reading.find(*columns, hint=hint)
    sizes = [size for size in ("512x384", "1024x768") if size != images and reading.has(size)]
    hint = f". To read the images of {sizes[0]}: {checks.option(images=sizes[0])}" if sizes else ""
    reading.list_images(reading.find(images, hint=hint))
    parts: dict[str, str] = {}
    for where, row in tables.read_csv(reading.path(table), columns[table], reading):
        name, mos = row["image_name"], reading.label(row[columns[table][1]], where, SCORE_RANGE)
        std, histogram = checks.spread_of(row.get("SD"), STEP), checks.shares(map(row.get, _COUNTS))
        reading.record(name, mos, where, std=std, histogram=histogram)
        if official_split and row["set"] not in SETS:
            reading.add(f"sets that are not {', '.join(SETS)}", f"{where} {row['set']!r}")
        parts[name] = SETS.get(row.get("set", ""), "")
    if max((r.mos for r in reading.records.values()), default=math.inf) <= 5:
        reading.add(_OTHER_SCALE, table)
    reading.complete(KNOWN.count)
    split = None
    if official_split:
        split = {part: [i for i, name in enumerate(reading.records) if parts[name] == part] for part in SIZES}
        if not allow_partial:
            for part, size in SIZES.items():
                reading.count(len(split[part]), size, f"rows of part {part}")
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER, official_split=split, categories=CATEGORIES)


def look_at_table(dataset: Dataset, meta: Meta) -> Iterator[Finding]:
    """Reports which of two scores pyiqa's table has."""
    kind = "MOS of 1..5" if max(r.mos for r in dataset.records) <= 5 else "z-scores of 0..100"
    yield Finding("labels", "note", f"these are {kind}; tables with either score exist under this name")
