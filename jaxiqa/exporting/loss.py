"""What a precision costs on rated images: the scores of an exported file beside those of the checkpoint."""

from collections.abc import Iterator, Sequence

import numpy as np

from jaxiqa.datasets.records import Dataset
from jaxiqa.exporting.crop_scores import Run
from jaxiqa.inputs.image_source import Images
from jaxiqa.scoring.engine import in_order, readers_by_default
from jaxiqa.scoring.predict import Prediction
from jaxiqa.scoring.rated import Results, evaluate
from jaxiqa.scoring.scorer import Scorer

_BATCH = 64


def measure(scorer: Scorer, run: Run, dataset: Dataset) -> tuple[Results, Results]:
    """The results of the checkpoint and of a file on all images of a dataset."""
    records = dataset.records
    images = Images(records, scorer.predictor.min_side, scorer.card.resize)
    ours = scorer.predictor.stream(scorer.variables, images)
    theirs = _predictions(scorer, run, images)
    return tuple(evaluate(found, records, dataset, scorer.card) for found in (ours, theirs))  # type: ignore[return-value]


def _predictions(scorer: Scorer, run: Run, images: Sequence) -> Iterator[Prediction]:
    cut = lambda i: np.stack(scorer.predictor.cropper(images[i]))  # noqa: E731
    for crops in in_order(range(len(images)), cut, readers_by_default()):
        parts = [run(crops[i : i + _BATCH])["output"] for i in range(0, len(crops), _BATCH)]
        output = np.concatenate(parts).astype(np.float64)
        error = float(output.std(ddof=1)) / len(output) ** 0.5 if len(output) > 1 else float("nan")
        yield Prediction(float(output.mean()), error, len(output))


def describe(dataset: Dataset, before: Results, after: Results) -> str:
    """Two lines of text."""
    change = np.abs(after.score - before.score)
    rows = (f"  {name:5} {before.metrics[name]:8.4f} {after.metrics[name]:8.4f}" for name in ("srcc", "plcc", "rmse"))
    return "\n".join(
        [
            f"on {len(before.records)} images of {dataset.name}: scores change by {change.mean():.3f} of 100 on "
            f"average, {change.max():.3f} at most",
            f"  {'':5} {'JAX':>8} {'file':>8}",
            *rows,
        ]
    )
