"""A dataset as the toolbox pyiqa keeps it: a folder of pictures and a meta_info_*.csv."""

import glob
import os
import posixpath

from jaxiqa.datasets import checks
from jaxiqa.datasets.meta_csv import read_meta
from jaxiqa.datasets.records import Dataset, Record
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
    folder = checks.open_folder("pyiqa", data_dir, HOW_TO_GET)
    tables = sorted(os.path.basename(path) for path in glob.glob(os.path.join(glob.escape(folder), "meta_info_*.csv")))
    if not csv and len(tables) > 1:
        raise ConfigError(f"pyiqa: {folder} has several tables; set csv to one of {', '.join(tables)}")
    csv = csv or (tables[0] if tables else checks.find_one("pyiqa", folder, ("meta_info_*.csv",), HOW_TO_GET))
    checks.find_one("pyiqa", folder, (csv,), HOW_TO_GET)
    if score_range is None or higher_is_better is None:
        raise ConfigError(f"pyiqa: {csv} does not say what its labels mean; set score_range and higher_is_better")
    limits = checks.limits("pyiqa", score_range)
    faults = checks.Faults("pyiqa", folder)
    meta = read_meta(os.path.join(folder, csv), faults)
    if split_column and split_column not in meta.splits:
        raise ConfigError(f"pyiqa: {csv} has no column {split_column!r}; its splits are {', '.join(meta.splits)}")

    records, first_row = [], {}
    for where, row in meta.rows:
        name, mos = posixpath.normpath(row[meta.picture]), faults.label(row[meta.label], where, limits)
        if checks.leaves(name) or not row[meta.picture]:
            faults.add("paths that leave the folder or are empty", f"{where} {row[meta.picture]!r}")
        elif name in first_row:
            faults.add("rows for a picture that has one already", f"{where} {name} (as {first_row[name]})")
        elif not os.path.isfile(os.path.join(folder, images, name)):
            faults.add("missing pictures", f"{where} {name}")
        first_row.setdefault(name, where)
        reference = os.path.splitext(os.path.basename(row[meta.reference]))[0] if meta.reference else ""
        records.append(Record(os.path.join(folder, images, name), mos, name, reference))
    split = None
    if split_column:
        parts = meta.parts(split_column, faults)
        split = {part: [i for i, p in enumerate(parts) if p == part] for part in ("train", "val", "test")}
    faults.refuse()
    return Dataset("pyiqa", records, limits, higher_is_better, official_split=split)
