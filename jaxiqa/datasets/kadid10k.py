"""KADID-10k: 81 pristine pictures, 25 distortions at 5 levels, 10,125 crowd-rated pictures of 512x384."""

import os

from jaxiqa.datasets import checks, tables
from jaxiqa.datasets.records import Dataset, Record

CITATION = (
    "H. Lin, V. Hosu, D. Saupe: KADID-10k: A Large-scale Artificially Distorted IQA Database. QoMEX 2019. "
    "https://database.mmsp-kn.de/kadid-10k-database.html"
)
LICENSE = "terms of its owners (University of Konstanz), see the download page; nothing of it is in this package"
SCORE_RANGE = (1.0, 5.0)
HIGHER_IS_BETTER = True  # although the column is called dmos
HOW_TO_GET = "download kadid10k.zip from https://database.mmsp-kn.de/kadid-10k-database.html and unpack it to data_dir"

DISTORTIONS = (  # types 1..25
    "gaussian_blur",
    "lens_blur",
    "motion_blur",
    "colour_diffusion",
    "colour_shift",
    "colour_quantisation",
    "colour_saturation_hsv",
    "colour_saturation_lab",
    "jpeg2000",
    "jpeg",
    "white_noise",
    "white_noise_ycbcr",
    "impulse_noise",
    "multiplicative_noise",
    "denoise",
    "brighten",
    "darken",
    "mean_shift",
    "jitter",
    "non_eccentricity_patch",
    "pixelate",
    "quantisation",
    "colour_block",
    "high_sharpen",
    "contrast_change",
)
REFERENCES, LEVELS = 81, 5
_NAMES = {  # file name -> (reference, type, level)
    f"I{r:02d}_{t:02d}_{level:02d}.png": (f"I{r:02d}", t, level)
    for r in range(1, REFERENCES + 1)
    for t in range(1, len(DISTORTIONS) + 1)
    for level in range(1, LEVELS + 1)
}


def load(data_dir: str | os.PathLike, allow_partial: bool = False, labels_only: bool = False) -> Dataset:
    """Reads the owners' layout: dmos.csv beside images/ (or distorted_images/, as some copies have it).

    Args:
      data_dir: the folder with dmos.csv.
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.
      labels_only: dmos.csv is enough, for what needs no picture (python -m jaxiqa.transfer --labels cell_mean).

    Raises:
      DataError: the wrong folder, missing or extra pictures or rows, bad labels; all of them listed.
    """
    folder = checks.open_folder("kadid10k", data_dir, HOW_TO_GET)
    checks.find_one("kadid10k", folder, ("dmos.csv",), HOW_TO_GET)
    faults = checks.Faults("kadid10k", folder, HOW_TO_GET)
    if labels_only:
        pictures = {name.lower(): f"images/{name}" for name in _NAMES}
    else:
        images = checks.find_one("kadid10k", folder, ("images", "distorted_images"), HOW_TO_GET)
        pictures = checks.list_pictures(folder, [images], faults)

    records: dict[str, Record] = {}
    for where, row in tables.read_csv(os.path.join(folder, "dmos.csv"), ("dist_img", "ref_img", "dmos"), faults):
        name, mos = row["dist_img"], faults.label(row["dmos"], where, SCORE_RANGE)
        if name not in _NAMES:
            faults.add("names that are not I01_01_01.png to I81_25_05.png", f"{where} {name}")
            continue
        reference, type_, level = _NAMES[name]
        if row["ref_img"] != f"{reference}.png":
            faults.add("rows with another reference than their name says", f"{where} {name} {row['ref_img']}")
        if name in records:
            faults.add("rows for a picture that has one already", f"{where} {name}")
        path = os.path.join(folder, pictures.get(name.lower(), ""))
        records[name] = Record(path, mos, name, reference, DISTORTIONS[type_ - 1], level)
    if allow_partial and not labels_only:
        records = {name: r for name, r in records.items() if name.lower() in pictures}
    else:
        faults.add_all("pictures without a row", (n for n in _NAMES if n not in records))
        faults.compare(_NAMES, pictures, extra_allowed=(f"I{r:02d}.png" for r in range(1, REFERENCES + 1)))
    faults.refuse()
    return Dataset("kadid10k", [records[n] for n in _NAMES if n in records], SCORE_RANGE, HIGHER_IS_BETTER)
