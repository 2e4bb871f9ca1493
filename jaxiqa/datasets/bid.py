"""BID: 586 photographs with realistic blur and other authentic distortions."""

import os
import re

from jaxiqa.datasets import checks, xlsx
from jaxiqa.datasets.records import Dataset, Record
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


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads the first two columns of DatabaseGrades.xlsx (number and mean grade), and the pictures.

    Args:
      data_dir: the folder with DatabaseGrades.xlsx; the pictures are in its folder ImageDatabase/, or in data_dir
        itself.
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.

    Raises:
      DataError: the wrong folder, missing or extra pictures or rows, bad labels, all of them listed; or a workbook in
        the old .xls format.
    """
    folder = checks.open_folder("bid", data_dir, HOW_TO_GET)
    if os.path.exists(os.path.join(folder, "DatabaseGrades.xls")) and not os.path.exists(os.path.join(folder, _TABLE)):
        raise DataError(
            f"bid: {os.path.join(folder, 'DatabaseGrades.xls')} is in the old .xls format, which is not read; open it "
            f"in a spreadsheet program and save it as {_TABLE} beside it"
        )
    checks.find_one("bid", folder, (_TABLE,), HOW_TO_GET)
    faults = checks.Faults("bid", folder, HOW_TO_GET)
    inside = "ImageDatabase" if os.path.isdir(os.path.join(folder, "ImageDatabase")) else ""
    pictures = checks.list_pictures(folder, [inside], faults)

    records: dict[str, Record] = {}
    for where, cells in xlsx.read_cells(os.path.join(folder, _TABLE))[1:]:  # below the headings
        number = re.fullmatch(r"(\d{1,4})(\.0*)?", cells.get("A", ""))
        if not any(cells.values()):
            continue
        if not number:
            faults.add("rows without the number of a picture", f"{where} {cells.get('A', '')!r}")
            continue
        name, mos = f"DatabaseImage{int(number[1]):04d}.JPG", faults.label(cells.get("B", ""), where, SCORE_RANGE)
        if name in records:
            faults.add("rows for a picture that has one already", f"{where} {name}")
        records[name] = Record(os.path.join(folder, pictures.get(name.lower(), "")), mos, name)
    if allow_partial:
        records = {name: r for name, r in records.items() if name.lower() in pictures}
    else:
        faults.compare(records, pictures)
        faults.count(len(records), 586, "rows")
    faults.refuse()
    return Dataset("bid", list(records.values()), SCORE_RANGE, HIGHER_IS_BETTER)
