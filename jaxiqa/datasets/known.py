"""Numbers of the owners' releases, by which a dataset is told from a copy with other labels or other pictures.

Computed from public label files, and agreed with the owners' papers and pages where those say anything.
"""

from typing import NamedTuple

import numpy as np


class Known(NamedTuple):
    """Of a whole dataset: pictures; least, greatest and mean label with the decimals that are known; sizes."""

    count: int
    least: str
    greatest: str
    mean: str
    sizes: tuple[tuple[int, int], ...] = ()  # (height, width) of every picture; () where they differ


KNOWN = {
    "live": Known(779, "-2.640", "111.775", "48.58"),  # realigned
    "livemd": Known(450, "0.61", "84.67", "47.580"),
    "csiq": Known(866, "0.000", "1.000", "0.351", ((512, 512),)),
    "tid2008": Known(1_700, "0.0", "7.714", "4.480", ((384, 512),)),
    "tid2013": Known(3_000, "0.2424", "7.2143", "4.475", ((384, 512),)),
    "kadid10k": Known(10_125, "1.00", "4.93", "3.0326", ((384, 512),)),
    "pipal": Known(23_200, "916.71", "1835.99", "1448.96", ((288, 288),)),
    "livec": Known(1_162, "3.42", "92.43", "55.40"),
    "koniq10k": Known(10_073, "3.912", "88.389", "58.73", ((384, 512), (768, 1024))),  # z-scores
    "spaq": Known(11_125, "2", "96", "50.32"),
    "flive": Known(39_810, "0.00", "94.33", "72.13"),
    "bid": Known(586, "0.164", "4.920", "2.953"),
    "cid2013": Known(474, "-9.55", "87.88", "46.07"),  # realigned
}


def compare_labels(known: Known, mos: np.ndarray) -> str:
    """How the labels (N,) of a whole dataset differ from the owners'; "" where they do not.

    Where they are the owners' on another scale, or turned over, that is said: the place of the mean between the least
    and the greatest label tells.
    """
    least, greatest, mean = mos.min(), mos.max(), mos.mean()
    if all(map(_agree, (least, greatest, mean), (known.least, known.greatest, known.mean))):
        return ""
    found = f"{least:.6g}..{greatest:.6g}, mean {mean:.6g}, not {known.least}..{known.greatest}, mean {known.mean}"
    if greatest == least:
        return found
    lo, hi = float(known.least), float(known.greatest)
    theirs, ours = (float(known.mean) - lo) / (hi - lo), (mean - least) / (greatest - least)
    # The owners' means are known to a thousandth of their range, and none is that near the middle.
    if abs(ours - theirs) < 2e-3:
        return f"{found}: the owners' labels on another scale"
    if abs(ours - (1 - theirs)) < 2e-3:
        return f"{found}: the owners' labels turned over, best for worst"
    return found


def _agree(value: float, text: str) -> bool:
    return float(f"{value:.{len(text.partition('.')[2])}f}") == float(text)
