"""CID2013: 474 photographs of 36 scenes, each taken with a dozen cameras and phones, in six image sets."""

import glob
import os
import re

from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.formats import xlsx
from jaxiqa.datasets.records import Dataset
from jaxiqa.errors import ConfigError

CITATION = (
    "T. Virtanen, M. Nuutinen, M. Vaahteranoksa, P. Oittinen, J. Häkkinen: CID2013: A Database for Evaluating "
    "No-Reference Image Quality Assessment Algorithms. IEEE TIP 24(1), 2015. https://zenodo.org/record/2647033"
)
LICENSE = "terms of its owners, see the download page; nothing of it is in this package"
SCORE_RANGE = (0.0, 100.0)
HIGHER_IS_BETTER = True
HOW_TO_GET = "download the archive from https://zenodo.org/record/2647033 and unpack it to data_dir"
_TABLE = "CID2013 data - version 12112014.xlsx"
MARKERS = (_TABLE,)
KNOWN = Known(474, "-9.55", "87.88", "46.07")  # realigned scores

LIMITS = (-10.0, 100.0)  # realigned scores run from -9.55 to 87.88
UNITS = ("scene", "image_set", "picture")
_NAME = re.compile(r"(IS_(?:I|II|III|IV|V|VI))_C0[1-8]_D\d\d")


def load(data_dir: str | os.PathLike, unit: str = "scene", allow_partial: bool = False) -> Dataset:
    """Reads the realigned scores, the only ones on one scale, and the images in IS1/co1/ to IS6/co8/.

    Each scene of an image set was photographed with a dozen cameras. A split by image therefore has every scene both in
    the training and in the test part.

    Args:
      data_dir: the folder.
      unit: what splits keep together: "scene" (36 of them), "image_set" (6), or "picture", a single image, as random
        splits of other work do.
      allow_partial: whether rows without an image are left out instead of refused.

    Raises:
      ConfigError: another unit.
      DataError: the folder cannot be used.
    """
    if unit not in UNITS:
        raise ConfigError(
            f"cid2013: unit must be {', '.join(UNITS[:-1])} or {UNITS[-1]}, not {unit!r}", code="value", key="unit"
        )
    reading = checks.Reading("cid2013", data_dir, HOW_TO_GET, allow_partial)
    table = reading.find(_TABLE)
    reading.list_images(*sorted(glob.glob("IS[1-6]/*", root_dir=reading.folder)))
    for where, row in xlsx.read_sheet(reading.path(table), "CID2013 MOS", ("Source_ID", "Realigned MOS")):
        written, mos = row["Source_ID"], reading.label(row["Realigned MOS"], where, LIMITS)
        if match := _NAME.fullmatch(written):
            reference = {"scene": written[:-4], "image_set": match[1], "picture": ""}[unit]
            reading.record(f"{written}.jpg", mos, where, reference)
        else:
            reading.add("names that are not like IS_I_C01_D01", f"{where} {written!r}")
    reading.complete(KNOWN.count)
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER)
