"""LIVE In the Wild Image Quality Challenge (LIVEC, CLIVE): 1,162 phone photographs with authentic distortions."""

import os

from jaxiqa.datasets import checks
from jaxiqa.datasets.mat import read_mat
from jaxiqa.datasets.records import Dataset, Record

CITATION = (
    "D. Ghadiyaram, A. C. Bovik: Massive Online Crowdsourced Study of Subjective and Objective Picture Quality. IEEE "
    "TIP 25(1), 2016. https://live.ece.utexas.edu/research/ChallengeDB/"
)
LICENSE = "terms of its owners (University of Texas at Austin), see the download page; nothing of it is in this package"
SCORE_RANGE = (0.0, 100.0)
HIGHER_IS_BETTER = True
HOW_TO_GET = (
    "ask for ChallengeDB_release.zip on https://live.ece.utexas.edu/research/ChallengeDB/ and unpack it; data_dir is "
    "the folder with Data/ and Images/"
)

TRAINING = [f"t{i}.bmp" for i in range(1, 8)]  # shown to the raters for practice: the first seven rows


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads Data/AllImages_release.mat, Data/AllMOS_release.mat and Images/; the seven training pictures are left out.

    Args:
      data_dir: the folder with Data/ and Images/.
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.

    Raises:
      DataError: the wrong folder, missing or extra pictures or rows, bad labels; all of them listed.
    """
    folder = checks.open_folder("livec", data_dir, HOW_TO_GET)
    names_file = checks.find_one("livec", folder, ("Data/AllImages_release.mat",), HOW_TO_GET)
    mos_file = checks.find_one("livec", folder, ("Data/AllMOS_release.mat",), HOW_TO_GET)
    images = checks.find_one("livec", folder, ("Images",), HOW_TO_GET)
    faults = checks.Faults("livec", folder, HOW_TO_GET)
    pictures = checks.list_pictures(folder, [images], faults)

    (names,) = read_mat(os.path.join(folder, names_file), "AllImages_release")
    (scores,) = read_mat(os.path.join(folder, mos_file), "AllMOS_release")
    faults.count(len(scores), len(names), "scores in AllMOS_release.mat")
    if list(names[:7]) != TRAINING:
        faults.add("first rows that are not t1.bmp to t7.bmp", f"AllImages_release.mat begins with {names[0]}")
    records: dict[str, Record] = {}
    for i, (name, score) in enumerate(zip(names, scores, strict=False), 1):
        if i <= len(TRAINING):
            continue
        where = f"AllMOS_release.mat entry {i}"
        mos = faults.label(repr(float(score)), where, SCORE_RANGE)
        if name in records:
            faults.add("rows for a picture that has one already", f"AllImages_release.mat entry {i} {name}")
        records[name] = Record(os.path.join(folder, pictures.get(name.lower(), "")), mos, str(name))
    if allow_partial:
        records = {name: r for name, r in records.items() if name.lower() in pictures}
    else:
        faults.compare(records, pictures, extra_allowed=TRAINING)
        faults.count(len(records), 1162, "rows")
    faults.refuse()
    return Dataset("livec", list(records.values()), SCORE_RANGE, HIGHER_IS_BETTER)
