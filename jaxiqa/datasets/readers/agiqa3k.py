"""AGIQA-3K: 2,982 images that six generators made of 300 prompts, rated in a laboratory."""

import os
import re

from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.formats import tables
from jaxiqa.datasets.records import Dataset

CITATION = (
    "C. Li et al.: AGIQA-3K: An Open Database for AI-Generated Image Quality Assessment. IEEE TCSVT 34(8), 2024. "
    "arXiv 2306.04717"
)
LICENSE = "academic and non-commercial use, see the owners' page; nothing of it is in this package"
SCORE_RANGE = (0.0, 5.0)
HIGHER_IS_BETTER = True
HOW_TO_GET = (
    "follow https://github.com/lcysyzxdxc/AGIQA-3k-Database to the images, and put them into data_dir or its folder "
    "images/, beside data.csv"
)
ALIASES = ("agiqa-3k", "agiqa_3k")
TITLE = "AGIQA-3K"
_TABLE = "data.csv"
MARKERS = (_TABLE,)
KNOWN = Known(2_982, "0.000", "4.489", "2.5004")
COLUMNS = ("name", "prompt", "mos_quality", "std_quality")


def holds(folder: str | os.PathLike) -> bool:
    """Whether data.csv has the owners' columns: other datasets may have a file of this name."""
    return {*COLUMNS} <= {*re.split(r"[,\s]", tables.read_text(os.path.join(folder, _TABLE)).partition("\n")[0])}


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads the columns name, prompt, mos_quality and std_quality of data.csv, and the images.

    The reference of a record is its prompt, so that the images of one prompt stay in one part of a split. Its
    distortion is its generator, the first word of its name.
    """
    reading = checks.Reading("agiqa3k", data_dir, HOW_TO_GET, allow_partial)
    table = reading.find(_TABLE)
    reading.list_images("", "images")
    for where, row in tables.read_csv(reading.path(table), COLUMNS, reading):
        name, mos = row["name"], reading.label(row["mos_quality"], where, SCORE_RANGE)
        std = checks.spread_of(row["std_quality"])
        reading.record(name, mos, where, row["prompt"], name.partition("_")[0], std=std)
    reading.complete(KNOWN.count)
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER)
