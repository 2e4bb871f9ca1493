"""What a dataset says about its pictures: one Record per rated picture, and the scale of its labels."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One rated picture.

    Attributes:
      path: the file to read.
      mos: opinion score on the dataset's native scale and direction; NaN in datasets that nobody rated.
      id: unique in the dataset, the same on every machine (usually the path relative to the dataset's folder).
      reference: content the picture was made from, the unit that splits keep together; "" where it is its own.
      distortion: name of the distortion, "" where unknown.
      level: strength 1..5 of the distortion, 0 where unknown.
      apply: (type, level) that is yet to be applied to the pristine picture at `path`; None for files as they are.
    """

    path: str
    mos: float
    id: str
    reference: str = ""
    distortion: str = ""
    level: int = 0
    apply: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Scale:
    """A native rating scale: its constants lo and hi, and its direction."""

    lo: float
    hi: float
    higher_is_better: bool = True

    def to_score01(self, mos):
        """Native labels to score01: 0..1 from lo to hi, higher is better, unclipped."""
        score01 = (np.asarray(mos, np.float64) - self.lo) / (self.hi - self.lo)
        return score01 if self.higher_is_better else 1.0 - score01

    def to_native(self, score01):
        """The inverse of to_score01."""
        score01 = np.asarray(score01, np.float64)
        return self.lo + (self.hi - self.lo) * (score01 if self.higher_is_better else 1.0 - score01)


@dataclasses.dataclass(frozen=True, eq=False)
class Transferred:
    """Scores that pristine images have from a rated dataset, one for every distortion that they may be given."""

    dataset: str  # the rated dataset's key
    fingerprint: str  # what its records and labels were
    cells: Sequence[tuple[int, int]]  # C pairs (KADID-10k's type 1..25, level 1..5)
    mos_NC: (
        np.ndarray
    )  # float64 (N, C), of the N records of the dataset that has this; a record's mos is one of its row


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The records of one dataset and the meaning of their labels.

    Attributes:
      name: key of the dataset, e.g. "kadid10k".
      records: in an order that is the same on every machine.
      score_range: (lo, hi), the dataset's constants for mapping labels to 0..1 (not the extremes of its labels).
      higher_is_better: direction of `mos`.
      train_only: references that may be trained on but are in no validation or test part.
      official_split: record indices by part ("train", "val", "test") where the owners define one.
      note: what everybody who sees a result must know, "" for most.
      listed: ids in the order of the owners' list of labels, which split files of other projects count in; None where
        the records are in that order.
      transferred: of pristine pictures that train with another distortion in every epoch; their records' `apply` and
        `mos` are then those with which they validate and test.
    """

    name: str
    records: Sequence[Record]
    score_range: tuple[float, float]
    higher_is_better: bool
    train_only: frozenset[str] = frozenset()
    official_split: dict[str, list[int]] | None = None
    note: str = ""
    listed: Sequence[str] | None = None
    transferred: Transferred | None = None

    def __len__(self) -> int:
        return len(self.records)

    @property
    def rated(self) -> bool:
        """False for a pool of pristine pictures, whose records have no opinion scores; all or none have them."""
        return not math.isnan(self.records[0].mos)

    @property
    def scale(self) -> Scale:
        """Between native labels and score01."""
        return Scale(*self.score_range, self.higher_is_better)

    @functools.cached_property
    def fingerprint(self) -> str:
        """12 hex digits over the ids and labels of all records: equal if and only if the labelled set is the same."""
        lines = sorted(f"{r.id}\t{r.mos!r}\t{r.apply}" for r in self.records)
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:12]
