"""SPAQ: 11,125 photographs of 66 smartphones at full resolution, rated in a laboratory."""

import os

from jaxiqa.datasets import checks, xlsx
from jaxiqa.datasets.records import Dataset, Record

CITATION = (
    "Y. Fang, H. Zhu, Y. Zeng, K. Ma, Z. Wang: Perceptual Quality Assessment of Smartphone Photography. CVPR 2020. "
    "https://github.com/h4nwei/SPAQ"
)
LICENSE = "terms of its owners, see the download page; nothing of it is in this package"
SCORE_RANGE = (0.0, 100.0)
HIGHER_IS_BETTER = True
HOW_TO_GET = (
    "follow https://github.com/h4nwei/SPAQ to the archive and unpack it; data_dir is the folder with TestImage/ and "
    "Annotations/"
)

_TABLE = "MOS and Image attribute scores.xlsx"


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads `MOS and Image attribute scores.xlsx` (in Annotations/ or beside it) and TestImage/.

    Most pictures have more than four million pixels, and the side they are shrunk to decides the result: 512 in the
    owners' paper, 448 in other work, none in GlintIQA. A result without its resize cannot be compared.

    Args:
      data_dir: the folder with TestImage/ and Annotations/.
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.

    Raises:
      DataError: the wrong folder, missing or extra pictures or rows, bad labels; all of them listed.
    """
    folder = checks.open_folder("spaq", data_dir, HOW_TO_GET)
    table = checks.find_one("spaq", folder, (f"Annotations/{_TABLE}", _TABLE), HOW_TO_GET)
    images = checks.find_one("spaq", folder, ("TestImage",), HOW_TO_GET)
    faults = checks.Faults("spaq", folder, HOW_TO_GET)
    pictures = checks.list_pictures(folder, [images], faults)

    records: dict[str, Record] = {}
    for where, row in xlsx.read_sheet(os.path.join(folder, table), "", ("Image name", "MOS")):
        name, mos = row["Image name"], faults.label(row["MOS"], where, SCORE_RANGE)
        if name in records:
            faults.add("rows for a picture that has one already", f"{where} {name}")
        records[name] = Record(os.path.join(folder, pictures.get(name.lower(), "")), mos, name)
    if allow_partial:
        records = {name: r for name, r in records.items() if name.lower() in pictures}
    else:
        faults.compare(records, pictures)
        faults.count(len(records), 11_125, "rows")
    faults.refuse()
    return Dataset("spaq", list(records.values()), SCORE_RANGE, HIGHER_IS_BETTER)
