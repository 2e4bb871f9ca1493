"""Your own images: a folder and a CSV with one row per rated image."""

import glob
import os
from collections.abc import Iterator, Sequence

from jaxiqa.datasets import checks, fact, facts, image_files
from jaxiqa.datasets.doctor.diagnosis import Finding, by_column
from jaxiqa.datasets.formats import tables
from jaxiqa.datasets.readers.kadid10k import TYPES
from jaxiqa.datasets.records import Dataset
from jaxiqa.errors import ConfigError, DataError, nearest

KEY = "folder"  # for programs that read rated images of anyone
CITATION = "none: your own data"
LICENSE = "yours"
SCORE_RANGE = (1.0, 5.0)  # of the default, absolute category rating
HIGHER_IS_BETTER = True
HOW_TO_GET = "put the images into a folder, with a CSV whose header names the columns `path` and `mos`"
MARKERS = ("index.csv",)
ANYONES = True
SHARED_TYPES = TYPES  # its distortions have the names of KADID-10k

# Other headings of the columns of paths and of labels, as `tables.plain` compares them.
_PATHS = (
    "image", "images", "img", "picture", "photo", "file", "filename", "file_name", "file_path", "filepath",
    "image_name", "imagename", "image_path", "imagepath", "image_file", "img_name", "img_path", "dist_img", "dist_name",
    "dis_img_path", "distorted_image", "name",
)  # fmt: skip
_LABELS = (
    "mean_opinion_score", "meanopinionscore", "score", "mean_score", "quality", "quality_score", "rating",
    "mean_rating", "label", "elo", "elo_score",
)  # fmt: skip
_SPREADS = {"std", "sd", "stdev", "stddev", "var", "variance", "ci", "n", "count", "num", "raw", "min", "max"}
# Columns that name the content of an image, which a split has to keep together.
_CONTENTS = ("content", "content_id", "reference", "ref", "ref_name", "ref_img", "scene", "scene_id", "source", "group")


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
    """Reads a folder of images with a CSV (UTF-8 or UTF-16; comma, semicolon, tab or white space; header row).

    Columns `distortion` and `level` are read if they exist; a level that is not 1..5 counts as unknown. Images without
    a row are left out. Other headings, a table of paths and labels without a header, and paths of another machine are
    read if only one meaning is possible. A line of output then says how they were read.

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
      DataError: data_dir is not a folder, the CSV or a column is missing, or rows are bad; the message lists all of
        them.
    """
    limits = checks.limits("folder", score_range)
    if os.path.isfile(given := os.path.expanduser(os.fspath(data_dir))):
        where, name = os.path.split(given)
        raise DataError(
            f"folder: {given} is a file; name its folder, {where or '.'}, and add {checks.option(csv=name)}",
            code="format",
            key=given,
        )
    reading = checks.Reading("folder", data_dir, HOW_TO_GET, remedy="")
    if not reading.has(csv) and len(others := glob.glob("*.[ct]sv", root_dir=reading.folder)) == 1:
        raise DataError(
            f"folder: {reading.folder} has no {csv}; to read {others[0]}, add {checks.option(csv=others[0])}",
            code="not_found",
            key=reading.path(csv),
        )
    table = _find(reading, csv)
    if len(histogram_columns) != len(categories) or len(categories) == 1 or len({*categories}) != len(categories):
        raise ConfigError(
            f"folder: histogram_columns={tuple(histogram_columns)} must be two or more, and "
            f"categories={tuple(categories)} must have one label for each, all different",
            code="conflict",
            key="categories",
        )
    columns = tuple(c for c in (path_column, label_column, group_column, std_column, *histogram_columns) if c)
    rows = _read(table, columns, reading)
    different = {tuple(row.values()): (where, row) for where, row in reversed(rows)}
    if len(different) < len(rows):
        reading.say(f"{len(rows) - len(different):,} rows that are the same as another one are left out")
        rows = [*reversed(different.values())]
    if not group_column:
        _note_contents(reading, rows)
    reading.locate(row[path_column] for _, row in rows)
    for where, row in rows:
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


def _note_contents(reading: checks.Reading, rows: list[tuple[str, dict[str, str]]]) -> None:
    """Notes a column of contents, which is not used."""
    for column in _contents_columns([row for _, row in rows])[:1]:
        reading.say(f"the column {column!r} is not used; group_column={column} keeps images of a content together")


def _find(reading: checks.Reading, csv: str) -> str:
    """The path of the CSV. If it does not exist, the error names the tables of the folder."""
    there = ", ".join(sorted(glob.glob("*.csv", root_dir=reading.folder))[:5])
    hint = f"; it has {there}: if one of these is meant, name it by --option csv=NAME" if there else ""
    return reading.path(reading.find(csv, hint=hint))


