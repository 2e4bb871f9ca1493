"""KonIQ-10k: 10,073 photographs from the web with their authentic distortions, rated by a crowd; official split."""

import math
import os
from collections.abc import Iterator

from jaxiqa.datasets import checks, tables
from jaxiqa.datasets.diagnosis import Finding
from jaxiqa.datasets.known import Known
from jaxiqa.datasets.meta_csv import Meta
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
MARKERS = ("koniq10k_distributions_sets.csv", "koniq10k_scores_and_distributions.csv")
KNOWN = Known(10_073, "3.912", "88.389", "58.73", ((384, 512), (768, 1024)))  # z-scores
FIXES = {
    "labels on the 1..5 scale": "take koniq10k_distributions_sets.csv as it is published, whose MOS is the z-score",
}

SETS = {"training": "train", "validation": "val", "test": "test"}
SIZES = {"train": 7058, "val": 1000, "test": 2015}


def load(
    data_dir: str | os.PathLike,
    images: str = "512x384",
    official_split: bool = True,
    allow_partial: bool = False,
) -> Dataset:
    """Reads koniq10k_distributions_sets.csv, whose column MOS is the z-score that is used as the label.

    Without the official split koniq10k_scores_and_distributions.csv will do too: its column MOS is on another scale
    (1..5), so MOS_zscore is read from it.

    Args:
      images: the folder of images, 512x384 or 1024x768.
      official_split: False leaves the choice to random splits by image, as several papers do (8,058/2,015).
    """
    reading = checks.Reading("koniq10k", data_dir, HOW_TO_GET, allow_partial)
    columns = {"koniq10k_distributions_sets.csv": ("image_name", "MOS", "set")}
    if not official_split:
        columns["koniq10k_scores_and_distributions.csv"] = ("image_name", "MOS_zscore")
    table = reading.find(*columns)
    reading.list_pictures(reading.find(images))
    parts: dict[str, str] = {}
    for where, row in tables.read_csv(reading.path(table), columns[table], reading):
        name, mos = row["image_name"], reading.label(row[columns[table][1]], where, SCORE_RANGE)
        reading.record(name, mos, where)
        if official_split and row["set"] not in SETS:
            reading.add(f"sets that are not {', '.join(SETS)}", f"{where} {row['set']!r}")
        parts[name] = SETS.get(row.get("set", ""), "")
    if max((r.mos for r in reading.records.values()), default=math.inf) <= 5:
        reading.add("labels on the 1..5 scale, not z-scores", table)
    reading.complete(KNOWN.count)
    split = None
    if official_split:
        split = {part: [i for i, name in enumerate(reading.records) if parts[name] == part] for part in SIZES}
        if not allow_partial:
            for part, size in SIZES.items():
                reading.count(len(split[part]), size, f"rows of part {part}")
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER, official_split=split)


def look_at_table(dataset: Dataset, meta: Meta) -> Iterator[Finding]:
    """Which of two scores pyiqa's table has."""
    kind = "MOS of 1..5" if max(r.mos for r in dataset.records) <= 5 else "z-scores of 0..100"
    yield Finding("labels", "note", f"these are {kind}: tables of this name exist with either")
