"""SPAQ: 11,125 photographs of 66 smartphones at full resolution, rated in a laboratory."""

import os

from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.formats import tables, xlsx
from jaxiqa.datasets.records import Dataset

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
MARKERS = (f"Annotations/{_TABLE}",)
KNOWN = Known(11_125, "2", "96", "50.32")


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads `MOS and Image attribute scores.xlsx`, or its sheet as .csv, (in Annotations/ or beside it) and TestImage/.

    Most images have more than four million pixels, and the side length to which they are resized affects the result:
    512 in the owners' paper, 448 in other work, no resize in GlintIQA. Report it with every result.
    """
    reading = checks.Reading("spaq", data_dir, HOW_TO_GET, allow_partial)
    sheet = f"{os.path.splitext(_TABLE)[0]}.csv"
    table = reading.find(f"Annotations/{_TABLE}", _TABLE, f"Annotations/{sheet}", sheet)
    reading.list_images(reading.find("TestImage"))
    columns, path = ("Image name", "MOS"), reading.path(table)
    rows = tables.read_csv(path, columns, reading) if table.endswith(".csv") else xlsx.read_sheet(path, "", columns)
    for where, row in rows:
        reading.record(row["Image name"], reading.label(row["MOS"], where, SCORE_RANGE), where)
    reading.complete(KNOWN.count)
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER)
