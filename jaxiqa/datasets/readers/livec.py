"""LIVE In the Wild Image Quality Challenge (LIVEC, CLIVE): 1,162 phone photographs with authentic distortions."""

import os

import numpy as np

from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.formats.tables import read_mat
from jaxiqa.datasets.records import Dataset

CITATION = (
    "D. Ghadiyaram, A. C. Bovik: Massive Online Crowdsourced Study of Subjective and Objective Image Quality. IEEE "
    "TIP 25(1), 2016. https://live.ece.utexas.edu/research/ChallengeDB/"
)
LICENSE = "terms of its owners (University of Texas at Austin), see the download page; nothing of it is in this package"
SCORE_RANGE = (0.0, 100.0)
HIGHER_IS_BETTER = True
HOW_TO_GET = (
    "ask for ChallengeDB_release.zip on https://live.ece.utexas.edu/research/ChallengeDB/ and unpack it; data_dir is "
    "the folder with Data/ and Images/"
)
ALIASES = ("clive", "livechallenge", "live-itw", "live-wild")
TITLE = "LIVE Challenge"
MARKERS = ("Data/AllMOS_release.mat",)
KNOWN = Known(1_162, "3.42", "92.43", "55.40")
PRACTICE = tuple(f"t{i}.bmp" for i in range(1, 8))  # the first seven rows


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads Data/AllImages_release.mat, Data/AllMOS_release.mat and Images/, without the seven practice images.

    The records' std is from Data/AllStdDev_release.mat, if this exists.
    """
    reading = checks.Reading("livec", data_dir, HOW_TO_GET, allow_partial)
    names_file, mos_file = reading.find("Data/AllImages_release.mat"), reading.find("Data/AllMOS_release.mat")
    reading.list_images(reading.find("Images"))
    (names,) = read_mat(reading.path(names_file), "AllImages_release")
    (scores,) = read_mat(reading.path(mos_file), "AllMOS_release")
    reading.count(len(scores), len(names), "scores in AllMOS_release.mat")
    stds = np.empty(0)
    if reading.has("Data/AllStdDev_release.mat"):
        (stds,) = read_mat(reading.path("Data/AllStdDev_release.mat"), "AllStdDev_release")
        reading.count(len(stds), len(names), "deviations in AllStdDev_release.mat")
    if tuple(names[:7]) != PRACTICE:
        reading.add("first rows that are not t1.bmp to t7.bmp", f"AllImages_release.mat begins with {names[0]}")
    for i, (name, score) in enumerate(zip(names, scores, strict=False), 1):
        if i > len(PRACTICE):
            mos = reading.label(repr(float(score)), f"AllMOS_release.mat entry {i}", SCORE_RANGE)
            std = checks.spread_of(repr(float(stds[i - 1]))) if i <= len(stds) else None
            reading.record(name, mos, f"AllImages_release.mat entry {i}", std=std)
    reading.complete(KNOWN.count, extra_allowed=PRACTICE)
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER)
