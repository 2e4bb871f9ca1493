"""TID2008: 25 pristine pictures, 17 distortions at 4 levels, 1,700 rated pictures of 512x384."""

import os

from jaxiqa.datasets import tid
from jaxiqa.datasets.records import Dataset

CITATION = (
    "N. Ponomarenko et al.: TID2008 - A Database for Evaluation of Full-Reference Visual Quality Assessment Metrics. "
    "Advances of Modern Radioelectronics 10, 2009. https://www.ponomarenko.info/tid2008.htm"
)
LICENSE = "terms of its owners, see the download page; nothing of it is in this package"
SCORE_RANGE = tid.SCORE_RANGE
HIGHER_IS_BETTER = tid.HIGHER_IS_BETTER
HOW_TO_GET = "download tid2008.rar from https://www.ponomarenko.info/tid2008.htm and unpack it to data_dir"

DISTORTIONS, LEVELS = tid.DISTORTIONS[:17], 4


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads mos_with_names.txt and distorted_images/; ids are file names in lower case.

    Args:
      data_dir: the folder with mos_with_names.txt.
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.

    Raises:
      DataError: the wrong folder, missing or extra pictures or rows, bad labels; all of them listed.
    """
    return tid.read("tid2008", data_dir, DISTORTIONS, LEVELS, HOW_TO_GET, allow_partial)
