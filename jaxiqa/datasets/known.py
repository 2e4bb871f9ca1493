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
    sizes: tuple[tuple[int, int], ...] = ()  # (height, width) that an image may have; () if they differ
    others: str = ""  # which labels of the dataset are not these


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
