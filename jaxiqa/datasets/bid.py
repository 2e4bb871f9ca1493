"""BID: 586 photographs with realistic blur and other authentic distortions."""

import os
import re

from jaxiqa.datasets import checks, xlsx
from jaxiqa.datasets.known import Known
from jaxiqa.datasets.records import Dataset
from jaxiqa.errors import DataError

CITATION = (
    "A. Ciancio, A. da Costa, E. da Silva, A. Said, R. Samadani, P. Obrador: No-Reference Blur Assessment of Digital "
    "Pictures Based on Multifeature Classifiers. IEEE TIP 20(1), 2011."
)
LICENSE = "terms of its owners (Universidade Federal do Rio de Janeiro); nothing of it is in this package"
SCORE_RANGE = (0.0, 5.0)
HIGHER_IS_BETTER = True
HOW_TO_GET = (
    "the owners' page is gone; https://github.com/zwx8981/UNIQUE links a copy. Put ImageDatabase/ and "
    "DatabaseGrades.xlsx into data_dir"
)
_TABLE = "DatabaseGrades.xlsx"
MARKERS = (_TABLE,)
KNOWN = Known(586, "0.164", "4.920", "2.953")


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads the first two columns of DatabaseGrades.xlsx (number and mean grade), and the images.

    These are in the folder ImageDatabase/, or beside the table. The old .xls format of the table is a DataError.
    """
    reading = checks.Reading("bid", data_dir, HOW_TO_GET, allow_partial)
    if reading.has("DatabaseGrades.xls") and not reading.has(_TABLE):
        raise DataError(
            f"bid: {reading.path('DatabaseGrades.xls')} is in the old .xls format, which is not read; open it in a "
            f"spreadsheet program and save it as {_TABLE} beside it"
        )
    table = reading.find(_TABLE)
    reading.list_pictures("ImageDatabase" if os.path.isdir(reading.path("ImageDatabase")) else "")
    for where, cells in xlsx.read_cells(reading.path(table))[1:]:  # below the headings
        number = re.fullmatch(r"(\d{1,4})(\.0*)?", cells.get("A", ""))
        if number:
            mos = reading.label(cells.get("B", ""), where, SCORE_RANGE)
            reading.record(f"DatabaseImage{int(number[1]):04d}.JPG", mos, where)
        elif any(cells.values()):
            reading.add("rows without the number of a picture", f"{where} {cells.get('A', '')!r}")
    reading.complete(KNOWN.count)
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER)
