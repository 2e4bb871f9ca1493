"""CID2013: 474 photographs of 36 scenes, each taken with a dozen cameras and phones, in six image sets."""

import os
import re

from jaxiqa.datasets import checks, xlsx
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import ConfigError

CITATION = (
    "T. Virtanen, M. Nuutinen, M. Vaahteranoksa, P. Oittinen, J. Häkkinen: CID2013: A Database for Evaluating "
    "No-Reference Image Quality Assessment Algorithms. IEEE TIP 24(1), 2015. https://zenodo.org/record/2647033"
)
LICENSE = "terms of its owners, see the download page; nothing of it is in this package"
SCORE_RANGE = (0.0, 100.0)
HIGHER_IS_BETTER = True
HOW_TO_GET = "download the archive from https://zenodo.org/record/2647033 and unpack it to data_dir"

LIMITS = (-10.0, 100.0)  # realigned scores run from -9.55 to 87.88
UNITS = ("scene", "image_set", "picture")
_TABLE = "CID2013 data - version 12112014.xlsx"
_NAME = re.compile(r"(IS_(?:I|II|III|IV|V|VI))_C0[1-8]_D\d\d")


def load(data_dir: str | os.PathLike, unit: str = "scene", allow_partial: bool = False) -> Dataset:
    """Reads the realigned scores, the only ones that are on one scale, and the pictures in IS1/co1/ to IS6/co8/.

    Each scene of an image set was photographed with a dozen cameras, so a split by picture has every scene in the
    training and in the test part.

    Args:
      data_dir: the folder with the workbook and IS1/ to IS6/.
      unit: what splits keep together: "scene" (36 of them), "image_set" (6), or "picture" as random splits have it.
      allow_partial: keep the rows whose picture is there, instead of refusing a folder that is not whole.

    Raises:
      ConfigError: unknown unit.
      DataError: the wrong folder, missing or extra pictures or rows, bad labels; all of them listed.
    """
    if unit not in UNITS:
        raise ConfigError(f"cid2013: unit must be {', '.join(UNITS[:-1])} or {UNITS[-1]}, not {unit!r}")
    folder = checks.open_folder("cid2013", data_dir, HOW_TO_GET)
    checks.find_one("cid2013", folder, (_TABLE,), HOW_TO_GET)
    faults = checks.Faults("cid2013", folder, HOW_TO_GET)
    sets = [f"IS{i}" for i in range(1, 7) if os.path.isdir(os.path.join(folder, f"IS{i}"))]
    inside = [os.path.join(s, d) for s in sets for d in sorted(os.listdir(os.path.join(folder, s)))]
    pictures = checks.list_pictures(folder, [d for d in inside if os.path.isdir(os.path.join(folder, d))], faults)

    records: dict[str, Record] = {}
    columns = ("Source_ID", "Realigned MOS")
    for where, row in xlsx.read_sheet(os.path.join(folder, _TABLE), "CID2013 MOS", columns):
        written, mos = row["Source_ID"], faults.label(row["Realigned MOS"], where, LIMITS)
        match = _NAME.fullmatch(written)
        if not match:
            faults.add("names that are not like IS_I_C01_D01", f"{where} {written!r}")
            continue
        name = f"{written}.jpg"
        if name in records:
            faults.add("rows for a picture that has one already", f"{where} {name}")
        reference = {"scene": written[:-4], "image_set": match[1], "picture": ""}[unit]
        records[name] = Record(os.path.join(folder, pictures.get(name.lower(), "")), mos, name, reference)
    if allow_partial:
        records = {name: r for name, r in records.items() if name.lower() in pictures}
    else:
        faults.compare(records, pictures)
        faults.count(len(records), 474, "rows")
    faults.refuse()
    return Dataset("cid2013", list(records.values()), SCORE_RANGE, HIGHER_IS_BETTER)
