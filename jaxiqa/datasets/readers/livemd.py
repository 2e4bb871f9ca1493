"""LIVE Multiply Distorted: 15 pristine images, blurred, then compressed or with added noise; 450 rated images."""

import os

from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.formats.tables import read_mat
from jaxiqa.datasets.records import Dataset

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
ALIASES = ("livem", "live-md")
MARKERS = ("Part 1/Imagelists.mat",)
KNOWN = Known(450, "0.61", "84.67", "47.580")

PARTS = {
    "Part 1": ("blurjpeg", "jpeg"),
    "Part 2": ("blurnoise", "noise"),
}  # folder of images, distortion after the blur
REFERENCES, COUNT = 15, 225  # of each part
_LEVELS = (1, 2, 3)


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads Imagelists.mat, Scores.mat (DMOS) and the images of `Part 1` and `Part 2` (or `Part_1`, `Part1`).

    Both parts have images of the same names (babygirl_blur1.bmp) with different scores, so ids begin with the folder.
    Images with one distortion have its level 1..3, images with two have level 0. Records are sorted by reference; both
    parts share the references.
    """
    reading = checks.Reading("livemd", data_dir, HOW_TO_GET, allow_partial)
    references = []
    for part, (inside, second) in PARTS.items():
        home = reading.find(*(part.replace(" ", gap) for gap in (" ", "_", "")))
        there = _read_part(reading, home, inside, second)
        references += [f"{inside}/{reference}.bmp" for reference in there]
        if not allow_partial:
            reading.count(len(there), REFERENCES, f"references in {home}")
    reading.complete(extra_allowed=references)
    listed = list(reading.records)
    reading.sort(lambda r: r.reference)
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER, listed=listed)


def _read_part(reading: checks.Reading, home: str, inside: str, second: str) -> set[str]:
    """Keeps the records of a part; returns its references."""
    (names,) = read_mat(reading.path(home, "Imagelists.mat"), "distimgs")
    (scores,) = read_mat(reading.path(home, "Scores.mat"), "DMOSscores")
    reading.count(len(names), COUNT, f"names in {home}/Imagelists.mat")
    reading.count(len(scores), COUNT, f"scores in {home}/Scores.mat")
    reading.list_images(os.path.join(home, inside), prefix=f"{inside}/")
    versions = {f"{type_}{level}": (type_, level) for type_ in ("blur", second) for level in _LEVELS}
    versions |= {f"blur{b}_{second}{s}": (f"blur_{second}", 0) for b in _LEVELS for s in _LEVELS}
    references = set()
    for i, (name, score) in enumerate(zip(names, scores, strict=False), 1):
        mos = reading.label(repr(float(score)), f"{home}/Scores.mat entry {i}", SCORE_RANGE)
        where = f"{home}/Imagelists.mat entry {i}"
        reference, _, version = name.removesuffix(".bmp").partition("_")
        if version in versions:
            reading.record(f"{inside}/{name}", mos, where, reference, *versions[version], written=name)
            references.add(reference)
        else:
            reading.add(f"names that are not like babygirl_blur1_{second}1.bmp", f"{where} {name}")
    return references
