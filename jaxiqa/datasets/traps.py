"""What is known to go wrong with the label files of one dataset or another, by looking at the files themselves."""

import contextlib
import glob
import inspect
import os
from collections.abc import Iterator

from jaxiqa.datasets import find, livec, prepared, reader, tables
from jaxiqa.datasets.checks import PICTURES, Faults
from jaxiqa.datasets.diagnosis import Finding, by_levels, direction
from jaxiqa.datasets.known import KNOWN
from jaxiqa.datasets.meta_csv import Meta, read_meta
from jaxiqa.datasets.records import Dataset
from jaxiqa.errors import ConfigError

# Columns that name what a picture shows, which a split has to keep together.
_CONTENTS = ("content", "reference", "ref", "ref_name", "ref_img", "scene", "source", "group")


def look(dataset: Dataset, data_dir: str | os.PathLike, options: dict) -> list[Finding]:
    """Findings in the label files of a dataset that could be read with these options; none of a prepared folder."""
    if dataset.name not in _LOOKS or prepared.is_prepared(data_dir):
        return []
    parameters = inspect.signature(reader(dataset.name).load).parameters
    defaults = {k: p.default for k, p in parameters.items() if k != "data_dir"}
    return list(_LOOKS[dataset.name](dataset, os.path.expanduser(os.fspath(data_dir)), defaults | options))


def _folder(dataset: Dataset, folder: str, options: dict) -> Iterator[Finding]:
    rows = [row for _, row in tables.read_csv(os.path.join(folder, options["csv"]), (), Faults("folder", folder))]
    if not options["group_column"]:
        values = {c: {row[c] for row in rows} for c in rows[0] if c.lower() in _CONTENTS}
        for column in [c for c, found in values.items() if found != {""} and len(found) < len(rows)][:1]:
            what = f"column {column!r} names {len(values[column]):,} contents of {len(rows):,} pictures and is not used"
            fix = f"set group_column={column}; else pictures of one content train and test"
            yield Finding("contents", "fault", what, fix=fix)
    yield from _practice(dataset)
    yield from _by_column(dataset, options["label_column"])
    rated = {os.path.normpath(r.path) for r in dataset.records}
    there = [os.path.join(d, f) for d, _, files in os.walk(folder) for f in files if f.lower().endswith(PICTURES)]
    if unrated := sorted(os.path.relpath(p, folder) for p in there if os.path.normpath(p) not in rated):
        yield Finding("counts", "note", f"{len(unrated):,} pictures have no row", tuple(unrated))


def _pyiqa(dataset: Dataset, folder: str, options: dict) -> Iterator[Finding]:
    """Headings of these tables mislead: LIVE's mos is a DMOS, KADID-10k's dmos is none."""
    paths = (
        [os.path.join(folder, options["csv"])] if options["csv"] else glob.glob(f"{glob.escape(folder)}/meta_info_*")
    )
    meta = read_meta(paths[0], Faults("pyiqa", folder))
    twin = _twin(paths[0])
    if not twin:
        yield from _by_column(dataset, meta.label)
        return
    theirs = reader(twin).HIGHER_IS_BETTER
    if theirs == dataset.higher_is_better:
        yield Finding("direction", "ok", f"{direction(dataset)}, as in {twin}, whose column {meta.label} this is")
    else:
        fix = f"set higher_is_better={theirs}, whatever the heading {meta.label} says"
        yield Finding("direction", "fault", f"{direction(dataset)} is said, but the table is that of {twin}", fix=fix)
    if twin == "live":
        what = "scores before their realignment (dmos.mat); dataset live reads the realigned ones, as most papers do"
        yield Finding("labels", "note", what)
    if twin == "koniq10k":
        kind = "MOS of 1..5" if max(r.mos for r in dataset.records) <= 5 else "z-scores of 0..100"
        yield Finding("labels", "note", f"these are {kind}: tables of this name exist with either")
    if twin == "kadid10k":
        yield from _variances(meta, "std")


def _kadid10k(dataset: Dataset, folder: str, options: dict) -> Iterator[Finding]:
    path = os.path.join(folder, "dmos.csv")
    rows = tables.read_csv(path, (), Faults("kadid10k", folder))
    yield from _variances(Meta(rows, "dist_img", "dmos", "ref_img", []), "std" if "std" in rows[0][1] else "var")


def _live(dataset: Dataset, folder: str, options: dict) -> Iterator[Finding]:
    if os.path.exists(os.path.join(folder, "dmos.mat")):
        what = "dmos.mat, from before the realignment, is there too and not read; results with either do not compare"
        yield Finding("labels", "note", what)


_LOOKS = {"folder": _folder, "pyiqa": _pyiqa, "kadid10k": _kadid10k, "live": _live}


def _by_column(dataset: Dataset, column: str) -> Iterator[Finding]:
    """Which direction labels have, by what their column is called, where the levels do not say."""
    if by_levels(dataset):
        return
    says_higher = "dmos" not in column.lower() if "mos" in column.lower() else dataset.higher_is_better
    if says_higher == dataset.higher_is_better:
        what = f"{direction(dataset)}, as told; nothing but the name of the column, {column!r}, can be asked"
        yield Finding("direction", "note", what)
    else:
        fix = (
            f"set higher_is_better={says_higher}: MOS is the quality, DMOS its difference from a perfect picture's. "
            "Where the owners say otherwise, as KADID-10k's do, rename the column"
        )
        yield Finding("direction", "fault", f"{direction(dataset)} is said of a column called {column!r}", fix=fix)


def _practice(dataset: Dataset) -> Iterator[Finding]:
    if {os.path.basename(r.id).lower() for r in dataset.records} >= set(livec.TRAINING):
        fix = "leave their rows out: raters practised on them, and nobody else trains or tests on them"
        yield Finding("names", "fault", "LIVE Challenge's practice pictures have rows", ("t1.bmp to t7.bmp",), fix)


def _variances(meta: Meta, column: str) -> Iterator[Finding]:
    """KADID-10k's `var` is a variance, the square of 1.262 at most. Copies call it std, or hold its root."""
    with contextlib.suppress(ValueError, KeyError):
        greatest = max(float(row[column]) for _, row in meta.rows)
        if column == "std" and greatest > 1.3:
            yield Finding("labels", "note", "the column std holds variances (it is not read)")
        if column == "var" and greatest < 1.3 and len(meta.rows) == KNOWN["kadid10k"].count:
            yield Finding("labels", "note", "the column var holds standard deviations (it is not read)")


def _twin(path: str) -> str:
    """The dataset whose table a meta_info_*.csv is, by its name; "" where that says none that is known."""
    name = os.path.basename(path).lower().removeprefix("meta_info_").removesuffix(".csv").removesuffix("dataset")
    with contextlib.suppress(ConfigError):
        return find({"liveiqa": "live"}.get(name, name))
    return ""
