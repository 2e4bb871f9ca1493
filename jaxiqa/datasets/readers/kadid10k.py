"""KADID-10k: 81 pristine images, 25 distortions at 5 levels, 10,125 crowd-rated images of 512x384."""

import os
from collections.abc import Iterator

from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.diagnosis import Finding
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.file_names import stem_of
from jaxiqa.datasets.formats import tables
from jaxiqa.datasets.formats.meta_csv import Meta
from jaxiqa.datasets.records import Dataset

CITATION = (
    "H. Lin, V. Hosu, D. Saupe: KADID-10k: A Large-scale Artificially Distorted IQA Database. QoMEX 2019. "
    "https://database.mmsp-kn.de/kadid-10k-database.html"
)
LICENSE = "terms of its owners (University of Konstanz), see the download page; nothing of it is in this package"
SCORE_RANGE = (1.0, 5.0)
HIGHER_IS_BETTER = True  # although the column is called dmos
HOW_TO_GET = "download kadid10k.zip from https://database.mmsp-kn.de/kadid-10k-database.html and unpack it to data_dir"
ALIASES = ("kadid", "kadid-10k")
MARKERS = ("dmos.csv",)
KNOWN = Known(10_125, "1.00", "4.93", "3.0326", ((384, 512),))
PUBLIC_NAME = "kadid-10k"

DISTORTIONS = (  # types 1..25, one line for each family
    "gaussian_blur", "lens_blur", "motion_blur",
    "colour_diffusion", "colour_shift", "colour_quantisation", "colour_saturation_hsv", "colour_saturation_lab",
    "jpeg2000", "jpeg",
    "white_noise", "white_noise_ycbcr", "impulse_noise", "multiplicative_noise", "denoise",
    "brighten", "darken", "mean_shift",
    "jitter", "non_eccentricity_patch", "pixelate", "quantisation", "colour_block",
    "high_sharpen", "contrast_change",
)  # fmt: skip
TYPES = SHARED_TYPES = {name: number for number, name in enumerate(DISTORTIONS, 1)}
REFERENCES, LEVELS = 81, 5
_NAMES = {  # file name -> (reference, type, level)
    f"I{r:02d}_{t:02d}_{level:02d}.png": (f"I{r:02d}", t, level)
    for r in range(1, REFERENCES + 1)
    for t in range(1, len(DISTORTIONS) + 1)
    for level in range(1, LEVELS + 1)
}
_BY_STEM = {stem_of(name): name for name in _NAMES}


def load(data_dir: str | os.PathLike, allow_partial: bool = False, labels_only: bool = False) -> Dataset:
    """Reads dmos.csv, and the images in images/ (distorted_images/ in some copies).

    Names in dmos.csv may have another case, format or folder. The square root of the column var becomes the records'
    std.

    Args:
      data_dir: the folder.
      allow_partial: whether rows without an image are left out instead of refused.
      labels_only: True reads dmos.csv alone, for programs that need no image (jaxiqa transfer --labels
        cell_mean).

    Raises:
      DataError: the folder cannot be used.
    """
    reading = checks.Reading("kadid10k", data_dir, HOW_TO_GET, allow_partial and not labels_only)
    table = reading.find("dmos.csv")
    if labels_only:
        reading.images = {name.lower(): f"images/{name}" for name in _NAMES}
    else:
        reading.list_images(reading.find("images", "distorted_images"))
    rows = tables.read_csv(reading.path(table), ("dist_img", "ref_img", "dmos"), reading)
    column = "std" if "std" in rows[0][1] else "var"
    power = 0.5 if _are_variances(rows, column) else 1
    for where, row in rows:
        written, mos = row["dist_img"], reading.label(row["dmos"], where, SCORE_RANGE)
        name = _BY_STEM.get(stem_of(written))
        if not name:
            reading.add("names that are not I01_01_01.png to I81_25_05.png", f"{where} {written}")
            continue
        if name != written:
            reading.say("dmos.csv has names in another form")
        reference, type_, level = _NAMES[name]
        if stem_of(row["ref_img"]) != reference.lower():
            reading.add("rows with another reference than their name says", f"{where} {name} {row['ref_img']}")
        std = checks.spread_of(row.get(column))
        std = None if std is None else std**power
        reading.record(name, mos, where, reference, DISTORTIONS[type_ - 1], level, std=std)
    reading.complete(expected=_NAMES, extra_allowed=(f"I{r:02d}.png" for r in range(1, REFERENCES + 1)))
    reading.sort(lambda r: r.id)
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER)


def look(dataset: Dataset, folder: str, options: dict) -> Iterator[Finding]:
    """Checks whether the column of variances is named correctly."""
    rows = tables.read_csv(os.path.join(folder, "dmos.csv"), (), checks.Faults("kadid10k", folder))
    yield from _variances(rows, "std" if "std" in rows[0][1] else "var")


def look_at_table(dataset: Dataset, meta: Meta) -> Iterator[Finding]:
    """The same check for pyiqa's table."""
    yield from _variances(meta.rows, "std")


def _variances(rows: list[tuple[str, dict[str, str]]], column: str) -> Iterator[Finding]:
    """A finding if a column called std holds variances, or one called var standard deviations."""
    if column in rows[0][1]:
        variances = _are_variances(rows, column)
        if column == "std" and variances:
            yield Finding("labels", "note", "the column std holds variances")
        if column == "var" and not variances:
            yield Finding("labels", "note", "the column var holds standard deviations")


def _are_variances(rows: list[tuple[str, dict[str, str]]], column: str) -> bool:
    """Whether a column holds variances, as the owners' `var` does (at most 1.262 squared).

    Some copies call this column std, or hold its square root.
    """
    greatest = max((checks.spread_of(row.get(column)) or 0.0 for _, row in rows), default=0.0)
    return greatest > 1.3 or (column == "var" and len(rows) != KNOWN.count)