def _read(table: str, columns: tuple[str, ...], faults: checks.Faults) -> list[tuple[str, dict[str, str]]]:
    """The rows of the CSV as tables.read_csv returns them. `columns` are those of paths, of labels, and others."""
    path, label, *_ = columns
    rows = tables.read_rows(table, faults, {*columns, *_PATHS, *_LABELS})
    if not rows:
        raise DataError(f"{table} has no rows", code="empty", key=table)
    header = rows[0][1]
    meant = {c: [h for h in header if tables.plain(h) == tables.plain(c)] for c in columns}
    if path == "path":
        meant[path] = meant[path] or [h for h in header if tables.plain(h) in _PATHS]
    if label == "mos":
        meant[label] = meant[label] or list(filter(_is_label, header))
    if not any(meant.values()) and any(map(tables.is_number, header)):
        return tables.with_header(table, _without_header(table, header, path, label, faults), rows, columns, faults)
    _refuse_unclear(table, rows, meant, path, label)
    return tables.with_header(table, tables.rename(header, meant, faults), rows[1:], columns, faults)


def _is_label(heading: str) -> bool:
    words = tables.plain(heading).split("_")
    return tables.plain(heading) in _LABELS or (not {"mos", "dmos"}.isdisjoint(words) and _SPREADS.isdisjoint(words))


def _without_header(table: str, first: list[str], path: str, label: str, faults: checks.Faults) -> list[str]:
    """The names of two columns of a table whose first row is data: the numbers are the labels."""
    numbers = [i for i, cell in enumerate(first) if tables.is_number(cell)]
    if len(first) != 2 or len(numbers) != 1:
        names = [f"column{i}" for i in range(1, len(first) + 1)]
        for name, where in ((label, numbers), (path, [i for i in range(len(first)) if i not in numbers])):
            names[where[0] if where else 0] = name
        raise DataError(
            f"{table} has no header: its first line is {', '.join(first)}; add a line before it that names the "
            f"columns, for instance {','.join(names)}",
            code="missing",
            key=table,
        )
    faults.say(f"{os.path.basename(table)} has no header, and column {numbers[0] + 1} is {label}")
    return [label, path] if numbers == [0] else [path, label]


def _refuse_unclear(
    table: str, rows: list[tuple[str, list[str]]], meant: dict[str, list[str]], path: str, label: str
) -> None:
    """Raises DataError unless one heading is found for each column, and labels have the default direction."""
    header, first = rows[0][1], rows[min(1, len(rows) - 1)][1]
    of_kind = {path: lambda cell: cell.lower().endswith(checks.IMAGES), label: tables.is_number}
    why: list[str] = []
    add: dict[str, str | bool] = {}
    for option, column in (("path_column", path), ("label_column", label)):
        found = meant[column]
        if column in header:
            continue
        if not found:
            cells = [(h, cell) for h, cell in zip(header, first, strict=False) if h]
            after = [h for h, _ in cells].index(meant[path][0]) if meant[path] else 0  # an index may be before the path
            likely = nearest(column, header) or next(
                (h for h, cell in cells[after:] + cells if of_kind[column](cell)), "NAME"
            )
            why.append(f"no column {column!r}")
            add[option] = likely
        elif len(found) > 1:
            why.append(f"several columns that may be {column!r} ({', '.join(found)})")
            add[option] = found[0]
        elif "dmos" in tables.plain(found[0]).split("_"):
            why.append(f"no column {column!r} but {found[0]}: a difference score (DMOS) is lower for better images")
            add |= {option: found[0], "higher_is_better": False}
    if why:
        raise DataError(
            f"{table} has {' and '.join(why)}; its columns are {', '.join(header)}; name them, for instance by "
            f"{checks.option(**add)}",
            code="missing",
            key=table,
        )


def contents_column(data_dir: str | os.PathLike, csv: str, path_column: str, label_column: str) -> str:
    """The column of the CSV that seems to name the content of each image; "" if there is none. Arguments of load()."""
    reading = checks.Reading("folder", data_dir, HOW_TO_GET, remedy="")
    rows = _read(reading.path(csv), (path_column, label_column), checks.Faults("folder", os.fspath(data_dir)))
    return next(iter(_contents_columns([row for _, row in rows])), "")


def _contents_columns(rows: Sequence[dict[str, str]]) -> list[str]:
    values = {c: {row[c] for row in rows} for c in rows[0] if c.lower() in _CONTENTS}
    return [c for c, found in values.items() if found != {""} and len(found) < len(rows)]


def look(dataset: Dataset, folder: str, options: dict) -> Iterator[Finding]:
    """Checks for an unused column of contents, practice images, the direction of labels, and images without a row."""
    path = os.path.join(folder, options["csv"])
    named = (options["path_column"], options["label_column"])
    rows = [row for _, row in _read(path, named, checks.Faults("folder", folder))]
    if not options["group_column"]:
        for column in _contents_columns(rows)[:1]:
            contents = len({row[column] for row in rows})
            what = f"column {column!r} names {contents:,} contents of {len(rows):,} images and is not used"
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
    files = image_files.search(folder).images
    if unrated := [os.path.relpath(p, folder) for p in files if os.path.normpath(p) not in rated]:
        yield Finding("counts", "note", f"{len(unrated):,} images have no row", tuple(unrated))
