"""KonIQ-10k: 10,073 photographs from the web with their authentic distortions, rated by a crowd; official split."""

import os

from jaxiqa.datasets import checks, tables
from jaxiqa.datasets.records import Dataset, Record

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
      data_dir: the folder with the CSV and with 512x384/ or 1024x768/.
      images: the folder of pictures.
      official_split: False leaves the choice to random splits by picture, as several papers do (8,058/2,015).
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.

    Raises:
      DataError: the wrong folder, missing or extra pictures or rows, bad labels; all of them listed.
    """
    folder = checks.open_folder("koniq10k", data_dir, HOW_TO_GET)
    columns = {"koniq10k_distributions_sets.csv": ("image_name", "MOS", "set")}
    if not official_split:
        columns["koniq10k_scores_and_distributions.csv"] = ("image_name", "MOS_zscore")
    table = checks.find_one("koniq10k", folder, tuple(columns), HOW_TO_GET)
    images = checks.find_one("koniq10k", folder, (images,), HOW_TO_GET)
    faults = checks.Faults("koniq10k", folder, HOW_TO_GET)
    pictures = checks.list_pictures(folder, [images], faults)

    records: dict[str, Record] = {}
    parts: dict[str, str] = {}
    for where, row in tables.read_csv(os.path.join(folder, table), columns[table], faults):
        name, mos = row["image_name"], faults.label(row[columns[table][1]], where, SCORE_RANGE)
        if name in records:
            faults.add("rows for a picture that has one already", f"{where} {name}")
        if official_split and row["set"] not in SETS:
            faults.add(f"sets that are not {', '.join(SETS)}", f"{where} {row['set']!r}")
        parts[name] = SETS.get(row.get("set", ""), "")
        records[name] = Record(os.path.join(folder, pictures.get(name.lower(), "")), mos, name)
    if records and max(r.mos for r in records.values()) <= 5:
        faults.add("labels on the 1..5 scale, not z-scores", table)
    if allow_partial:
        records = {name: r for name, r in records.items() if name.lower() in pictures}
    else:
        faults.compare(records, pictures)
        faults.count(len(records), sum(SIZES.values()), "rows")
    split = None
    if official_split:
        split = {part: [i for i, name in enumerate(records) if parts[name] == part] for part in SIZES}
        if not allow_partial:
            for part, size in SIZES.items():
                faults.count(len(split[part]), size, f"rows of part {part}")
    faults.refuse()
    return Dataset("koniq10k", list(records.values()), SCORE_RANGE, HIGHER_IS_BETTER, official_split=split)
