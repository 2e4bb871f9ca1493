"""PIPAL: 200 pristine pictures and 116 results of distortion and restoration for each, 23,200 with Elo scores."""

import os

from jaxiqa.datasets import checks, tables
from jaxiqa.datasets.records import Dataset, Record

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

ITEMS = {"00": 12, "01": 16, "02": 10, "03": 24, "04": 13, "05": 14, "06": 27}  # pictures in each group
REFERENCES = 200
_ITEMS = {f"{group}_{i:02d}": group for group, count in ITEMS.items() for i in range(count)}


def load(data_dir: str | os.PathLike, allow_partial: bool = False) -> Dataset:
    """Reads Train_Label/*.txt and Distortion_1/ to Distortion_4/: the official training part, whose labels are public.

    A name A0001_TT_II.bmp has the reference, one of seven groups of distortions, and the item in it; the archive does
    not name the groups, so `distortion` is "group_00" to "group_06", and strengths are not known. Elo scores come from
    comparisons of one reference's pictures, so they may mean different qualities for different references.

    Args:
      data_dir: the folder with Train_Label/ and the folders of pictures (any whose name begins with "dist").
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.

    Raises:
      DataError: the wrong folder, missing or extra pictures or rows, bad labels; all of them listed.
    """
    folder = checks.open_folder("pipal", data_dir, HOW_TO_GET)
    labels = checks.find_one("pipal", folder, ("Train_Label",), HOW_TO_GET)
    inside = [d for d in sorted(os.listdir(folder)) if d.lower().startswith("dist")]
    inside = inside or [checks.find_one("pipal", folder, ("Distortion_1",), HOW_TO_GET)]
    faults = checks.Faults("pipal", folder, HOW_TO_GET)
    pictures = checks.list_pictures(folder, inside, faults)

    records: dict[str, Record] = {}
    for table in sorted(os.listdir(os.path.join(folder, labels))):
        if table.startswith(".") or not table.endswith(".txt"):
            continue
        for where, (name, text) in tables.read_words(os.path.join(folder, labels, table), 2, faults, ","):
            mos = faults.label(text, where, SCORE_RANGE)
            reference, _, item = name.removesuffix(".bmp").partition("_")
            if item not in _ITEMS or reference != os.path.splitext(table)[0]:
                faults.add("names that are not like A0001_00_00.bmp in A0001.txt", f"{where} {name}")
                continue
            if name in records:
                faults.add("rows for a picture that has one already", f"{where} {name}")
            path = os.path.join(folder, pictures.get(name.lower(), ""))
            records[name] = Record(path, mos, name, reference, f"group_{_ITEMS[item]}")
    if allow_partial:
        records = {name: r for name, r in records.items() if name.lower() in pictures}
    else:
        references = sorted({r.reference for r in records.values()})
        expected = [f"{reference}_{item}.bmp" for reference in references for item in _ITEMS]
        faults.add_all("pictures without a row", (name for name in expected if name not in records))
        faults.compare(expected, pictures)
        faults.count(len(references), REFERENCES, "references")
    faults.refuse()
    return Dataset("pipal", list(records.values()), SCORE_RANGE, HIGHER_IS_BETTER)
