"""BID: 586 photographs with realistic blur and other authentic distortions."""

import os
import re

from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.formats import xlsx
from jaxiqa.datasets.records import Dataset
from jaxiqa.errors import DataError

CITATION = (
    "A. Ciancio, A. da Costa, E. da Silva, A. Said, R. Samadani, P. Obrador: No-Reference Blur Assessment of Digital "
    "Images Based on Multifeature Classifiers. IEEE TIP 20(1), 2011."
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

    The images are in ImageDatabase/, or beside the table. The old .xls format of the table is a DataError.
    """
    reading = checks.Reading("bid", data_dir, HOW_TO_GET, allow_partial)
    if reading.has("DatabaseGrades.xls") and not reading.has(_TABLE):
        raise DataError(
            f"bid: {reading.path('DatabaseGrades.xls')} has the old .xls format, which jaxiqa does not read; open it "
            f"in a spreadsheet program and save it as {_TABLE} beside it",
            code="format",
            key=reading.path("DatabaseGrades.xls"),
        )
    table = reading.find(_TABLE)
    reading.list_images("ImageDatabase" if os.path.isdir(reading.path("ImageDatabase")) else "")
    for where, cells in xlsx.read_cells(reading.path(table))[1:]:  # skips the headings
        number = re.fullmatch(r"(\d{1,4})(\.0*)?", cells.get("A", ""))
        if number:
            mos = reading.label(cells.get("B", ""), where, SCORE_RANGE)
            reading.record(f"DatabaseImage{int(number[1]):04d}.JPG", mos, where)
        elif any(cells.values()):
            reading.add(checks.incomplete_rows("the number of an image"), f"{where} {cells.get('A', '')!r}")
    reading.complete(KNOWN.count)
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER)
