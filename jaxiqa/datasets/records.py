"""A dataset in memory: one Record per rated image, and the scale of the labels."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Sequence

import numpy as np

from jaxiqa.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One rated image.

    Attributes:
      path: the file to read.
      mos: opinion score on the dataset's native scale and direction; NaN in datasets without ratings.
      id: unique in the dataset, the same on every machine (usually the path relative to the dataset's folder).
      reference: content that the image was made from, the unit that splits keep together; "" if it has its own content.
      distortion: name of the distortion; "" if unknown.
      level: strength 1..5 of the distortion; 0 if unknown.
      apply: (type, level) still to be applied to the pristine image at `path`; None if the file is used as it is.
      std: standard deviation of the ratings in the units of `mos`; None if unknown.
      histogram: share of the ratings in each of the dataset's `categories`, which sums to 1; () if unknown.
    """

    path: str
    mos: float
    id: str
    reference: str = ""
    distortion: str = ""
    level: int = 0
    apply: tuple[int, int] | None = None
    std: float | None = None
    histogram: tuple[float, ...] = ()

    @property
    def content(self) -> str:
        """Name of its content: `reference`, or its id if it has its own."""
        return self.reference or self.id


@dataclasses.dataclass(frozen=True)
class Scale:
    """A native rating scale: constants lo and hi, and the direction."""

    lo: float
    hi: float
    higher_is_better: bool = True

    def to_score01(self, mos):
        """Converts native labels to score01: lo..hi becomes 0..1, higher is better, values are not clipped."""
        score01 = (np.asarray(mos, np.float64) - self.lo) / (self.hi - self.lo)
        return score01 if self.higher_is_better else 1.0 - score01

    def to_native(self, score01):
        """The inverse of to_score01."""
        score01 = np.asarray(score01, np.float64)
        return self.lo + (self.hi - self.lo) * (score01 if self.higher_is_better else 1.0 - score01)


@dataclasses.dataclass(frozen=True, eq=False)
class Transferred:
    """Transferred labels: scores of a rated dataset for pristine images, one for each distortion that they may get.

    Attributes:
      dataset: key of the rated dataset.
      fingerprint: fingerprint of its records and labels.
      cells: C pairs (KADID-10k's type 1..25, level 1..5).
      mos_NC: float64 (N, C), scores of the N records of the dataset that this belongs to. The mos of a record is one of
        the C values in its row.
    """

    dataset: str
    fingerprint: str
    cells: Sequence[tuple[int, int]]
    mos_NC: np.ndarray


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The records of one dataset and the meaning of their labels.

    Attributes:
      name: key of the dataset, e.g. "kadid10k".
      records: in an order that is the same on every machine.
      score_range: (lo, hi), the dataset's constants for mapping labels to 0..1 (not the extremes of its labels).
      higher_is_better: direction of `mos`.
      train_only: references that may be trained on but are in no validation or test part.
      official_split: record indices by part ("train", "val", "test"); None if the owners define no split.
      note: what every reader of a result must know; "" for most datasets.
      listed: ids in the order of the owners' list of labels, whose rows split files of other projects count; None if
        the records are in that order.
      transferred: labels of pristine images that train with another distortion in every epoch; None for other datasets.
        The records' `apply` and `mos` are then used for validation and test only.
      categories: value of each category of the records' histograms on the scale of `mos`; () without histograms.
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
    categories: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def rated(self) -> bool:
        """False for a pool of pristine images without opinion scores. Either all records have scores, or none has."""
        return not math.isnan(self.records[0].mos)

    @property
    def scale(self) -> Scale:
        """The conversion between native labels and score01."""
        return Scale(*self.score_range, self.higher_is_better)

    def spread(self, indices: Sequence[int], names: Sequence[str], native: bool) -> dict[str, np.ndarray]:
        """Returns how far raters disagree about some images, as {name: array}.

        Args:
          indices: indices of N records.
          names: which arrays: "std", (N,), at least 1 % of the scale; "histogram", (N, K), in ascending order of the
            labels of K categories; "categories", (N, K), these labels in each row.
          native: True for the units of native labels, False for those of score01.

        Raises:
          ConfigError: the dataset does not have them.
          DataError: some of the records lack them.
        """
        records, columns = [self.records[i] for i in indices], {}
        span = self.score_range[1] - self.score_range[0]
        values = np.asarray(self.categories, np.float64) if native else self.scale.to_score01(self.categories)
        order = np.argsort(values)
        for name in names:
            if name == "std":
                lacking = [r.id for r in records if r.std is None]
            else:
                lacking = [r.id for r in records if not r.histogram or len(r.histogram) != len(order)]
            if len(lacking) == len(records):
                what = "standard deviations (std)" if name == "std" else "histograms"
                raise ConfigError(
                    f"dataset {self.name} has no {what} of its ratings, which config.loss needs; set another loss",
                    code="missing",
                    key="config.loss",
                )
            if lacking:
                raise DataError(
                    f"{self.name}: {len(lacking):,} of {len(records):,} training images, such as {lacking[0]}, have no "
                    f"{name}, which config.loss needs; leave them out or set another loss",
                    code="missing",
                    key="config.loss",
                )
            if name == "std":
                columns[name] = np.maximum(np.array([r.std for r in records], np.float64), 0.01 * span) / (
                    1.0 if native else span
                )
            elif name == "histogram":
                columns[name] = np.array([r.histogram for r in records])[:, order]
            else:
                columns[name] = np.tile(values[order], (len(records), 1))
        return columns

    @functools.cached_property
    def fingerprint(self) -> str:
        """12 hex digits over the ids and labels of all records: equal if and only if the labelled set is the same."""
        lines = sorted(f"{r.id}\t{r.mos!r}\t{r.apply}" for r in self.records)
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:12]
