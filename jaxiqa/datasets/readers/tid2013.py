"""TID2013: 25 pristine images, 24 distortions at 5 levels, 3,000 rated images of 512x384."""

import itertools
import os

from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.file_names import stem_of
from jaxiqa.datasets.formats import tables
from jaxiqa.datasets.readers.kadid10k import TYPES
from jaxiqa.datasets.records import Dataset

CITATION = (
    "N. Ponomarenko et al.: Image database TID2013: Peculiarities, results and perspectives. Signal Processing: Image "
    "Communication 30, 2015. https://www.ponomarenko.info/tid2013.htm"
)
LICENSE = "terms of its owners, see the download page; nothing of it is in this package"
SCORE_RANGE = (0.0, 9.0)  # of TID2008 too; the labels of both are at most 7.7
HIGHER_IS_BETTER = True
HOW_TO_GET = "download tid2013.rar from https://www.ponomarenko.info/tid2013.htm and unpack it to data_dir"
TABLE = "mos_with_names.txt"
MARKERS = (TABLE,)
KNOWN = Known(3_000, "0.2424", "7.2143", "4.475", ((384, 512),))
# Levels match one to one: the strength rises with the level in both datasets, though it is not equal. Distortions that
# KADID-10k does not have (other noises, transmission errors) are left out, and so are those whose levels mean something
# else there: mean shift and contrast change are mildest at KADID-10k's third level, and TID2013's local blocks do less
# harm at high levels.
SHARED_TYPES = {
    "gaussian_noise": TYPES["white_noise"],
    "colour_noise": TYPES["white_noise_ycbcr"],
    "impulse_noise": TYPES["impulse_noise"],
    "quantisation_noise": TYPES["quantisation"],
    "gaussian_blur": TYPES["gaussian_blur"],
    "denoise": TYPES["denoise"],
    "jpeg": TYPES["jpeg"],
    "jpeg2000": TYPES["jpeg2000"],
    "non_eccentricity_pattern": TYPES["non_eccentricity_patch"],
    "saturation_change": TYPES["colour_saturation_hsv"],
    "multiplicative_noise": TYPES["multiplicative_noise"],
    "colour_quantisation_dither": TYPES["colour_quantisation"],
}

REFERENCES, LEVELS = 25, 5
DISTORTIONS = (  # types 1..24; TID2008 has the first seventeen
    "gaussian_noise", "colour_noise", "spatially_correlated_noise", "masked_noise", "high_frequency_noise",
    "impulse_noise", "quantisation_noise", "gaussian_blur", "denoise", "jpeg", "jpeg2000", "jpeg_transmission_errors",
    "jpeg2000_transmission_errors", "non_eccentricity_pattern", "local_blockwise", "mean_shift", "contrast_change",
    "saturation_change", "multiplicative_noise", "comfort_noise", "compressed_noise", "colour_quantisation_dither",
    "chromatic_aberration", "sparse_sampling",
)  # fmt: skip


def rows(folder: str | os.PathLike) -> float:
    """Returns the number of rows of the list of labels in a folder, which differs between TID2013 and TID2008."""
    return len(tables.read_text(os.path.join(folder, TABLE)).split()) / 2


def holds(folder: str | os.PathLike) -> bool:
    """Whether a folder's list of labels is longer than TID2008's, which has the same name."""
    return rows(folder) > 1_700  # rows of TID2008


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads mos_with_names.txt and distorted_images/; ids are file names in lower case."""
    return read(checks.Reading("tid2013", data_dir, HOW_TO_GET, allow_partial), DISTORTIONS, LEVELS)


def read(reading: checks.Reading, distortions: tuple[str, ...], levels: int) -> Dataset:
    """Reads this dataset or TID2008: every reference with every distortion at every level, in that order.

    Names mix I and i, .bmp and .BMP, differently in the list and on disk, so they are compared without case. The
    records' std is from mos_std.txt, with a number for each line of the list, if this file exists. Its values (0.08 to
    0.17 in TID2013) are too small for single ratings: they are deviations of the mean.
    """
    table = reading.find(TABLE)
    reading.list_images(reading.find("distorted_images"))
    known = {
        f"i{r:02d}_{t:02d}_{level}.bmp": (f"I{r:02d}", distortion, level)
        for r in range(1, REFERENCES + 1)
        for t, distortion in enumerate(distortions, 1)
        for level in range(1, levels + 1)
    }
    listed, stds = tables.read_words(reading.path(table), 2, reading), []
    if reading.has("mos_std.txt"):
        stds = [checks.spread_of(text) for _, (text,) in tables.read_words(reading.path("mos_std.txt"), 1, reading)]
        reading.count(len(stds), len(listed), "lines in mos_std.txt")
    for (where, (text, written)), std in itertools.zip_longest(listed, stds[: len(listed)]):
        file, mos = f"{stem_of(written)}.bmp", reading.label(text, where, SCORE_RANGE)
        if file in known:
            reading.record(file, mos, where, *known[file], written=written, std=std)
        else:
            last = f"I{REFERENCES}_{len(distortions)}_{levels}.bmp"
            reading.add(f"names that are not I01_01_1.bmp to {last}", f"{where} {written}")
    reading.complete(expected=known)
    reading.sort(lambda r: r.id)
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER)
