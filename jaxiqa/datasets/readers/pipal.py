"""PIPAL: 200 pristine images and 116 results of distortion and restoration for each, 23,200 with Elo scores."""

import os

from jaxiqa.datasets import checks
from jaxiqa.datasets.doctor.published import Known
from jaxiqa.datasets.formats import tables
from jaxiqa.datasets.records import Dataset

CITATION = (
    "J. Gu, H. Cai, H. Chen, X. Ye, J. Ren, C. Dong: PIPAL: a Large-Scale Image Quality Assessment Dataset for "
    "Perceptual Image Restoration. ECCV 2020. https://www.jasongt.com/projectpages/pipal.html"
)
LICENSE = "terms of its owners, see the download page; nothing of it is in this package"
SCORE_RANGE = (900.0, 1850.0)  # Elo
HIGHER_IS_BETTER = True
HOW_TO_GET = (
    "follow https://www.jasongt.com/projectpages/pipal.html to the training part of the NTIRE challenges and unpack "
    "Train_Label and Distortion_1 to Distortion_4 to data_dir"
)
MARKERS = ("Train_Label",)
KNOWN = Known(23_200, "916.71", "1835.99", "1448.96", ((288, 288),))

ITEMS = {"00": 12, "01": 16, "02": 10, "03": 24, "04": 13, "05": 14, "06": 27}  # images in each group
REFERENCES = 200
_ITEMS = {f"{group}_{i:02d}": group for group, count in ITEMS.items() for i in range(count)}


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads Train_Label/*.txt and Distortion_1/ to Distortion_4/: the official training part, whose labels are public.

    The folders of images are those whose names begin with "dist". A name A0001_TT_II.bmp consists of the reference, one
    of seven groups of distortions, and the item in this group. The archive does not name the groups, so `distortion` is
    "group_00" to "group_06"; strengths are unknown. Elo scores come from comparisons between images of one reference,
    so equal scores may mean different qualities for different references.
    """
    reading = checks.Reading("pipal", data_dir, HOW_TO_GET, allow_partial)
    labels = reading.find("Train_Label")
    inside = [d for d in sorted(os.listdir(reading.folder)) if d.lower().startswith("dist")]
    reading.list_images(*(inside or [reading.find("Distortion_1")]))
    for table in sorted(os.listdir(reading.path(labels))):
        if table.startswith(".") or not table.endswith(".txt"):
            continue
        for where, (name, text) in tables.read_words(reading.path(labels, table), 2, reading, ","):
            mos = reading.label(text, where, SCORE_RANGE)
            reference, _, item = name.removesuffix(".bmp").partition("_")
            if item in _ITEMS and reference == os.path.splitext(table)[0]:
                reading.record(name, mos, where, reference, f"group_{_ITEMS[item]}")
            else:
                reading.add("names that are not like A0001_00_00.bmp in A0001.txt", f"{where} {name}")
    references = sorted({r.reference for r in reading.records.values()})
    reading.complete(expected=(f"{reference}_{item}.bmp" for reference in references for item in _ITEMS))
    if not allow_partial:
        reading.count(len(references), REFERENCES, "references")
    return reading.dataset(SCORE_RANGE, HIGHER_IS_BETTER)
