"""Labels to transfer: the scores of every reference by distortion type and level.

R references, C cells (pairs of type and level), N images of the pool.
"""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxiqa.datasets.records import Dataset, Scale
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.inputs.image_paths import by_stem

MODES = ("top1", "random", "cell_mean")


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """The scores of a rated dataset for each of its references."""

    dataset: str  # key of the dataset
    # R names, in the order of the dataset's records, from which its splits are drawn
    references: list[str]
    cells: list[tuple[int, int]]  # C pairs (KADID-10k's type 1..25, level 1..5), ascending
    mos_RC: np.ndarray  # float64, opinion scores on the dataset's scale
    extremes: tuple[float, float]  # lowest and highest score of the whole dataset
    scale: Scale  # scale of its labels

    def public(self, mode: str) -> np.ndarray:
        """float64 (R, C), as in SAQT's public files: 0..9 between the extremes, in the dataset's own direction."""
        lo, hi = self.extremes
        mos_RC = self.mos_RC if mode != "cell_mean" else np.tile(self.mos_RC.mean(0), (len(self.references), 1))
        return 9 * (mos_RC - lo) / (hi - lo)


def make_table(dataset: Dataset, types: Mapping[str, int]) -> LabelTable:
    """Collects the scores of a rated dataset by reference and (type, level).

    Args:
      dataset: a dataset whose records name reference, distortion and level.
      types: {the dataset's name of a distortion: KADID-10k's number}; other distortions are left out.

    Raises:
      ConfigError: the dataset has no such records.
      DataError: a reference lacks a (type, level) that another has, or has one twice.
    """
    found: dict[str, dict[tuple[int, int], float]] = {}
    for record in dataset.records:
        if record.reference and record.level and record.distortion in types:
            scores, cell = found.setdefault(record.reference, {}), (types[record.distortion], record.level)
            if cell in scores:
                raise DataError(
                    f"{dataset.name}: {record.id} has the same reference, distortion and level as another image",
                    code="format",
                    key=dataset.name,
                )
            scores[cell] = record.mos
    if not found:
        raise ConfigError(
            f"{dataset.name}: no image has a reference, a distortion and a level, so no label can be transferred (for "
            "--dataset folder: give --option group_column=COLUMN and add the columns distortion, with the names of "
            "KADID-10k, and level)",
            code="missing",
            key=dataset.name,
        )
    cells = sorted({cell for scores in found.values() for cell in scores})
    lacking = [f"{r} type {t} level {level}" for r in found for t, level in cells if (t, level) not in found[r]]
    if lacking:
        more = ", ..." if len(lacking) > 10 else ""
        raise DataError(
            f"{dataset.name}: {len(lacking):,} labels are missing ({', '.join(lacking[:10])}{more}); a transfer needs "
            "every reference at every type and level",
            code="missing",
            key=dataset.name,
        )
    mos = [record.mos for record in dataset.records]
    mos_RC = np.array([[scores[cell] for cell in cells] for scores in found.values()])
    return LabelTable(dataset.name, list(found), cells, mos_RC, (min(mos), max(mos)), dataset.scale)


def label_sources(mode: str, names: Sequence[str], match_N: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The reference whose labels each image of the pool gets: int (N,), indices below `count`.

    It is the match of the image, or, for mode "random", a reference drawn by the image's name and the seed.
    """
    if mode != "random":
        return np.asarray(match_N)
    return np.array([zlib.crc32(f"{seed}\t{name}".encode("utf-8", "surrogateescape")) % count for name in names])


def find_references(references: Sequence[str], folder: str) -> dict[str, str]:
    """Finds the image of each reference: {reference: path}.

    The image has the name of the reference, without extension, anywhere below `folder`. Names are compared without case
    (I01 finds reference_images/i01.BMP).

    Raises:
      DataError: a reference has no image, or several; the message lists the first ones.
    """
    named = by_stem(folder)
    found = {reference: named.get(reference.lower(), []) for reference in references}
    wrong = [f"{reference} ({len(paths)})" for reference, paths in found.items() if len(paths) != 1]
    if wrong:
        raise DataError(
            f"{folder} must hold exactly one image with the name of each reference; the number differs for "
            f"{', '.join(wrong[:10])}{', ...' if len(wrong) > 10 else ''}; name the right folder by --references",
            code="mismatch",
            key=folder,
        )
    return {reference: paths[0] for reference, paths in found.items()}
