"""Your own images: a folder and a CSV with one row per rated image."""

import glob
import os
from collections.abc import Iterator, Sequence

from jaxiqa.datasets import checks, fact, facts
from jaxiqa.datasets.doctor.diagnosis import Finding, by_column
from jaxiqa.datasets.formats import tables
from jaxiqa.datasets.readers.kadid10k import TYPES
from jaxiqa.datasets.records import Dataset
from jaxiqa.errors import ConfigError

CITATION = "none: your own data"
LICENSE = "yours"
SCORE_RANGE = (1.0, 5.0)  # of the default, absolute category rating
HIGHER_IS_BETTER = True
HOW_TO_GET = "put the images into a folder, with a CSV whose header names the columns `path` and `mos`"
MARKERS = ("index.csv",)
ANYONES = True
SHARED_TYPES = TYPES  # its distortions have the names of KADID-10k

# Columns that name the content of an image, which a split has to keep together.
_CONTENTS = ("content", "reference", "ref", "ref_name", "ref_img", "scene", "source", "group")


def holds(folder: str | os.PathLike) -> bool:
    """Whether a folder has no table of the toolbox pyiqa, which takes precedence over an index.csv."""
    return not glob.glob(os.path.join(glob.escape(os.fspath(folder)), "meta_info_*.csv"))


def load(
    data_dir: str | os.PathLike,
    csv: str = "index.csv",
    path_column: str = "path",
    label_column: str = "mos",
    group_column: str = "",
    score_range: tuple[float, float] = SCORE_RANGE,
    higher_is_better: bool = HIGHER_IS_BETTER,
    std_column: str = "",
    histogram_columns: Sequence[str] = (),
    categories: Sequence[float] = (),
) -> Dataset:
    """Reads a folder of images with a CSV (UTF-8; comma, semicolon or tab; header row).

    Columns `distortion` and `level` are read if they exist; a level that is not 1..5 counts as unknown. Images without
    a row are left out.

    Args:
      data_dir: the folder; paths in the CSV are relative to it and must not leave it.
      csv: the CSV, relative to the folder.
      path_column: column with the path of the image.
      label_column: column with the opinion score.
      group_column: column with the content of the image, which splits keep together; "" splits by image.
      score_range: (lo, hi) of the rating scale. Labels outside are refused.
      higher_is_better: False for difference scores (DMOS), whose best value is 0.
      std_column: column with the standard deviation of an image's ratings; "" for none.
      histogram_columns: columns with the number or share of an image's ratings in each category; () for none.
      categories: the label that each of these categories means, e.g. (1, 2, 3, 4, 5).

    Raises:
      ConfigError: score_range is not a range, or histogram_columns and categories do not match.
      DataError: the CSV or a column is missing, or rows are bad; the message lists all of them.
    """
    limits = checks.limits("folder", score_range)
    reading = checks.Reading("folder", data_dir, HOW_TO_GET, remedy="")
    table = reading.path(reading.find(csv))
    if len(histogram_columns) != len(categories) or len(categories) == 1 or len({*categories}) != len(categories):
        raise ConfigError(
            f"folder: histogram_columns={tuple(histogram_columns)} must be two or more, and "
            f"categories={tuple(categories)} must have one label for each, all different",
            code="conflict",
            key="categories",
        )
    columns = tuple(c for c in (path_column, label_column, group_column, std_column, *histogram_columns) if c)
    for where, row in tables.read_csv(table, columns, reading):
        mos = reading.label(row[label_column], where, limits)
        reference = row[group_column] if group_column else ""
        if group_column and not reference:
            reading.add(checks.incomplete_rows(f"a {group_column}"), where)
        std = checks.spread_of(row[std_column]) if std_column else None
        if std_column and std is None:
            reading.add(f"rows whose {std_column} is not a number of 0 or more", f"{where} {row[std_column]!r}")
        histogram = checks.shares(row[c] for c in histogram_columns)
        if histogram_columns and not histogram:
            reading.add("rows whose histogram is not of counts or shares", where)
        level = int(row["level"]) if row.get("level") in ("1", "2", "3", "4", "5") else 0
        known = reference, row.get("distortion", ""), level
        reading.record_file(row[path_column], mos, where, *known, std=std, histogram=histogram)
    return reading.dataset(limits, higher_is_better, categories=tuple(map(float, categories)))


def look(dataset: Dataset, folder: str, options: dict) -> Iterator[Finding]:
    """Checks for an unused column of contents, practice images, the direction of labels, and images without a row."""
    path = os.path.join(folder, options["csv"])
    rows = [row for _, row in tables.read_csv(path, (), checks.Faults("folder", folder))]
    if not options["group_column"]:
        values = {c: {row[c] for row in rows} for c in rows[0] if c.lower() in _CONTENTS}
        for column in [c for c, found in values.items() if found != {""} and len(found) < len(rows)][:1]:
            what = f"column {column!r} names {len(values[column]):,} contents of {len(rows):,} images and is not used"
            fix = f"set group_column={column}; otherwise images of one content are both in training and in test"
            yield Finding("contents", "fault", what, fix=fix)
    there = {os.path.basename(r.id).lower() for r in dataset.records}
    for key, names in facts("PRACTICE").items():
        if there >= set(names):
            what = f"{fact(key, 'TITLE') or key}'s practice images have rows"
            fix = "remove these rows: raters practised on these images, and nobody trains or tests on them"
            yield Finding("names", "fault", what, (f"{names[0]} to {names[-1]}",), fix)
    yield from by_column(dataset, options["label_column"])
    rated = {os.path.normpath(r.path) for r in dataset.records}
    files = checks.images_below(folder)
    if unrated := [os.path.relpath(p, folder) for p in files if os.path.normpath(p) not in rated]:
        yield Finding("counts", "note", f"{len(unrated):,} images have no row", tuple(unrated))
