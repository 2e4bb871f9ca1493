"""CSIQ: 30 pristine pictures, 6 distortions at up to 5 levels, 866 rated pictures of 512x512."""

import os

from jaxiqa.datasets import checks, tables, xlsx
from jaxiqa.datasets.records import Dataset, Record

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

COUNTS = {"awgn": 150, "blur": 150, "contrast": 116, "fnoise": 150, "jpeg": 150, "jpeg2000": 150}
_LISTED = ("awgn", "jpeg", "jpeg2000", "fnoise", "blur", "contrast")  # the order of csiq_label.txt
_WRITTEN = {"noise": "awgn", "jpeg 2000": "jpeg2000"}  # in the tables, unlike the file names


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads csiq.DMOS.xlsx, csiq_label.txt or csiq.beta.txt (the first that is there) and the distorted pictures.

    The pictures may lie in dst_imgs/ with or without a folder per distortion, in dst_imgs_all/ or in all_dis_imgs/.
    Records are sorted by reference, Z to A, which is the order that published splits are drawn from.

    Args:
      data_dir: the folder with the scores.
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.

    Raises:
      DataError: the wrong folder, missing or extra pictures or rows, bad labels; all of them listed.
    """
    folder = checks.open_folder("csiq", data_dir, HOW_TO_GET)
    table = checks.find_one("csiq", folder, tuple(_READERS), HOW_TO_GET)
    images = checks.find_one("csiq", folder, ("dst_imgs", "dst_imgs_all", "all_dis_imgs"), HOW_TO_GET)
    faults = checks.Faults("csiq", folder, HOW_TO_GET)
    below = [d for d in sorted(os.listdir(os.path.join(folder, images))) if d.lower() in COUNTS]
    inside = [images, *(os.path.join(images, d) for d in below)]
    pictures = checks.list_pictures(folder, inside, faults)

    records: dict[str, Record] = {}
    for where, reference, type_, level, text in _READERS[table](os.path.join(folder, table), faults):
        distortion = _WRITTEN.get(type_.lower(), type_.lower())
        mos = faults.label(text, where, SCORE_RANGE)
        if distortion not in COUNTS or level not in ("1", "2", "3", "4", "5"):
            faults.add(f"rows that are not {', '.join(COUNTS)} at level 1..5", f"{where} {type_} {level}")
            continue
        name = f"{reference}.{distortion}.{level}.png".lower()
        if name in records:
            faults.add("rows for a picture that has one already", f"{where} {name}")
        path = os.path.join(folder, pictures.get(name, ""))
        records[name] = Record(path, mos, name, reference, distortion, int(level))
    if allow_partial:
        records = {name: r for name, r in records.items() if name in pictures}
    else:
        faults.compare(records, pictures)
        for distortion, count in COUNTS.items():
            faults.count(sum(r.distortion == distortion for r in records.values()), count, f"rows of {distortion}")
        faults.count(len({r.reference for r in records.values()}), 30, "references")
    faults.refuse()
    ordered = sorted(records.values(), key=lambda r: (r.distortion, r.level))
    ordered.sort(key=lambda r: r.reference, reverse=True)
    listed = sorted(ordered, key=lambda r: (_LISTED.index(r.distortion), r.reference.upper(), r.level))
    return Dataset("csiq", ordered, SCORE_RANGE, HIGHER_IS_BETTER, listed=[r.id for r in listed])


# Each gives (where, reference, type, level, label), all of them text.


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
