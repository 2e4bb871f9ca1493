"""CSIQ: 30 pristine images, 6 distortions at up to 5 levels, 866 rated images of 512x512."""

import collections
import os

from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.formats import tables, xlsx
from jaxiqa.datasets.readers.kadid10k import TYPES
from jaxiqa.datasets.records import Dataset

CITATION = (
    "E. C. Larson, D. M. Chandler: Most apparent distortion: full-reference image quality assessment and the role of "
    "strategy. Journal of Electronic Imaging 19(1), 2010. https://s2.smu.edu/~eclarson/csiq.html"
)
LICENSE = "terms of its owners, see the download page; nothing of it is in this package"
SCORE_RANGE = (0.0, 1.0)
HIGHER_IS_BETTER = False
HOW_TO_GET = (
    "download dst_imgs.zip and csiq.DMOS.xlsx from https://s2.smu.edu/~eclarson/csiq.html to data_dir "
    "(csiq_label.txt or csiq.beta.txt will do for the scores)"
)
MARKERS = ("csiq.DMOS.xlsx", "csiq_label.txt")
KNOWN = Known(866, "0.000", "1.000", "0.351", ((512, 512),))
# Levels match one to one. Pink noise is left out because KADID-10k does not have it, contrast because its levels mean
# something else.
SHARED_TYPES = {
    "awgn": TYPES["white_noise"],
    "blur": TYPES["gaussian_blur"],
    "jpeg": TYPES["jpeg"],
    "jpeg2000": TYPES["jpeg2000"],
}

COUNTS = {"awgn": 150, "blur": 150, "contrast": 116, "fnoise": 150, "jpeg": 150, "jpeg2000": 150}
_LISTED = ("awgn", "jpeg", "jpeg2000", "fnoise", "blur", "contrast")  # the order of csiq_label.txt
_WRITTEN = {"noise": "awgn", "jpeg 2000": "jpeg2000"}  # names in the tables that differ from the file names


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads csiq.DMOS.xlsx, csiq_label.txt or csiq.beta.txt (the first that exists) and the distorted images.

    The images may be in dst_imgs/ (with or without a folder for each distortion), dst_imgs_all/ or all_dis_imgs/.
    Records are sorted by reference, Z to A, the order that published splits are drawn from.
    """
    reading = checks.Reading("csiq", data_dir, HOW_TO_GET, allow_partial)
    table = reading.find(*_READERS)
    images = reading.find("dst_imgs", "dst_imgs_all", "all_dis_imgs")
    below = [d for d in sorted(os.listdir(reading.path(images))) if d.lower() in COUNTS]
    reading.list_images(images, *(os.path.join(images, d) for d in below))
    for where, reference, type_, level, text in _READERS[table](reading.path(table), reading):
        distortion = _WRITTEN.get(type_.lower(), type_.lower())
        mos = reading.label(text, where, SCORE_RANGE)
        if distortion in COUNTS and level in ("1", "2", "3", "4", "5"):
            name = f"{reference}.{distortion}.{level}.png".lower()
            reading.record(name, mos, where, reference, distortion, int(level))
        else:
            reading.add(f"rows that are not {', '.join(COUNTS)} at level 1..5", f"{where} {type_} {level}")
    reading.complete()
    if not allow_partial:
        found = collections.Counter(r.distortion for r in reading.records.values())
        for distortion, count in COUNTS.items():
            reading.count(found[distortion], count, f"rows of {distortion}")
        reading.count(len({r.reference for r in reading.records.values()}), 30, "references")
    reading.sort(lambda r: (_LISTED.index(r.distortion), r.reference.upper(), r.level))
    listed = list(reading.records)
    reading.sort(lambda r: (r.distortion, r.level))
    reading.sort(lambda r: r.reference, reverse=True)
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER, listed=listed)


# Each yields (where, reference, type, level, label), all of them text.


def _read_xlsx(path, _):
    columns = ("image", "dst_type", "dst_lev", "dmos")
    for where, row in xlsx.read_sheet(path, "all_by_image", columns):
        yield where, *(row[c] for c in columns)


def _read_label(path, faults):
    for where, (name, text) in tables.read_words(path, 2, faults):
        parts = name.rsplit(".", 3)
        if len(parts) == 4:
            yield where, *parts[:3], text
        else:
            faults.add("names that are not like 1600.AWGN.1.png", f"{where} {name}")


def _read_beta(path, faults):
    for where, (reference, _, type_, level, _, text) in tables.read_words(path, 6, faults):
        yield where, reference, type_, level, text


_READERS = {"csiq.DMOS.xlsx": _read_xlsx, "csiq_label.txt": _read_label, "csiq.beta.txt": _read_beta}
