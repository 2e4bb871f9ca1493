"""A part of a dataset, scored and compared with its opinion scores, and what is written about it."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath

import jaxiqa
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.evaluation import metrics as iqa_metrics
from jaxiqa.evaluation import report
from jaxiqa.inputs.decode import read_image
from jaxiqa.scoring.card import Card
from jaxiqa.scoring.predict import Prediction

_SHEET = 8  # pictures at each end of the contact sheet


@dataclasses.dataclass(frozen=True)
class Results:
    """Predictions for N records of one dataset.

    Attributes:
      records: the pictures.
      dataset: where they come from.
      score: (N,) 0..100, higher is better.
      native: (N,) on the scale and in the direction of the model's training set.
      se: (N,) standard error of score over the crops of a picture; nan for a single crop.
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
    score, native, se = card.scores(list(predictions))
    results = Results(records, dataset, score, native, se, {})
    rmse = iqa_metrics.rmse(dataset.scale.to_native(score / 100), results.mos)
    results.metrics.update(iqa_metrics.all_metrics(score, results.mos100), rmse=rmse)
    return results


def write_results(folder: epath.Path, part: str, results: Results, summary: dict) -> dict:
    """Writes predictions_PART.csv, report.json, scatter_PART.png and contact_sheet_PART.png into `folder`.

    Args:
      folder: exists.
      part: of the dataset, for the files' names.
      results: of evaluate.
      summary: what report.json says beside the metrics; "model", "variant" and "dataset" are in the figures' titles.

    Returns:
      what report.json holds: the summary, the metrics, and PLCC after fits of both logistic curves, each with the
      curve's parameters and whether it converged.
    """
    rows = [
        {
            "path": r.path,
            "score": score,
            "native": native,
            "se": "" if np.isnan(se) else se,
            "mos": r.mos,
            "reference": r.reference,
            "distortion": r.distortion,
            "level": r.level,
        }
        for r, score, native, se in zip(results.records, results.score, results.native, results.se, strict=True)
    ]
    report.write_predictions(folder / f"predictions_{part}.csv", rows)
    fits = {kind: iqa_metrics.fit_logistic(results.score, results.mos, kind) for kind in iqa_metrics.KINDS}
    fitted = {
        f"plcc_{kind}": {
            "plcc": iqa_metrics.plcc(fit(results.score), results.mos),
            "converged": fit.converged,
            "parameters": fit.params,
        }
        for kind, fit in fits.items()
    }
    summary = {**summary, "n": len(rows), **results.metrics, **fitted}
    report.write_json(folder / "report.json", summary)
    where = "all" if part == "all" else f"the {part} part"
    title = f"{summary['model']} ({summary['variant']}) on {where} of {summary['dataset']}"
    report.scatter(folder / f"scatter_{part}.png", results.score, results.mos, title, fits["logistic4"])
    error = np.abs(results.score - results.mos100)
    order = np.argsort(error, kind="stable")
    shown = [*order[:_SHEET], *order[-_SHEET:]] if len(order) > 2 * _SHEET else list(order)
    captions = [f"{results.score[i]:.0f} for {results.mos100[i]:.0f}\n{results.records[i].id}" for i in shown]
    images = [read_image(results.records[i].path) for i in shown]
    report.contact_sheet(
        folder / f"contact_sheet_{part}.png", images, captions, f"{title}\nbest predictions, then worst", _SHEET
    )
    return summary


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
        "jaxiqa": jaxiqa.__version__,
    }


def describe(summary: dict) -> str:
    """What write_results returned, in two lines for people."""
    fits = ", ".join(
        f"{kind} {summary[f'plcc_{kind}']['plcc']:.4f}"
        + ("" if summary[f"plcc_{kind}"]["converged"] else " (not converged)")
        for kind in iqa_metrics.KINDS
    )
    return (
        f"{summary['part']}: srcc {summary['srcc']:.4f}  plcc {summary['plcc']:.4f} (after a fit: {fits})  "
        f"krcc {summary['krcc']:.4f}  rmse {summary['rmse']:.4f} (native scale)\n"
        f"on {summary['n']} pictures of {summary['dataset']} ({summary['split']}, {summary['split_fingerprint']}), "
        f"step {summary['step']} (selection {summary['selection']}), crops {summary['crops']}"
    )
