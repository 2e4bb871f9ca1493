"""A part of a dataset, scored and compared with its opinion scores, and what is written about it."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from etils import epath

from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.evaluation import metrics as iqa_metrics
from jaxiqa.evaluation import report
from jaxiqa.inputs.decode import read_image
from jaxiqa.inputs.pictures import Pictures
from jaxiqa.scoring.predict import Predictor

_SHEET = 8  # pictures at each end of the contact sheet


@dataclasses.dataclass(frozen=True)
class Results:
    """Predictions for N records.

    Attributes:
      records: the pictures.
      score: (N,) 0..100, higher is better.
      native: (N,) on the dataset's scale and direction.
      mos100: (N,) the opinion scores on the scale of `score`.
      metrics: srcc, plcc (no fit), krcc of score and mos100; rmse on the native scale.
    """

    records: Sequence[Record]
    score: np.ndarray
    native: np.ndarray
    mos100: np.ndarray
    metrics: dict[str, float]


def evaluate(predictor: Predictor, variables, pictures: Pictures, dataset: Dataset, labels: str) -> Results:
    """Scores `pictures` (records of `dataset`) with a model trained on `labels` ("score01" or "native")."""
    raw = predictor(variables, pictures)
    native = raw if labels == "native" else dataset.to_native(raw)
    mos = np.array([r.mos for r in pictures.records])
    score, mos100 = 100 * dataset.to_score01(native), 100 * dataset.to_score01(mos)
    metrics = {**iqa_metrics.all_metrics(score, mos100), "rmse": iqa_metrics.rmse(native, mos)}
    return Results(pictures.records, score, native, mos100, metrics)


def write_results(folder: epath.Path, part: str, results: Results, summary: dict) -> None:
    """Writes predictions_PART.csv, report.json, scatter_PART.png and contact_sheet_PART.png into `folder`."""
    rows = [
        {
            "path": r.path,
            "score": score,
            "native": native,
            "mos": r.mos,
            "reference": r.reference,
            "distortion": r.distortion,
            "level": r.level,
        }
        for r, score, native in zip(results.records, results.score, results.native, strict=True)
    ]
    report.write_predictions(folder / f"predictions_{part}.csv", rows)
    report.write_json(folder / "report.json", summary)
    title = f"{summary['model']} ({summary['variant']}) on the {part} part of {summary['dataset']}"
    report.scatter(folder / f"scatter_{part}.png", results.score, [r.mos for r in results.records], title)
    error = np.abs(results.score - results.mos100)
    order = np.argsort(error, kind="stable")
    shown = [*order[:_SHEET], *order[-_SHEET:]] if len(order) > 2 * _SHEET else list(order)
    captions = [f"{results.score[i]:.0f} for {results.mos100[i]:.0f}\n{results.records[i].id}" for i in shown]
    images = [read_image(results.records[i].path) for i in shown]
    report.contact_sheet(
        folder / f"contact_sheet_{part}.png", images, captions, f"{title}\nbest predictions, then worst", _SHEET
    )
