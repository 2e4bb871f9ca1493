"""Your own pictures: a folder and a CSV with one row per rated picture."""

import os
import posixpath

from jaxiqa.datasets import checks, tables
from jaxiqa.datasets.records import Dataset, Record

CITATION = "none: your own data"
LICENSE = "yours"
SCORE_RANGE = (1.0, 5.0)  # of the default, absolute category rating
HIGHER_IS_BETTER = True
HOW_TO_GET = "put the pictures into a folder, with a CSV whose header names the columns `path` and `mos`"


def load(
    data_dir: str | os.PathLike,
    csv: str = "index.csv",
    path_column: str = "path",
    label_column: str = "mos",
    group_column: str = "",
    score_range: tuple[float, float] = SCORE_RANGE,
    higher_is_better: bool = HIGHER_IS_BETTER,
) -> Dataset:
    """Reads a folder of pictures with a CSV (UTF-8; comma, semicolon or tab; header row).

    Columns `distortion` and `level` are taken over where they are there; a level that is not 1..5 counts as unknown.
    Pictures without a row are left out.

    Args:
      data_dir: the folder; paths in the CSV are relative to it and may not leave it.
      csv: the CSV, in the folder.
      path_column: column with the path of the picture.
      label_column: column with the opinion score.
      group_column: column with the content that a picture shows, kept together by splits; "" splits by picture.
      score_range: (lo, hi) of the rating scale. Labels outside are refused.
      higher_is_better: False for difference scores (DMOS), where 0 is the best.

    Raises:
      ConfigError: a score_range that is none.
      DataError: a column or the CSV is missing, or bad rows, all of them listed.
    """
    limits = checks.limits("folder", score_range)
    folder = checks.open_folder("folder", data_dir, HOW_TO_GET)
    checks.find_one("folder", folder, (csv,), HOW_TO_GET)
    faults = checks.Faults("folder", folder)
    columns = tuple(c for c in (path_column, label_column, group_column) if c)

    records, first_row = [], {}
    for where, row in tables.read_csv(os.path.join(folder, csv), columns, faults):
        mos = faults.label(row[label_column], where, limits)
        name = posixpath.normpath(row[path_column])
        if group_column and not row[group_column]:
            faults.add(f"rows without a {group_column}", where)
        if checks.leaves(name) or not row[path_column]:
            faults.add("paths that leave the folder or are empty", f"{where} {row[path_column]!r}")
            continue
        if name in first_row:
            faults.add("rows for a picture that has one already", f"{where} {name} (as {first_row[name]})")
        elif not os.path.isfile(os.path.join(folder, name)):
            faults.add("missing pictures", f"{where} {name}")
        first_row.setdefault(name, where)
        level = row.get("level", "")
        records.append(
            Record(
                path=os.path.join(folder, name),
                mos=mos,
                id=name,
                reference=row[group_column] if group_column else "",
                distortion=row.get("distortion", ""),
                level=int(level) if level in ("1", "2", "3", "4", "5") else 0,
            )
        )
    faults.refuse()
    return Dataset("folder", records, limits, higher_is_better)
