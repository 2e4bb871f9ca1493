"""TID2013: 25 pristine pictures, 24 distortions at 5 levels, 3,000 rated pictures of 512x384."""

import os

from jaxiqa.datasets import checks, tables
from jaxiqa.datasets.records import Dataset, Record

CITATION = (
    "N. Ponomarenko et al.: Image database TID2013: Peculiarities, results and perspectives. Signal Processing: Image "
    "Communication 30, 2015. https://www.ponomarenko.info/tid2013.htm"
)
LICENSE = "terms of its owners, see the download page; nothing of it is in this package"
SCORE_RANGE = (0.0, 9.0)
HIGHER_IS_BETTER = True
HOW_TO_GET = "download tid2013.rar from https://www.ponomarenko.info/tid2013.htm and unpack it to data_dir"

DISTORTIONS = (  # types 1..24
    "gaussian_noise",
    "colour_noise",
    "spatially_correlated_noise",
    "masked_noise",
    "high_frequency_noise",
    "impulse_noise",
    "quantisation_noise",
    "gaussian_blur",
    "denoise",
    "jpeg",
    "jpeg2000",
    "jpeg_transmission_errors",
    "jpeg2000_transmission_errors",
    "non_eccentricity_pattern",
    "local_blockwise",
    "mean_shift",
    "contrast_change",
    "saturation_change",
    "multiplicative_noise",
    "comfort_noise",
    "compressed_noise",
    "colour_quantisation_dither",
    "chromatic_aberration",
    "sparse_sampling",
)
_NAMES = {  # file name in lower case -> (reference, type, level)
    f"i{r:02d}_{t:02d}_{level}.bmp": (f"I{r:02d}", t, level)
    for r in range(1, 26)
    for t in range(1, len(DISTORTIONS) + 1)
    for level in range(1, 6)
}


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads mos_with_names.txt and distorted_images/.

    Names mix I and i, .bmp and .BMP, differently in the list and on disk: they are compared without case, and ids are
    in lower case.

    Args:
      data_dir: the folder with mos_with_names.txt.
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.

    Raises:
      DataError: the wrong folder, missing or extra pictures or rows, bad labels; all of them listed.
    """
    folder = checks.open_folder("tid2013", data_dir, HOW_TO_GET)
    table = checks.find_one("tid2013", folder, ("mos_with_names.txt",), HOW_TO_GET)
    images = checks.find_one("tid2013", folder, ("distorted_images",), HOW_TO_GET)
    faults = checks.Faults("tid2013", folder, HOW_TO_GET)
    pictures = checks.list_pictures(folder, [images], faults)

    records: dict[str, Record] = {}
    for where, (text, written) in tables.read_words(os.path.join(folder, table), 2, faults):
        name, mos = written.lower(), faults.label(text, where, SCORE_RANGE)
        if name not in _NAMES:
            faults.add("names that are not I01_01_1.bmp to I25_24_5.bmp", f"{where} {written}")
            continue
        if name in records:
            faults.add("rows for a picture that has one already", f"{where} {written}")
        reference, type_, level = _NAMES[name]
        path = os.path.join(folder, pictures.get(name, ""))
        records[name] = Record(path, mos, name, reference, DISTORTIONS[type_ - 1], level)
    if allow_partial:
        records = {name: r for name, r in records.items() if name in pictures}
    else:
        faults.add_all("pictures without a row", (n for n in _NAMES if n not in records))
        faults.compare(_NAMES, pictures)
    faults.refuse()
    return Dataset("tid2013", [records[n] for n in _NAMES if n in records], SCORE_RANGE, HIGHER_IS_BETTER)
