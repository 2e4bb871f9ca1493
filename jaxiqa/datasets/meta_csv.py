"""Tables of the toolbox pyiqa, meta_info_*.csv: pictures, labels and splits, with headings that differ by file."""

import dataclasses
import re

from jaxiqa.datasets import facts, tables
from jaxiqa.datasets.checks import Faults
from jaxiqa.errors import DataError

# Headings that say what a column is. Files without them are read by position, as the toolbox does.
_REFERENCE = ("ref_name", "hq_name")
_PICTURE = ("dist_name", "img_name", "img_path", "image name", "image_name")
_LABEL = ("mos", "dmos", "elo_score", "score")

_PARTS = {"train": "train", "training": "train", "val": "val", "validation": "val", "test": "test"}
_PARTS |= {"0": "train", "1": "val", "2": "test"}  # in its file of FLIVE


@dataclasses.dataclass(frozen=True)
class Meta:
    """One table."""

    rows: list[tuple[str, dict[str, str]]]  # ("file:line", {column: text}) of every picture
    # picture, label: the columns with its path and its opinion score
    picture: str
    label: str
    reference: str  # the column with the pristine picture's path, "" if there is none
    splits: list[str]  # the columns that say which part a row is in

    def parts(self, column: str, faults: Faults) -> list[str]:
        """The part (train, val or test) of every row; anything else becomes a fault and ""."""
        found = []
        for where, row in self.rows:
            found.append(_PARTS.get(row[column].lower(), ""))
            if not found[-1]:
                faults.add(f"rows whose {column} is not train, val or test", f"{where} {row[column]!r}")
        return found


def read_meta(path: str, faults: Faults) -> Meta:
    """A table by its headings where they are known, else by position: picture, label, or reference, picture, label.

    Practice images that head a table (LIVE Challenge's seven) are left out: nobody trains or tests on them, and the row
    numbers of published splits do not count them.

    Raises:
      DataError: the file is no such table.
    """
    rows = tables.read_csv(path, (), faults)
    header = list(rows[0][1])
    known = {name.lower(): name for name in header}

    def called(names):
        return next((known[name] for name in names if name in known), "")

    picture, label, reference = called(_PICTURE), called(_LABEL), called(_REFERENCE)
    if not (picture and label):
        if len(header) < 2:
            raise DataError(f"{path} has one column only; a table has at least the picture and its label")
        first = list(rows[0][1].values())
        if len(first) > 2 and not _is_number(first[1]):
            reference, picture, label = header[:3]
        else:
            (picture, label), reference = header[:2], ""
    for names in facts("PRACTICE").values():
        if tuple(row[picture] for _, row in rows[: len(names)]) == names:
            rows = rows[len(names) :]
    return Meta(rows, picture, label, reference, [name for name in header if "split" in name.lower()])


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", text))
