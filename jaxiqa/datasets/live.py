"""LIVE Image Quality Assessment Database, release 2: 29 pristine pictures, 5 distortions, 779 rated pictures."""

import os

from jaxiqa.datasets import checks
from jaxiqa.datasets.mat import read_mat
from jaxiqa.datasets.records import Dataset, Record

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

COUNTS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}  # in the order of the label file
LIMITS = (-10.0, 120.0)  # realigned scores run from -2.64 to 111.77


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads the realigned difference scores (DMOS) of dmos_realigned.mat, and the references of refnames_all.mat.

    The 203 undistorted copies among the 982 pictures are left out. dmos.mat, which holds the scores before their
    realignment, is not read. Strengths of the distortions are not known. Records are sorted by reference.

    Args:
      data_dir: the folder with the .mat files and jp2k/, jpeg/, wn/, gblur/ (or blur/), fastfading/.
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.

    Raises:
      DataError: the wrong folder, missing or extra pictures, bad labels; all of them listed.
    """
    folder = checks.open_folder("live", data_dir, HOW_TO_GET)
    checks.find_one("live", folder, ("refnames_all.mat",), HOW_TO_GET)
    checks.find_one("live", folder, ("dmos_realigned.mat",), HOW_TO_GET)
    (references,) = read_mat(os.path.join(folder, "refnames_all.mat"), "refnames_all")
    scores, undistorted = read_mat(os.path.join(folder, "dmos_realigned.mat"), "dmos_new", "orgs")
    faults = checks.Faults("live", folder, HOW_TO_GET)
    total = sum(COUNTS.values())
    faults.count(len(references), total, "names in refnames_all.mat")
    faults.count(len(scores), total, "scores in dmos_realigned.mat")
    faults.count(int((undistorted != 0).sum()), total - 779, "undistorted copies in dmos_realigned.mat")
    faults.refuse()  # without these numbers no score belongs to a picture for certain

    records, entry = [], 0
    for distortion, count in COUNTS.items():
        names = ("gblur", "blur") if distortion == "gblur" else (distortion,)
        inside = [n for n in names if os.path.isdir(os.path.join(folder, n))]
        pictures = checks.list_pictures(folder, inside, faults)
        rated = []
        for number in range(1, count + 1):
            if not undistorted[entry]:
                rated.append(f"img{number}.bmp")
                mos = faults.label(repr(float(scores[entry])), f"dmos_realigned.mat entry {entry + 1}", LIMITS)
                reference = os.path.splitext(references[entry])[0]
                if rated[-1] in pictures:
                    path = os.path.join(folder, pictures[rated[-1]])
                    records.append(Record(path, mos, f"{distortion}/{rated[-1]}", reference, distortion))
            entry += 1
        if not allow_partial:
            copies = (f"img{n}.bmp" for n in range(1, count + 1))
            faults.add_all("missing pictures", (f"{distortion}/{name}" for name in rated if name not in pictures))
            faults.compare((), pictures, extra_allowed=copies)
    faults.refuse()
    listed = [r.id for r in records]
    records.sort(key=lambda r: r.reference)
    return Dataset("live", records, SCORE_RANGE, HIGHER_IS_BETTER, listed=listed)
