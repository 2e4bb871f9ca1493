"""What fewer crops cost in accuracy, and save in time: auto:N against the full grid and against ratings."""

import math
import time
from collections.abc import Sequence

import numpy as np

from jaxiqa.datasets import load
from jaxiqa.datasets.options import parse_options
from jaxiqa.datasets.readers import folder
from jaxiqa.errors import ConfigError
from jaxiqa.evaluation.metrics import srcc
from jaxiqa.inputs.image_paths import images_in
from jaxiqa.inputs.python_images import pixels
from jaxiqa.inputs.transforms import fit
from jaxiqa.runs import compile_cache
from jaxiqa.scoring.batch_scorer import BatchScorer
from jaxiqa.scoring.crops import Cropper

COUNTS = (1, 4, 9, 25)


def run(
    checkpoint: str | None = None,
    data_dir: str | None = None,
    option: Sequence[str] = (),
    images: str | None = None,
    count: int = 100,
) -> int:
    """Prints the table; returns 0.

    Args:
      checkpoint: as for BatchScorer.
      data_dir: folder of rated images, as the dataset `folder` reads it.
      option: options of that dataset.
      images: a folder of images without ratings, in place of data_dir.
      count: number of images to score, evenly spaced.
    """
    if bool(data_dir) == bool(images):
        raise ConfigError(
            "name a folder of rated images by --data_dir, or unrated images by --images",
            code="missing",
            key="--data_dir",
        )
    compile_cache.enable()
    mos = None
    if data_dir:
        dataset = load(folder.KEY, data_dir, **parse_options(option))
        paths = [str(record.path) for record in dataset.records]
        mos = np.array([record.mos for record in dataset.records]) * (1 if dataset.higher_is_better else -1)
    else:
        paths = images_in(images)
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int))
    paths = [paths[i] for i in chosen]
    mos = None if mos is None else mos[chosen]
    scorer = BatchScorer(checkpoint)
    print(f"{scorer.model}: {len(paths)} images of {data_dir or images}")
    print(f"{'crops':8} {'of an image':>11} {'SRCC with grid':>15} {'with ratings':>13} {'images/s':>9} {'speed':>7}")
    for policy in ("auto:1", "auto:9", "grid"):
        score(scorer, paths[:1], policy)  # compiles the three shapes of batches
    rows = {policy: score(scorer, paths, policy) for policy in (*(f"auto:{n}" for n in COUNTS), "grid")}
    grid, _, seconds = rows["grid"]
    for policy, (scores, crops, took) in rows.items():
        known = np.isfinite(scores) & np.isfinite(grid)
        rated = math.nan if mos is None else srcc(scores[known], mos[known])
        rated_text = f"{'':>13}" if mos is None else f"{rated:13.3f}"
        print(
            f"{policy:8} {crops:11.1f} {srcc(scores[known], grid[known]):15.3f} {rated_text} {len(paths) / took:9.2f} "
            f"{seconds / took:6.1f}x"
        )
    return 0


def score(scorer: BatchScorer, paths: Sequence[str], policy: str) -> tuple[np.ndarray, float, float]:
    """(scores (N,), mean number of crops, seconds) of images under a crop policy, by the same compiled function."""
    loaded = scorer.scorer
    cropper = Cropper.of(loaded.model, policy)

    def read(path):
        return np.stack(cropper(fit(pixels(path), cropper.min_side, scorer.card.resize)))

    began = time.perf_counter()
    found = list(loaded.stream(paths, read, are_crops=True))
    took = time.perf_counter() - began
    scores = np.array([one.score for one in scorer.card.scores(found)])
    return scores, float(np.mean([one.crops for one in found])), took
