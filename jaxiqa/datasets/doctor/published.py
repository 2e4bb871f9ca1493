"""Numbers of the owners' releases, which distinguish a dataset from a copy with other labels or other images.

They are computed from public label files, and agree with the owners' papers and pages if these give numbers.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Known:
    """Numbers of a complete dataset. Labels are texts with the decimals that are known."""

    count: int  # of images
    least: str
    greatest: str
    mean: str
    sizes: tuple[tuple[int, int], ...] = ()  # (height, width) that an image may have; () if they vary
    others: str = ""  # other labels of the dataset, which people take for these


def compare_labels(known: Known, mos: np.ndarray) -> str:
    """Describes how the labels (N,) of a complete dataset differ from the owners'; "" if they do not.

    The position of the mean between the least and the greatest label shows whether these are the owners' labels on
    another scale, or inverted.
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
        return f"{found}: the owners' labels inverted (best and worst swapped)"
    return found


def _agree(value: float, text: str) -> bool:
    return float(f"{value:.{len(text.partition('.')[2])}f}") == float(text)
