"""Labels to transfer: the scores of every reference by distortion type and level. R references, C cells, N sources."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxiqa.datasets.records import Dataset, Scale
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.inputs.files import by_stem

MODES = ("top1", "random", "cell_mean")


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """What a rated dataset says of each of its references."""

    dataset: str  # key of it
    # R names, in the order in which the dataset's records name them (which its splits are drawn from)
    references: list[str]
    cells: list[tuple[int, int]]  # C pairs (KADID-10k's type 1..25, level 1..5), ascending
    mos_RC: np.ndarray  # float64, opinion scores on the dataset's scale
    extremes: tuple[float, float]  # least and greatest score of the whole dataset
    scale: Scale  # of its labels

    def public(self, mode: str) -> np.ndarray:
        """float64 (R, C), what SAQT's public files hold: 0..9 between the extremes, in the dataset's own direction."""
        lo, hi = self.extremes
        mos_RC = self.mos_RC if mode != "cell_mean" else np.tile(self.mos_RC.mean(0), (len(self.references), 1))
        return 9 * (mos_RC - lo) / (hi - lo)


def make_table(dataset: Dataset, types: Mapping[str, int]) -> LabelTable:
    """The scores of a rated dataset by reference and (type, level).

    Args:
      dataset: its records name reference, distortion and level.
      types: {what it calls a distortion: KADID-10k's number}; others are left out.

    Raises:
      ConfigError: it has no such records.
      DataError: a reference lacks a (type, level) that others have, or has one twice.
    """
    found: dict[str, dict[tuple[int, int], float]] = {}
    for record in dataset.records:
        if record.reference and record.level and record.distortion in types:
            scores, cell = found.setdefault(record.reference, {}), (types[record.distortion], record.level)
            if cell in scores:
                raise DataError(f"{dataset.name}: {record.id} is a second picture of its distortion and level")
            scores[cell] = record.mos
    if not found:
        raise ConfigError(
            f"{dataset.name} names no reference, distortion and level, so there is nothing to transfer (for --dataset "
            "folder: --option group_column=COLUMN, and columns distortion, as KADID-10k calls them, and level)"
        )
    cells = sorted({cell for scores in found.values() for cell in scores})
    lacking = [f"{r} type {t} level {level}" for r in found for t, level in cells if (t, level) not in found[r]]
    if lacking:
        more = ", ..." if len(lacking) > 10 else ""
        raise DataError(
            f"{dataset.name}: {len(lacking):,} labels are missing ({', '.join(lacking[:10])}{more}); a transfer needs "
            "every reference at every type and level"
        )
    mos = [record.mos for record in dataset.records]
    mos_RC = np.array([[scores[cell] for cell in cells] for scores in found.values()])
    return LabelTable(dataset.name, list(found), cells, mos_RC, (min(mos), max(mos)), dataset.scale)


def label_sources(mode: str, names: Sequence[str], match_N: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The reference that each source is taken to be like: int (N,), numbers below `count`.

    That is its match, or for mode "random" any reference, drawn by the source's name and the seed.
    """
    if mode != "random":
        return np.asarray(match_N)
    return np.array([zlib.crc32(f"{seed}\t{name}".encode("utf-8", "surrogateescape")) % count for name in names])


def find_references(references: Sequence[str], folder: str) -> dict[str, str]:
    """{reference: path of its picture}, the one of that name without its ending anywhere below `folder`.

    Names are compared without case (I01 finds reference_images/i01.BMP).

    Raises:
      DataError: a reference has no picture, or several; all are listed.
    """
    named = by_stem(folder)
    there = {reference: named.get(reference.lower(), []) for reference in references}
    wrong = [f"{reference} ({len(paths)})" for reference, paths in there.items() if len(paths) != 1]
    if wrong:
        raise DataError(
            f"{folder} must hold one picture named after each reference, and has another number for "
            f"{', '.join(wrong[:10])}{', ...' if len(wrong) > 10 else ''}; name their folder by --references"
        )
    return {reference: paths[0] for reference, paths in there.items()}
