"""LIVE Image Quality Assessment Database, release 2: 29 pristine images, 5 distortions, 779 rated images."""

import os
from collections.abc import Iterator

from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.diagnosis import Finding
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.formats.meta_csv import Meta
from jaxiqa.datasets.formats.tables import read_mat
from jaxiqa.datasets.records import Dataset

CITATION = (
    "H. R. Sheikh, Z. Wang, L. Cormack, A. C. Bovik: LIVE Image Quality Assessment Database Release 2. "
    "https://live.ece.utexas.edu/research/quality/"
)
LICENSE = "copyright 2005 The University of Texas at Austin, see its notice; nothing of it is in this package"
SCORE_RANGE = (0.0, 100.0)
HIGHER_IS_BETTER = False
HOW_TO_GET = (
    "ask for databaserelease2.zip on https://live.ece.utexas.edu/research/quality/subjective.htm, unpack it to "
    "data_dir, and put dmos_realigned.mat, a link of its own on that page, beside refnames_all.mat"
)
ALIASES = ("liveiqa",)
MARKERS = ("refnames_all.mat",)
_BEFORE = "dmos.mat, and lists made from it, hold the scores before their realignment"
KNOWN = Known(779, "-2.640", "111.775", "48.58", others=_BEFORE)

COUNTS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}  # in the order of the label file
LIMITS = (-10.0, 120.0)  # realigned scores run from -2.64 to 111.77


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads the realigned difference scores (DMOS) in dmos_realigned.mat, and the references in refnames_all.mat.

    The images are in jp2k/, jpeg/, wn/, gblur/ (or blur/) and fastfading/. The 203 undistorted copies among the 982
    images are left out. dmos.mat, with the scores before their realignment, is not read. Strengths of the distortions
    are unknown. Records are sorted by reference.
    """
    reading = checks.Reading("live", data_dir, HOW_TO_GET, allow_partial)
    (references,) = read_mat(reading.path(reading.find("refnames_all.mat")), "refnames_all")
    scores, undistorted = read_mat(reading.path(reading.find("dmos_realigned.mat")), "dmos_new", "orgs")
    total = sum(COUNTS.values())
    reading.count(len(references), total, "names in refnames_all.mat")
    reading.count(len(scores), total, "scores in dmos_realigned.mat")
    reading.count(int((undistorted != 0).sum()), total - KNOWN.count, "undistorted copies in dmos_realigned.mat")
    reading.refuse()  # with wrong counts, scores could not be assigned to images

    for distortion in COUNTS:
        folders = ("gblur", "blur") if distortion == "gblur" else (distortion,)
        reading.list_images(*folders, prefix=f"{distortion}/")
    names = [f"{distortion}/img{n}.bmp" for distortion, count in COUNTS.items() for n in range(1, count + 1)]
    for entry, name in enumerate(names):
        if not undistorted[entry]:
            where = f"dmos_realigned.mat entry {entry + 1}"
            mos = reading.label(repr(float(scores[entry])), where, LIMITS)
            reading.record(name, mos, where, os.path.splitext(references[entry])[0], name.split("/")[0])
    reading.complete(extra_allowed=names)
    listed = list(reading.records)
    reading.sort(lambda r: r.reference)
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER, listed=listed)


def look(dataset: Dataset, folder: str, options: dict) -> Iterator[Finding]:
    """Reports whether the older scores are in the folder too."""
    if os.path.exists(os.path.join(folder, "dmos.mat")):
        what = "dmos.mat, with the scores before their realignment, exists but is not read; results on either differ"
        yield Finding("labels", "note", what)


def look_at_table(dataset: Dataset, meta: Meta) -> Iterator[Finding]:
    """Reports which scores pyiqa's table has."""
    what = "scores before their realignment (dmos.mat); the dataset live reads the realigned ones, as most papers do"
    yield Finding("labels", "note", what)
