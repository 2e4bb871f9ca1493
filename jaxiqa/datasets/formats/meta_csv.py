"""Tables of the toolbox pyiqa, meta_info_*.csv: images, labels and splits. Their headings differ from file to file."""

import dataclasses
import re

from jaxiqa.datasets import facts
from jaxiqa.datasets.checks import Faults
from jaxiqa.datasets.formats import tables
from jaxiqa.errors import DataError

# Known headings of columns. A file without them is read by position, as the toolbox does.
_REFERENCE = ("ref_name", "hq_name")
_IMAGE = ("dist_name", "img_name", "img_path", "image name", "image_name")
_LABEL = ("mos", "dmos", "elo_score", "score")

_PARTS = {"train": "train", "training": "train", "val": "val", "validation": "val", "test": "test"}
_PARTS |= {"0": "train", "1": "val", "2": "test"}  # in its file of FLIVE


@dataclasses.dataclass(frozen=True)
class Meta:
    """One table.

    Attributes:
      rows: ("file:line", {column: text}) of every image.
      image, label: the columns with its path and its opinion score.
      reference: the column with the path of the pristine image; "" if there is none.
      splits: the columns that name the part of a row.
    """

    rows: list[tuple[str, dict[str, str]]]
    image: str
    label: str
    reference: str
    splits: list[str]

    def parts(self, column: str, faults: Faults) -> list[str]:
        """Returns the part (train, val or test) of every row. Anything else is added as a fault; its part is ""."""
        found = []
        for where, row in self.rows:
            found.append(_PARTS.get(row[column].lower(), ""))
            if not found[-1]:
                faults.add(f"rows whose {column} is not train, val or test", f"{where} {row[column]!r}")
        return found


def read_meta(path: str, faults: Faults) -> Meta:
    """Reads a table by known headings, else by position: image, label; or reference, image, label.

    Practice images at the start of a table (LIVE Challenge has seven) are left out: nobody trains or tests on them, and
    the row numbers of published splits do not count them.

    Raises:
      DataError: the file is not such a table.
    """
    rows = tables.read_csv(path, (), faults)
    header = list(rows[0][1])
    known = {name.lower(): name for name in header}

    def called(names):
        return next((known[name] for name in names if name in known), "")

    image, label, reference = called(_IMAGE), called(_LABEL), called(_REFERENCE)
    if not (image and label):
        if len(header) < 2:
            raise DataError(
                f"{path} has only one column; a table needs at least image and label", code="format", key=path
            )
        first = list(rows[0][1].values())
        if len(first) > 2 and not _is_number(first[1]):
            reference, image, label = header[:3]
        else:
            (image, label), reference = header[:2], ""
    for names in facts("PRACTICE").values():
        if tuple(row[image] for _, row in rows[: len(names)]) == names:
            rows = rows[len(names) :]
    return Meta(rows, image, label, reference, [name for name in header if "split" in name.lower()])


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", text))
