"""LIVE Multiply Distorted: 15 pristine pictures, blurred, then compressed or with noise; 450 rated pictures."""

import os

from jaxiqa.datasets import checks
from jaxiqa.datasets.mat import read_mat
from jaxiqa.datasets.records import Dataset, Record

CITATION = (
    "D. Jayaraman, A. Mittal, A. K. Moorthy, A. C. Bovik: Objective Quality Assessment of Multiply Distorted Images. "
    "Asilomar 2012. https://live.ece.utexas.edu/research/Quality/live_multidistortedimage.html"
)
LICENSE = "copyright The University of Texas at Austin, see its notice; nothing of it is in this package"
SCORE_RANGE = (0.0, 100.0)
HIGHER_IS_BETTER = False
HOW_TO_GET = (
    "ask for LIVEmultidistortiondatabase.rar on "
    "https://live.ece.utexas.edu/research/Quality/live_multidistortedimage.html and unpack it; data_dir is the folder "
    "with `Part 1` and `Part 2`"
)

PARTS = {"Part 1": ("blurjpeg", "jpeg"), "Part 2": ("blurnoise", "noise")}  # folder of pictures, what follows the blur
REFERENCES, COUNT = 15, 225  # of each part
_LEVELS = (1, 2, 3)


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads Imagelists.mat, Scores.mat (DMOS) and the pictures of both parts.

    Both parts have pictures of the same names (babygirl_blur1.bmp), and scores of their own for them: ids begin with
    the folder. Pictures with one distortion have its level 1..3, those with two have none. Records are sorted by
    reference, which both parts share.

    Args:
      data_dir: the folder with `Part 1` and `Part 2` (or `Part_1`, `Part1`).
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.

    Raises:
      DataError: the wrong folder, missing or extra pictures, bad labels; all of them listed.
    """
    folder = checks.open_folder("livemd", data_dir, HOW_TO_GET)
    faults = checks.Faults("livemd", folder, HOW_TO_GET)
    records = []
    for part, (inside, second) in PARTS.items():
        spellings = tuple(part.replace(" ", gap) for gap in (" ", "_", ""))
        home = checks.find_one("livemd", folder, spellings, HOW_TO_GET)
        records += _read_part(folder, home, inside, second, allow_partial, faults)
    faults.refuse()
    listed = [r.id for r in records]
    records.sort(key=lambda r: r.reference)
    return Dataset("livemd", records, SCORE_RANGE, HIGHER_IS_BETTER, listed=listed)


def _read_part(folder: str, home: str, inside: str, second: str, partial: bool, faults: checks.Faults) -> list[Record]:
    (names,) = read_mat(os.path.join(folder, home, "Imagelists.mat"), "distimgs")
    (scores,) = read_mat(os.path.join(folder, home, "Scores.mat"), "DMOSscores")
    faults.count(len(names), COUNT, f"names in {home}/Imagelists.mat")
    faults.count(len(scores), COUNT, f"scores in {home}/Scores.mat")
    images = os.path.join(home, inside)
    there = [images] if os.path.isdir(os.path.join(folder, images)) else []
    pictures = checks.list_pictures(folder, there, faults)
    versions = {f"{type_}{level}": (type_, level) for type_ in ("blur", second) for level in _LEVELS}
    versions |= {f"blur{b}_{second}{s}": (f"blur_{second}", 0) for b in _LEVELS for s in _LEVELS}

    records: dict[str, Record] = {}
    for i, (name, score) in enumerate(zip(map(str, names), scores, strict=False), 1):
        mos = faults.label(repr(float(score)), f"{home}/Scores.mat entry {i}", SCORE_RANGE)
        where = f"{home}/Imagelists.mat entry {i} {name}"
        reference, _, version = name.removesuffix(".bmp").partition("_")
        if version not in versions:
            faults.add(f"names that are not like babygirl_blur1_{second}1.bmp", where)
            continue
        if name in records:
            faults.add("rows for a picture that has one already", where)
        path = os.path.join(folder, pictures.get(name.lower(), ""))
        records[name] = Record(path, mos, f"{inside}/{name}", reference, *versions[version])
    if partial:
        return [r for name, r in records.items() if name.lower() in pictures]
    references = sorted({r.reference for r in records.values()})
    faults.compare(records, pictures, extra_allowed=(f"{reference}.bmp" for reference in references))
    faults.count(len(references), REFERENCES, f"references in {home}")
    return list(records.values())
