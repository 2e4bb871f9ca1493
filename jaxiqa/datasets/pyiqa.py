"""A dataset as the toolbox pyiqa keeps it: a folder of pictures and a meta_info_*.csv."""

import contextlib
import glob
import os
from collections.abc import Iterator

from jaxiqa.datasets import checks, fact, find, reader
from jaxiqa.datasets.diagnosis import Finding, by_column, direction
from jaxiqa.datasets.meta_csv import read_meta
from jaxiqa.datasets.records import Dataset
from jaxiqa.errors import ConfigError

CITATION = (
    "of the dataset that the table lists; the form is of C. Chen et al., https://github.com/chaofengc/IQA-PyTorch"
)
LICENSE = "of the dataset that the table lists; nothing of it is in this package"
SCORE_RANGE = (0.0, 100.0)  # of several tables; load wants to be told, as the tables do not say it
HIGHER_IS_BETTER = True
HOW_TO_GET = (
    "put meta_info_NAMEDataset.csv of https://huggingface.co/datasets/chaofengc/IQA-Toolbox-Datasets-metainfo and the "
    "folder of pictures that its first columns are relative to into data_dir"
)
MARKERS = ("meta_info_*.csv",)
ANYONES = True


def load(
    data_dir: str | os.PathLike,
    csv: str = "",
    images: str = "",
    score_range: tuple[float, float] | None = None,
    higher_is_better: bool | None = None,
    split_column: str = "",
) -> Dataset:
    """Reads a table by its headings (ref_name, dist_name, img_name, mos, dmos, ...), by position where it has others.

    The headings do not say what a label is: KADID-10k's `dmos` is higher-better, LIVE's `mos` is a DMOS, and that of
    scores before their realignment, KonIQ-10k's `mos` is a z-score. So the scale and its direction are to be given.

    Args:
      data_dir: the folder with the table.
      csv: the table, relative to data_dir; "" takes the only meta_info_*.csv there.
      images: the folder of pictures, relative to data_dir.
      score_range: (lo, hi), constants of the labels' scale. Labels outside are refused.
      higher_is_better: False for difference scores.
      split_column: the column that becomes the official split, e.g. "official_split" or "ratio802_seed123_split_01";
        "" splits as other datasets do.

    Raises:
      ConfigError: no scale, or an unknown column.
      DataError: no table, missing pictures or bad rows, all of them listed.
    """
    reading = checks.Reading("pyiqa", data_dir, HOW_TO_GET, remedy="")
    tables = sorted(glob.glob("meta_info_*.csv", root_dir=reading.folder))
    if not csv and len(tables) > 1:
        raise ConfigError(f"pyiqa: {reading.folder} has several tables; set csv to one of {', '.join(tables)}")
    csv = reading.find(csv or (tables[0] if tables else "meta_info_*.csv"))
    if score_range is None or higher_is_better is None:
        raise ConfigError(f"pyiqa: {csv} does not say what its labels mean; set score_range and higher_is_better")
    limits = checks.limits("pyiqa", score_range)
    meta = read_meta(reading.path(csv), reading)
    if split_column and split_column not in meta.splits:
        raise ConfigError(f"pyiqa: {csv} has no column {split_column!r}; its splits are {', '.join(meta.splits)}")
    for where, row in meta.rows:
        reference = os.path.splitext(os.path.basename(row[meta.reference]))[0] if meta.reference else ""
        mos = reading.label(row[meta.label], where, limits)
        reading.record_file(row[meta.picture], mos, where, reference, inside=images)
    split = None
    if split_column:
        parts = meta.parts(split_column, reading)
        split = {part: [i for i, p in enumerate(parts) if p == part] for part in ("train", "val", "test")}
    return reading.dataset(limits, higher_is_better, official_split=split)


def look(dataset: Dataset, folder: str, options: dict) -> Iterator[Finding]:
    """Headings of these tables mislead: LIVE's mos is a DMOS, KADID-10k's dmos is none."""
    path = os.path.join(folder, options["csv"] or glob.glob("meta_info_*.csv", root_dir=folder)[0])
    meta = read_meta(path, checks.Faults("pyiqa", folder))
    twin = _twin(path)
    if not twin:
        yield from by_column(dataset, meta.label)
        return
    theirs = reader(twin).HIGHER_IS_BETTER
    if theirs == dataset.higher_is_better:
        yield Finding("direction", "ok", f"{direction(dataset)}, as in {twin}, whose column {meta.label} this is")
    else:
        fix = f"set higher_is_better={theirs}, whatever the heading {meta.label} says"
        yield Finding("direction", "fault", f"{direction(dataset)} is said, but the table is that of {twin}", fix=fix)
    yield from fact(twin, "look_at_table")(dataset, meta)


def _twin(path: str) -> str:
    """The dataset whose table a meta_info_*.csv is, by its name; "" if that says none that is known."""
    name = os.path.basename(path).lower().removeprefix("meta_info_").removesuffix(".csv").removesuffix("dataset")
    with contextlib.suppress(ConfigError):
        return find(name)
    return ""
