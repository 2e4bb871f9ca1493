"""What a set of images is like as a whole: counts, percentiles, the worst and the best, by folder."""

import collections
import heapq
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxiqa.scoring.jobs.names import folder_of

LOWEST, HIGHEST, STEP = -100.0, 200.0, 0.1  # of the bins of scores; what lies outside counts to the outermost bins
SHOWN = 12  # images of the worst, and of the best
_FOLDERS = 10_000  # that are told apart; later ones count together
OTHERS = "(other folders)"


class Folder(NamedTuple):
    """The images of a folder."""

    images: int = 0
    refused: int = 0
    total: float = 0.0  # of the scores
    worst: float = math.inf

    @property
    def mean(self) -> float:
        """Mean score; nan if all images were refused."""
        return self.total / (self.images - self.refused) if self.images > self.refused else math.nan


class Summary:
    """Collects rows of `jaxiqa score`. The memory that it takes does not grow with their number.

    Attributes:
      images, refused: numbers of images.
      folders: {folder: Folder}.
      reasons: {why images were refused, without their names: number}.
      words: {word: number}.
    """

    def __init__(self) -> None:
        self.images = self.refused = 0
        self.folders: dict[str, Folder] = {}
        self.reasons: collections.Counter[str] = collections.Counter()
        self.words: collections.Counter[str] = collections.Counter()
        self._bins = np.zeros(round((HIGHEST - LOWEST) / STEP), np.int64)
        self._worst: list[tuple[float, int, Mapping]] = []
        self._best: list[tuple[float, int, Mapping]] = []
        self._total = 0.0

    def add(self, row: Mapping) -> None:
        """Adds an image, by the columns path, score, status, reason and word. The worst and the best rows are kept."""
        self.images += 1
        name = folder_of(row["path"])
        if name not in self.folders and len(self.folders) >= _FOLDERS:
            name = OTHERS
        old = self.folders.get(name, Folder())
        if row["status"] != "ok":
            self.refused += 1
            self.reasons[_kind(row["reason"])] += 1
            self.folders[name] = old._replace(images=old.images + 1, refused=old.refused + 1)
            return
        score = float(row["score"])
        self.words[row["word"]] += 1
        self._total += score
        self._bins[min(max(int((score - LOWEST) / STEP), 0), len(self._bins) - 1)] += 1
        self.folders[name] = Folder(old.images + 1, old.refused, old.total + score, min(old.worst, score))
        order = -self.images  # of equal scores, the first is kept
        for heap, key in ((self._worst, -score), (self._best, score)):
            heapq.heappush(heap, (key, order, row))
            if len(heap) > SHOWN:
                heapq.heappop(heap)

    @property
    def scored(self) -> int:
        """Number of images with a score."""
        return self.images - self.refused

    @property
    def mean(self) -> float:
        """Mean score; nan if there is none."""
        return self._total / self.scored if self.scored else math.nan

    def percentiles(self, percents=(1, 5, 10, 25, 50, 75, 90, 95, 99)) -> dict[int, float]:
        """{percent: the score below which so many percent of the images are}, exact to STEP; {} without images."""
        reached = np.cumsum(self._bins)
        if not self.scored:
            return {}
        at = np.searchsorted(reached, np.asarray(percents) / 100 * self.scored)
        return {p: round(LOWEST + STEP * (int(i) + 0.5), 2) for p, i in zip(percents, at, strict=True)}

    def histogram(self, width: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
        """(numbers of images (n,), edges (n + 1,)) of bins of this width, from the lowest to the highest score."""
        per = round(width / STEP)
        counts = self._bins.reshape(-1, per).sum(1)
        used = np.flatnonzero(counts)
        low, high = (used[0], used[-1] + 1) if used.size else (0, 1)
        return counts[low:high], LOWEST + width * np.arange(low, high + 1)

    def worst(self) -> list[Mapping]:
        """Rows of the worst images, the worst first."""
        return [row for _, _, row in sorted(self._worst, key=lambda one: one[:2], reverse=True)]

    def best(self) -> list[Mapping]:
        """Rows of the best images, the best first."""
        return [row for _, _, row in sorted(self._best, key=lambda one: one[:2], reverse=True)]


def _kind(reason: str) -> str:
    """A reason without the name of the image: what is after the first colon."""
    _, _, what = reason.partition(": ")
    return (what or reason)[:100]
