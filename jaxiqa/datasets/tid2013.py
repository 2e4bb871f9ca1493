"""TID2013: 25 pristine pictures, 24 distortions at 5 levels, 3,000 rated pictures of 512x384."""

import os

from jaxiqa.datasets import checks, tables
from jaxiqa.datasets.kadid10k import TYPES
from jaxiqa.datasets.known import Known
from jaxiqa.datasets.records import Dataset

CITATION = (
    "N. Ponomarenko et al.: Image database TID2013: Peculiarities, results and perspectives. Signal Processing: Image "
    "Communication 30, 2015. https://www.ponomarenko.info/tid2013.htm"
)
LICENSE = "terms of its owners, see the download page; nothing of it is in this package"
SCORE_RANGE = (0.0, 9.0)  # of TID2008 too; labels of both end at 7.7
HIGHER_IS_BETTER = True
HOW_TO_GET = "download tid2013.rar from https://www.ponomarenko.info/tid2013.htm and unpack it to data_dir"
TABLE = "mos_with_names.txt"
MARKERS = (TABLE,)
KNOWN = Known(3_000, "0.2424", "7.2143", "4.475", ((384, 512),))
# Level for level: the strength rises with the level in both, but is not the same. Left out are distortions that
# KADID-10k has not (other noises, transmission errors), and those whose levels mean something else there: of mean shift
# and contrast change KADID-10k's third levels are the mildest, and TID2013's local blocks do less harm at high levels.
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
    """How many rows the list of labels in a folder has, which tells the dataset from TID2008."""
    return len(tables.read_text(os.path.join(folder, TABLE)).split()) / 2


def holds(folder: str | os.PathLike) -> bool:
    """Whether a folder's list of labels is longer than that of TID2008, which has the same name."""
    return rows(folder) > 1_700  # those of TID2008


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads mos_with_names.txt and distorted_images/; ids are file names in lower case."""
    return read(checks.Reading("tid2013", data_dir, HOW_TO_GET, allow_partial), DISTORTIONS, LEVELS)


def read(reading: checks.Reading, distortions: tuple[str, ...], levels: int) -> Dataset:
    """Every reference with every distortion at every level, in that order, of this dataset or of TID2008.

    Names mix I and i, .bmp and .BMP, differently in the list and on disk: they are compared without case.
    """
    table = reading.find(TABLE)
    reading.list_pictures(reading.find("distorted_images"))
    known = {
        f"i{r:02d}_{t:02d}_{level}.bmp": (f"I{r:02d}", distortion, level)
        for r in range(1, REFERENCES + 1)
        for t, distortion in enumerate(distortions, 1)
        for level in range(1, levels + 1)
    }
    for where, (text, written) in tables.read_words(reading.path(table), 2, reading):
        file, mos = written.lower(), reading.label(text, where, SCORE_RANGE)
        if file in known:
            reading.record(file, mos, where, *known[file], written=written)
        else:
            last = f"I{REFERENCES}_{len(distortions)}_{levels}.bmp"
            reading.add(f"names that are not I01_01_1.bmp to {last}", f"{where} {written}")
    reading.complete(expected=known)
    reading.sort(lambda r: r.id)
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER)
