"""A dataset in the form of the toolbox pyiqa: a folder of images and a meta_info_*.csv."""

import contextlib
import glob
import os
from collections.abc import Iterator

from jaxiqa.datasets import checks, fact, find, reader
from jaxiqa.datasets.doctor.diagnosis import Finding, by_column, direction
from jaxiqa.datasets.formats.meta_csv import read_meta
from jaxiqa.datasets.records import Dataset
from jaxiqa.errors import ConfigError

CITATION = (
    "of the dataset that the table lists; the form is from C. Chen et al., https://github.com/chaofengc/IQA-PyTorch"
)
LICENSE = "of the dataset that the table lists; nothing of it is in this package"
SCORE_RANGE = (0.0, 100.0)  # of several tables; users of `load` must state it, because the tables do not
HIGHER_IS_BETTER = True
HOW_TO_GET = (
    "put meta_info_NAMEDataset.csv of https://huggingface.co/datasets/chaofengc/IQA-Toolbox-Datasets-metainfo and the "
    "folder of images that its first columns are relative to into data_dir"
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
    """Reads a table by its headings (ref_name, dist_name, img_name, mos, dmos, ...), or else by position.

    The headings do not define the labels: KADID-10k's `dmos` is better if higher, LIVE's `mos` is a DMOS (before the
    realignment of the scores), and KonIQ-10k's `mos` is a z-score. So the user must state the scale and its direction.

    Args:
      data_dir: the folder with the table.
      csv: the table, relative to data_dir; "" takes the only meta_info_*.csv there.
      images: the folder of images, relative to data_dir.
      score_range: (lo, hi), the constants of the labels' scale. Labels outside are refused.
      higher_is_better: False for difference scores.
      split_column: the column that becomes the official split, e.g. "official_split" or "ratio802_seed123_split_01";
        "" uses random splits.

    Raises:
      ConfigError: the scale is missing, or the column is unknown.
      DataError: there is no table, or images are missing or rows bad; the message lists all of them.
    """
    reading = checks.Reading("pyiqa", data_dir, HOW_TO_GET, remedy="")
    tables = sorted(glob.glob("meta_info_*.csv", root_dir=reading.folder))
    if not csv and len(tables) > 1:
        raise ConfigError(
            f"pyiqa: {reading.folder} has several tables; set csv to one of {', '.join(tables)}",
            code="missing",
            key="csv",
        )
    csv = reading.find(csv or (tables[0] if tables else "meta_info_*.csv"))
    if score_range is None or higher_is_better is None:
        raise ConfigError(
            f"pyiqa: {csv} does not define the scale of its labels; set score_range and higher_is_better",
            code="missing",
            key="score_range",
        )
    limits = checks.limits("pyiqa", score_range)
    meta = read_meta(reading.path(csv), reading)
    if split_column and split_column not in meta.splits:
        raise ConfigError(
            f"pyiqa: {csv} has no column {split_column!r}; its splits are {', '.join(meta.splits)}",
            code="unknown",
            key="split_column",
        )
    reading.locate((row[meta.image] for _, row in meta.rows), images)
    for where, row in meta.rows:
        reference = os.path.splitext(os.path.basename(row[meta.reference]))[0] if meta.reference else ""
        mos = reading.label(row[meta.label], where, limits)
        reading.record_file(row[meta.image], mos, where, reference, inside=images)
    split = None
    if split_column:
        parts = meta.parts(split_column, reading)
        split = {part: [i for i, p in enumerate(parts) if p == part] for part in ("train", "val", "test")}
    return reading.dataset(limits, higher_is_better, official_split=split)


def look(dataset: Dataset, folder: str, options: dict) -> Iterator[Finding]:
    """Checks the direction: headings of these tables mislead (LIVE's mos is a DMOS, KADID-10k's dmos is not)."""
    path = os.path.join(folder, options["csv"] or glob.glob("meta_info_*.csv", root_dir=folder)[0])
    meta = read_meta(path, checks.Faults("pyiqa", folder))
    twin = _twin(path)
    if not twin:
        yield from by_column(dataset, meta.label)
        return
    theirs = reader(twin).HIGHER_IS_BETTER
    if theirs == dataset.higher_is_better:
        yield Finding("direction", "ok", f"{direction(dataset)}, as in {twin}, whose table this is")
    else:
        fix = f"set higher_is_better={theirs}; the heading {meta.label} is misleading"
        yield Finding("direction", "fault", f"{direction(dataset)} is set, but the table is that of {twin}", fix=fix)
    yield from fact(twin, "look_at_table")(dataset, meta)


def _twin(path: str) -> str:
    """The dataset that a meta_info_*.csv belongs to, by the name of the file; "" if it is unknown."""
    name = os.path.basename(path).lower().removeprefix("meta_info_").removesuffix(".csv").removesuffix("dataset")
    with contextlib.suppress(ConfigError):
        return find(name)
    return ""
