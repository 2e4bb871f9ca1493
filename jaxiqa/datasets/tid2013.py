"""TID2013: 25 pristine pictures, 24 distortions at 5 levels, 3,000 rated pictures of 512x384."""

import os

from jaxiqa.datasets import tid
from jaxiqa.datasets.records import Dataset

CITATION = (
    "N. Ponomarenko et al.: Image database TID2013: Peculiarities, results and perspectives. Signal Processing: Image "
    "Communication 30, 2015. https://www.ponomarenko.info/tid2013.htm"
)
LICENSE = "terms of its owners, see the download page; nothing of it is in this package"
SCORE_RANGE = tid.SCORE_RANGE
HIGHER_IS_BETTER = tid.HIGHER_IS_BETTER
HOW_TO_GET = "download tid2013.rar from https://www.ponomarenko.info/tid2013.htm and unpack it to data_dir"

DISTORTIONS, LEVELS = tid.DISTORTIONS, 5


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads mos_with_names.txt and distorted_images/; ids are file names in lower case.

    Args:
      data_dir: the folder with mos_with_names.txt.
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.

    Raises:
      DataError: the wrong folder, missing or extra pictures or rows, bad labels; all of them listed.
    """
    return tid.read("tid2013", data_dir, DISTORTIONS, LEVELS, HOW_TO_GET, allow_partial)
