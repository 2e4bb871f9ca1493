"""A part of a dataset, scored and compared with its opinion scores."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.evaluation import metrics as iqa_metrics
from jaxiqa.scoring.card import Card
from jaxiqa.scoring.predict import Prediction
from jaxiqa.version import __version__


@dataclasses.dataclass(frozen=True)
class Results:
    """Predictions for N records of one dataset.

    Attributes:
      records: the images.
      dataset: where they come from.
      score: (N,) 0..100, higher is better.
      native: (N,) on the scale and in the direction of the model's training set.
      se: (N,) standard error of score over the crops of an image; nan for a single crop.
      metrics: srcc, plcc (no fit), krcc of the scores; rmse on the dataset's native scale.
    """

    records: Sequence[Record]
    dataset: Dataset
    score: np.ndarray
    native: np.ndarray
    se: np.ndarray
    metrics: dict[str, float]

    @property
    def mos(self) -> np.ndarray:
        """(N,) opinion scores on the dataset's native scale."""
        return np.array([r.mos for r in self.records])

    @property
    def mos100(self) -> np.ndarray:
        """(N,) opinion scores on the scale of `score`."""
        return 100 * self.dataset.scale.to_score01(self.mos)


def evaluate(predictions: Iterable[Prediction], records: Sequence[Record], dataset: Dataset, card: Card) -> Results:
    """Compares the predictions for `records` (of `dataset`) with their opinion scores; `card` is the model's."""
    score, native, se = np.array([found[:3] for found in card.scores(predictions)]).reshape(-1, 3).T
    results = Results(records, dataset, score, native, se, {})
    rmse = iqa_metrics.rmse(dataset.scale.to_native(score / 100), results.mos)
    results.metrics.update(iqa_metrics.all_metrics(score, results.mos100), rmse=rmse)
    return results


def provenance(dataset: Dataset, part: str, split, card: Card) -> dict:
    """What every result names beside its numbers and its step: data, split, selection rule, model, test policy.

    `split` is of make_split; for the part "all" it says only how the step was selected.
    """
    whole = part == "all"
    return {
        "dataset": dataset.name,
        "higher_is_better": dataset.higher_is_better,
        "note": dataset.note,
        "part": part,
        "split": "all pictures" if whole else f"{split.name}, round {split.round}, seed {split.seed}",
        "split_fingerprint": dataset.fingerprint if whole else split.fingerprint,
        "selection": split.selection,
        "crops": card.crops,
        "resize": card.resize,
        "model": card.model["name"],
        "variant": card.model["variant"],
        "trained_on": card.dataset,
        "jaxiqa": __version__,
    }


def describe(summary: dict) -> str:
    """What write_results returned, in two lines for people; in brackets the 95 % interval, where contents allow one."""
    fits = ", ".join(
        f"{kind} {summary[f'plcc_{kind}']['plcc']:.4f}"
        + ("" if summary[f"plcc_{kind}"]["converged"] else " (not converged)")
        for kind in iqa_metrics.KINDS
    )
    low, high = summary["srcc_interval"] or (math.nan, math.nan)
    interval = "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]"
    return (
        f"{summary['part']}: srcc {summary['srcc']:.4f}{interval}  plcc {summary['plcc']:.4f} "
        f"(after a fit: {fits})  krcc {summary['krcc']:.4f}  rmse {summary['rmse']:.4f} (native scale)\n"
        f"on {summary['n']} pictures of {summary['dataset']} ({summary['split']}, {summary['split_fingerprint']}), "
        f"step {summary['step']} (selection {summary['selection']}), crops {summary['crops']}"
    )
