"""How TID2008 and TID2013 are read: mos_with_names.txt and distorted_images/, in one form with other counts."""

import os

from jaxiqa.datasets import checks, tables
from jaxiqa.datasets.records import Dataset, Record

REFERENCES = 25
DISTORTIONS = (  # types 1..24; TID2008 has the first seventeen
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
SCORE_RANGE = (0.0, 9.0)  # of both; their labels end at 7.7
HIGHER_IS_BETTER = True


def read(
    name: str, data_dir: str | os.PathLike, distortions: tuple[str, ...], levels: int, how_to_get: str, partial: bool
) -> Dataset:
    """The dataset `name`: every reference with every distortion at every level, in that order.

    Names mix I and i, .bmp and .BMP, differently in the list and on disk: they are compared without case, and ids are
    in lower case.

    Raises:
      DataError: the wrong folder, missing or extra pictures or rows, bad labels; all of them listed.
    """
    folder = checks.open_folder(name, data_dir, how_to_get)
    table = checks.find_one(name, folder, ("mos_with_names.txt",), how_to_get)
    images = checks.find_one(name, folder, ("distorted_images",), how_to_get)
    faults = checks.Faults(name, folder, how_to_get)
    pictures = checks.list_pictures(folder, [images], faults)
    known = {
        f"i{r:02d}_{t:02d}_{level}.bmp": (f"I{r:02d}", distortion, level)
        for r in range(1, REFERENCES + 1)
        for t, distortion in enumerate(distortions, 1)
        for level in range(1, levels + 1)
    }
    last = f"I{REFERENCES}_{len(distortions)}_{levels}.bmp"

    records: dict[str, Record] = {}
    for where, (text, written) in tables.read_words(os.path.join(folder, table), 2, faults):
        file, mos = written.lower(), faults.label(text, where, SCORE_RANGE)
        if file not in known:
            faults.add(f"names that are not I01_01_1.bmp to {last}", f"{where} {written}")
            continue
        if file in records:
            faults.add("rows for a picture that has one already", f"{where} {written}")
        records[file] = Record(os.path.join(folder, pictures.get(file, "")), mos, file, *known[file])
    if partial:
        records = {file: r for file, r in records.items() if file in pictures}
    else:
        faults.add_all("pictures without a row", (file for file in known if file not in records))
        faults.compare(known, pictures)
    faults.refuse()
    return Dataset(name, [records[file] for file in known if file in records], SCORE_RANGE, HIGHER_IS_BETTER)
