"""FLIVE (PaQ-2-PiQ, LIVE-FB): 39,810 photographs from the web with their authentic distortions; official split."""

import os

from jaxiqa.datasets import checks, tables
from jaxiqa.datasets.records import Dataset, Record

CITATION = (
    "Z. Ying, H. Niu, P. Gupta, D. Mahajan, D. Ghadiyaram, A. Bovik: From Patches to Pictures (PaQ-2-PiQ): Mapping "
    "the Perceptual Space of Picture Quality. CVPR 2020. https://github.com/baidut/PaQ-2-PiQ"
)
LICENSE = "of the collections its pictures are from (VOC, EMOTIC, AVA and others); nothing of it is in this package"
SCORE_RANGE = (0.0, 100.0)
HIGHER_IS_BETTER = True
HOW_TO_GET = (
    "collect the pictures with the notebook database_prep.ipynb of https://github.com/baidut/PaQ-2-PiQ into "
    "data_dir/database, and put labels_image.csv, labels640.csv and labels=640_padded.csv from its folder database/ "
    "into data_dir"
)

SOURCES = {"voc_emotic_ava": 38_808, "blur_dataset": 999, "EE371R": 3}
SIZES = {"train": 30_253, "val": 7_727, "test": 1_827}  # EE371R is in no part
_TRAINED = "labels=640_padded.csv"


def load(data_dir: str | os.PathLike, official_split: bool = True, allow_partial: bool = False) -> Dataset:
    """Reads labels_image.csv and the whole pictures that it names; patches are not read.

    The official split tests on labels640.csv (a side of more than 640 pixels) and divides labels=640_padded.csv into
    training and validation by its column is_valid. The three pictures of EE371R are rated, but in no part of it.
    Pictures that no row names are left alone, because the folders come from other collections.

    Args:
      data_dir: the folder with the CSVs; the pictures are in its folder database/, or in data_dir itself.
      official_split: False leaves the choice to random splits by picture, as GlintIQA does (31,848/7,962), and reads
        labels_image.csv only.
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.

    Raises:
      DataError: the wrong folder, missing pictures or rows, bad labels; all of them listed.
    """
    folder = checks.open_folder("flive", data_dir, HOW_TO_GET)
    checks.find_one("flive", folder, ("labels_image.csv",), HOW_TO_GET)
    faults = checks.Faults("flive", folder, HOW_TO_GET)
    home = "database" if os.path.isdir(os.path.join(folder, "database")) else ""

    pictures: dict[str, str] = {}
    for source in SOURCES:
        inside = os.path.join(home, source)
        if os.path.isdir(os.path.join(folder, inside)):
            found = checks.list_pictures(folder, [inside], faults)
            pictures |= {f"{source}/{name}".lower(): path for name, path in found.items()}

    records: dict[str, Record] = {}
    for where, row in tables.read_csv(os.path.join(folder, "labels_image.csv"), ("name", "mos"), faults):
        name, mos = row["name"], faults.label(row["mos"], where, SCORE_RANGE)
        if name in records:
            faults.add("rows for a picture that has one already", f"{where} {name}")
        records[name] = Record(os.path.join(folder, pictures.get(name.lower(), "")), mos, name)
    parts = _official(folder, records, faults) if official_split else {}
    if allow_partial:
        records = {name: r for name, r in records.items() if name.lower() in pictures}
    else:
        faults.add_all("missing pictures", (name for name in records if name.lower() not in pictures))
        for source, count in SOURCES.items():
            faults.count(sum(name.split("/")[0] == source for name in records), count, f"rows of {source}")
        for part, names in parts.items():
            faults.count(len(names), SIZES[part], f"rows of part {part}")
    faults.refuse()
    split = {part: [i for i, name in enumerate(records) if name in names] for part, names in parts.items()}
    return Dataset("flive", list(records.values()), SCORE_RANGE, HIGHER_IS_BETTER, official_split=split or None)


def _official(folder: str, known: dict[str, Record], faults: checks.Faults) -> dict[str, set[str]]:
    """Names of the pictures by part."""
    for table in (_TRAINED, "labels640.csv"):
        checks.find_one("flive", folder, (table,), f"{HOW_TO_GET}; or take official_split=False")
    parts: dict[str, set[str]] = {part: set() for part in SIZES}
    rows = [(where, row["name_image"], row["is_valid"]) for where, row in _rows(folder, _TRAINED, faults, "is_valid")]
    rows += [(where, row["name_image"], "") for where, row in _rows(folder, "labels640.csv", faults)]
    for where, name, is_valid in rows:
        part = {"false": "train", "true": "val", "": "test"}.get(is_valid.lower())
        if part is None:
            faults.add("rows whose is_valid is neither True nor False", f"{where} {is_valid!r}")
        elif name not in known:
            faults.add("pictures of the split that labels_image.csv has not", f"{where} {name}")
        elif any(name in names for names in parts.values()):
            faults.add("pictures that the split has twice", f"{where} {name}")
        else:
            parts[part].add(name)
    return parts


def _rows(folder: str, table: str, faults: checks.Faults, *columns: str) -> list[tuple[str, dict[str, str]]]:
    return tables.read_csv(os.path.join(folder, table), ("name_image", *columns), faults)
