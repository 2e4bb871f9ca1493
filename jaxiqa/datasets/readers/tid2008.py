"""TID2008: 25 pristine images, 17 distortions at 4 levels, 1,700 rated images of 512x384."""

import os

from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.readers import tid2013
from jaxiqa.datasets.records import Dataset

CITATION = (
    "N. Ponomarenko et al.: TID2008 - A Database for Evaluation of Full-Reference Visual Quality Assessment Metrics. "
    "Advances of Modern Radioelectronics 10, 2009. https://www.ponomarenko.info/tid2008.htm"
)
LICENSE = "terms of its owners, see the download page; nothing of it is in this package"
SCORE_RANGE = tid2013.SCORE_RANGE
HIGHER_IS_BETTER = tid2013.HIGHER_IS_BETTER
HOW_TO_GET = "download tid2008.rar from https://www.ponomarenko.info/tid2008.htm and unpack it to data_dir"
MARKERS = (tid2013.TABLE,)
KNOWN = Known(1_700, "0.0", "7.714", "4.480", ((384, 512),))

DISTORTIONS, LEVELS = tid2013.DISTORTIONS[:17], 4


def holds(folder: str | os.PathLike) -> bool:
    """Whether a folder's list of labels is not longer than this dataset's; TID2013's list has the same name."""
    return tid2013.rows(folder) <= KNOWN.count


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads mos_with_names.txt and distorted_images/; ids are file names in lower case."""
    return tid2013.read(checks.Reading("tid2008", data_dir, HOW_TO_GET, allow_partial), DISTORTIONS, LEVELS)
