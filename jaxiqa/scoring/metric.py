"""Scores from Python: create_metric(...)(image)."""

from collections.abc import Iterable

from etils import epath

from jaxiqa import plugins
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.models import find_model
from jaxiqa.scoring.scorer import Scorer


class Metric:
    """A function of an image that returns its score; made by create_metric.

    Attributes:
      score_range: (0.0, 100.0), the scores of the training set's worst and best label. A score may be outside.
      lower_better: False.
      metric_mode: "NR" (no-reference): no reference image is needed.
      scorer: the loaded checkpoint; its card says what the scores mean.
    """

    score_range = (0.0, 100.0)
    lower_better = False
    metric_mode = "NR"

    def __init__(self, scorer: Scorer):
        self.scorer = scorer

    def __call__(self, images) -> float | list[float]:
        """Returns the score of one image, or a list of scores; 0..100, higher is better.

        Args:
          images: one image: a path, the bytes of a file, a Pillow image, or an array (H, W, 3) or (H, W) of uint8 or
            of floats in 0..1 (RGB, channels last). Several images: a list or tuple of these, or an array (N, H, W, 3);
            the result is then a list.

        Raises:
          DataError: an image cannot be read; in a list, the message names the first such image by its index.
        """
        many = isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4
        scores = []
        for i, found in enumerate(self.scorer.scores(images if many else [images])):
            if found.reason:
                place = f"image {i} of {len(images)}: " if many else ""
                raise DataError(f"{place}{found.reason}", code=found.code)
            scores.append(found.score)
        return scores if many else scores[0]


def create_metric(
    name: str = "",
    checkpoint: epath.PathLike = "",
    *,
    step: int | None = None,
    crops: str | None = None,
    allow: str | Iterable[str] = (),
) -> Metric:
    """Loads a trained model as a function of images.

      metric = jaxiqa.create_metric("glintiqa", checkpoint="workdir/mine")
      metric("photo.jpg")  # 0..100, higher is better

    Args:
      name: name of the model; if it is not empty, the checkpoint must hold this model.
      checkpoint: the workdir of a training run (its best step, else its latest), a converted checkpoint, or one step's
        folder in it.
      step: the step to load, instead of the best one.
      crops: crop policy, "grid" (covers every pixel) or "random:N"; default: the checkpoint's own.
      allow: packages outside jaxiqa, e.g. "mylab", from which the checkpoint may import its model. A module path in
        `name` is allowed too.

    Raises:
      ConfigError: no checkpoint is given (no weights come with the package), or it holds another model.
      CheckpointError: the checkpoint cannot be read.
    """
    if name:
        find_model(name)
    if not checkpoint:
        raise ConfigError(
            f'create_metric("{name}"): no weights come with the package; give checkpoint="WORKDIR"',
            code="missing",
            key="checkpoint",
        )
    allow = [allow] if isinstance(allow, str) else [*allow]
    scorer = Scorer(checkpoint, step, crops, allow=[*allow, *([name] if plugins.is_path(name) else [])])
    if name and name != scorer.card.model["name"]:
        raise ConfigError(
            f"{scorer.workdir} holds {scorer.card.model['name']}, not {name}", code="mismatch", key="checkpoint"
        )
    return Metric(scorer)
