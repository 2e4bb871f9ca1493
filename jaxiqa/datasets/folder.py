"""Your own pictures: a folder and a CSV with one row per rated picture."""

import glob
import os
from collections.abc import Iterator

from jaxiqa.datasets import checks, fact, facts, tables
from jaxiqa.datasets.diagnosis import Finding, by_column
from jaxiqa.datasets.kadid10k import TYPES
from jaxiqa.datasets.records import Dataset

CITATION = "none: your own data"
LICENSE = "yours"
SCORE_RANGE = (1.0, 5.0)  # of the default, absolute category rating
HIGHER_IS_BETTER = True
HOW_TO_GET = "put the pictures into a folder, with a CSV whose header names the columns `path` and `mos`"
MARKERS = ("index.csv",)
ANYONES = True
SHARED_TYPES = TYPES  # its distortions are called as in KADID-10k

# Columns that name what an image shows, which a split has to keep together.
_CONTENTS = ("content", "reference", "ref", "ref_name", "ref_img", "scene", "source", "group")


def holds(folder: str | os.PathLike) -> bool:
    """Whether a folder has no table of the toolbox pyiqa, which says more than an index.csv."""
    return not glob.glob(os.path.join(glob.escape(os.fspath(folder)), "meta_info_*.csv"))


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
    reading = checks.Reading("folder", data_dir, HOW_TO_GET, remedy="")
    table = reading.path(reading.find(csv))
    columns = tuple(c for c in (path_column, label_column, group_column) if c)
    for where, row in tables.read_csv(table, columns, reading):
        mos = reading.label(row[label_column], where, limits)
        reference = row[group_column] if group_column else ""
        if group_column and not reference:
            reading.add(f"rows without a {group_column}", where)
        level = int(row["level"]) if row.get("level") in ("1", "2", "3", "4", "5") else 0
        reading.record_file(row[path_column], mos, where, reference, row.get("distortion", ""), level)
    return reading.dataset(limits, higher_is_better)


def look(dataset: Dataset, folder: str, options: dict) -> Iterator[Finding]:
    """Contents that the options do not name, practice images, what the label's column says, images without a row."""
    path = os.path.join(folder, options["csv"])
    rows = [row for _, row in tables.read_csv(path, (), checks.Faults("folder", folder))]
    if not options["group_column"]:
        values = {c: {row[c] for row in rows} for c in rows[0] if c.lower() in _CONTENTS}
        for column in [c for c, found in values.items() if found != {""} and len(found) < len(rows)][:1]:
            what = f"column {column!r} names {len(values[column]):,} contents of {len(rows):,} pictures and is not used"
            fix = f"set group_column={column}; else pictures of one content train and test"
            yield Finding("contents", "fault", what, fix=fix)
    there = {os.path.basename(r.id).lower() for r in dataset.records}
    for key, names in facts("PRACTICE").items():
        if there >= set(names):
            what = f"{fact(key, 'TITLE') or key}'s practice pictures have rows"
            fix = "leave their rows out: raters practised on them, and nobody else trains or tests on them"
            yield Finding("names", "fault", what, (f"{names[0]} to {names[-1]}",), fix)
    yield from by_column(dataset, options["label_column"])
    rated = {os.path.normpath(r.path) for r in dataset.records}
    files = checks.pictures_below(folder)
    if unrated := [os.path.relpath(p, folder) for p in files if os.path.normpath(p) not in rated]:
        yield Finding("counts", "note", f"{len(unrated):,} pictures have no row", tuple(unrated))
