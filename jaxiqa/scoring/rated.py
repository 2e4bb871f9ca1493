"""Compares the scores of a part of a dataset with its opinion scores."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.evaluation import conformal
from jaxiqa.evaluation import metrics as iqa_metrics
from jaxiqa.scoring.card import Card
from jaxiqa.scoring.predict import Prediction
from jaxiqa.version import __version__

_SPREAD, _PLCC = 0.05, 0.2  # below either of them, scores say nothing


@dataclasses.dataclass(frozen=True)
class Results:
    """Predictions for N records of one dataset, and their metrics.

    Attributes:
      records: the images.
      dataset: the dataset of the records.
      score: (N,) 0..100, higher is better.
      native: (N,) on the scale and in the direction of the model's training set.
      se: (N,) standard error of score over the crops of an image; nan for a single crop.
      lo, hi: (N,) interval for the opinion score, on the scale of score; nan if the card has none.
      metrics: {name: value} of metrics.METRICS and of the extra metrics of evaluate(). PLCC is without a fit. Metrics
        in units, such as RMSE, are on the dataset's native scale.
    """

    records: Sequence[Record]
    dataset: Dataset
    score: np.ndarray
    native: np.ndarray
    se: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    metrics: dict[str, float]

    @property
    def mos(self) -> np.ndarray:
        """(N,) opinion scores on the dataset's native scale."""
        return np.array([r.mos for r in self.records])

    @property
    def mos100(self) -> np.ndarray:
        """(N,) opinion scores on the scale of `score`."""
        return 100 * self.dataset.scale.to_score01(self.mos)

    @property
    def contents(self) -> list[str]:
        """N names of the contents: references, or ids without one."""
        return [r.content for r in self.records]

    @property
    def spread(self) -> float:
        """Standard deviation of the scores in standard deviations of the opinion scores; nan if these are constant."""
        opinions = np.std(self.mos100)
        return float(np.std(self.score) / opinions) if opinions > 0 else math.nan

    @property
    def informative(self) -> bool:
        """Whether the scores say anything about the opinion scores: they vary, and rise with them."""
        return self.spread >= _SPREAD and self.metrics["plcc"] >= _PLCC

    def interval(self) -> dict:
        """The interval for opinions that these validation images give (evaluation/conformal.py); {} if too few."""
        of = f"the validation images of {self.dataset.name}"
        return conformal.fit_interval(self.mos100 - self.score, self.contents, self.se, of)

    def coverage(self) -> dict:
        """{"coverage", "interval_width"} of the card's interval on these images; {} without an interval."""
        found = conformal.coverage(self.lo, self.hi, self.mos100, self.contents)
        return {"coverage": found["coverage"], "interval_width": found["width"]} if found else {}


def evaluate(
    predictions: Iterable[Prediction],
    records: Sequence[Record],
    dataset: Dataset,
    card: Card,
    extra: Mapping[str, Callable] | None = None,
) -> Results:
    """Compares predictions with opinion scores.

    Args:
      predictions: one for each record, in their order.
      records: N records of `dataset`.
      dataset: the dataset of the records.
      card: card of the model.
      extra: more metrics, {name: function(pred, mos) -> float}, of two arrays (N,), 0..100, higher is better.
    """
    columns = [(found.score, found.native, found.se, found.lo, found.hi) for found in card.scores(predictions)]
    score, native, se, lo, hi = np.array(columns).reshape(-1, 5).T
    results = Results(records, dataset, score, native, se, lo, hi, {})
    same_scale = score, results.mos100
    in_units = dataset.scale.to_native(score / 100), results.mos
    for name, metric in iqa_metrics.METRICS.items():
        results.metrics[name] = metric.function(*(in_units if metric.in_units else same_scale))
    for name, function in (extra or {}).items():
        results.metrics[name] = float(function(*same_scale))
    return results


def provenance(dataset: Dataset, part: str, split, card: Card) -> dict:
    """Returns the facts that are reported with every result, besides its numbers and its step.

    Args:
      dataset: the dataset that was scored.
      part: part of the dataset; "all" for all images.
      split: from make_split; for the part "all" only its selection rule is used.
      card: card of the model.

    Returns:
      plain values: dataset, part, split, selection rule, test policy, model and version.
    """
    whole = part == "all"
    return {
        "dataset": dataset.name,
        "higher_is_better": dataset.higher_is_better,
        "note": dataset.note,
        "part": part,
        "split": "all images" if whole else f"{split.name}, round {split.round}, seed {split.seed}",
        "split_fingerprint": dataset.fingerprint if whole else split.fingerprint,
        "selection": split.selection,
        "crops": card.crops,
        "resize": card.resize,
        "model": card.model["name"],
        "variant": card.model["variant"],
        "trained_on": card.dataset,
        **({"interval_of": card.interval["of"]} if card.interval else {}),
        "jaxiqa": __version__,
    }


def describe(summary: dict, extra: Iterable[str] = ()) -> str:
    """Returns a summary in two or three lines of text. The 95 % interval is in brackets, if it is defined.

    Args:
      summary: from write_results.
      extra: names of further metrics that are not in metrics.METRICS.
    """
    fits = ", ".join(
        f"{kind} {summary[f'plcc_{kind}']['plcc']:.4f}"
        + ("" if summary[f"plcc_{kind}"]["converged"] else " (not converged)")
        for kind in iqa_metrics.KINDS
    )
    values = {name: f"{name} {summary[name]:.4f}" for name in (*iqa_metrics.METRICS, *extra)}
    for name, metric in iqa_metrics.METRICS.items():
        values[name] += " (native scale)" if metric.in_units else ""
    low, high = summary[f"{iqa_metrics.BEST}_interval"] or (math.nan, math.nan)
    values[iqa_metrics.BEST] += "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]"
    values["plcc"] += f" (after a fit: {fits})"
    interval = ""
    if "coverage" in summary:
        share, width = summary["coverage"], summary["interval_width"]
        interval = (
            f"90 % interval: holds the opinion of {share:.1%} (mean over contents), mean width {width:.1f} of 100, "
            f"calibrated on {summary['interval_of']}\n"
        )
    return (
        f"{summary['part']}: {'  '.join(values.values())}\n{interval}"
        f"on {summary['n']} images of {summary['dataset']} ({summary['split']}, {summary['split_fingerprint']}), "
        f"step {summary['step']} (selection {summary['selection']}), crops {summary['crops']}"
    )
