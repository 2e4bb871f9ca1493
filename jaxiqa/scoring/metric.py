"""Scores from Python: create_metric(...)(image)."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator

import jax
from etils import epath

from jaxiqa import plugins
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.inputs.python_images import several
from jaxiqa.models import find_model, ready
from jaxiqa.runs import hub
from jaxiqa.scoring.card import Score
from jaxiqa.scoring.differentiable import make_apply
from jaxiqa.scoring.maps import Maps, QualityMap
from jaxiqa.scoring.scorer import Scorer

_PART = 256  # images that are taken from a generator at a time


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
        self._apply: Callable | None = None
        self._maps: Maps | None = None

    def __reduce__(self):
        return Metric, (self.scorer,)

    def __call__(self, images) -> float | list[float]:
        """Returns the score of one image, or a list of scores; 0..100, higher is better.

        A copy by pickle, e.g. in a worker that multiprocessing spawns, loads the checkpoint again from its folder. A
        forked process cannot use JAX: start workers by "spawn" or "forkserver".

        Args:
          images: one image: a path, the bytes of a file, an open binary file, a Pillow image, or an array or tensor
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, of bool, or of floats in 0..1 (RGB, channels last).
            Several images: anything that is iterated over, e.g. a list, a generator, a column of a table or an array
            (N, H, W, 3); the result is then a list.

        Raises:
          DataError: an image cannot be read; of several, the message names the first such image by its index.
          ConfigError: the process was forked from one that uses JAX.
        """
        many = several(images)
        if many is None:
            return self._scores([images])[0]
        if isinstance(many, Iterator):  # in parts: a generator may make more images than fit in memory
            scores: list[float] = []
            while part := list(itertools.islice(many, _PART)):
                scores += self._scores(part, len(scores))
            return scores
        images = list(many)
        return self._scores(images, 0, f" of {len(images)}")

    def apply(self, images_BHWC: jax.Array) -> jax.Array:
        """The scores of a batch as a pure function, for jax.jit, jax.vmap and jax.grad, also inside a training step.

        Images are resized and cropped inside, as the card says. The score is that of a call, up to rounding: a call
        rounds images, and their resized copies, to 8 bits. All crops of a batch are scored at once, so the memory grows
        with the size of the images.

        As a loss or a reward, the score is a target that can be deceived: gradient ascent also finds changes that
        raise it and help nobody (the manual's page "Score images" shows how many). Keep the changes small, and judge
        the result by another measure.

        Args:
          images_BHWC: (B, H, W, 3), RGB: floats from 0 to 1, or uint8, which has no gradient. Floats are not clipped.

        Returns:
          float32 (B,), 0..100, higher is better. The gradient of a model that rounds its input (cnniqa) is 0.

        Raises:
          ConfigError: the images have another shape or type, or the crop policy is "random:N".
        """
        if self._apply is None:
            self._apply = make_apply(self.scorer)
        return self._apply(images_BHWC)

    def map(self, image) -> QualityMap:
        """The quality of the parts of one image: the scores of overlapping crops.

        It takes about four times as many crops as the policy "grid". Without a curve of jaxiqa calibrate, the mean of
        the map is the score with the crop policy "overlap".

        Args:
          image: one image, as for a call.

        Raises:
          DataError: the image cannot be read.
        """
        if self._maps is None:
            self._maps = Maps(self.scorer)
        return self._maps(image)

    def _scores(self, images: list, first: int | None = None, of: str = "") -> list[float]:
        """The scores of images, of which the first has this index."""
        scores = []
        for i, found in enumerate(self.scorer.scores(images)):
            if found.reason:
                place = "" if first is None else f"images[{first + i}]{of}: "
                raise DataError(f"{place}{found.reason}", code=found.code)
            scores.append(found.score)
        return scores

    def describe(self, image) -> Score:
        """Returns the score of one image with its percentile, its word, its standard error over the crops, the native
        score, and the interval for people's mean opinion (`lo`, `hi`; nan if the checkpoint has none).

        Args:
          image: one image, as for a call.

        Raises:
          DataError: the image cannot be read.
        """
        (found,) = self.scorer.scores([image])
        if found.reason:
            raise DataError(found.reason, code=found.code)
        return found


def create_metric(
    name: str = "",
    checkpoint: epath.PathLike = "",
    *,
    step: int | None = None,
    crops: str | None = None,
    allow: str | Iterable[str] = (),
) -> Metric:
    """Loads a trained model as a function of images.

      metric = jaxiqa.create_metric()
      metric("photo.jpg")  # 0..100, higher is better
      metric = jaxiqa.create_metric("glintiqa", checkpoint="workdir/mine")

    Args:
      name: name of the model; if it is not empty, the checkpoint must hold this model. hf://OWNER/NAME[@REVISION]
        names a checkpoint on a hub.
      checkpoint: the workdir of a training run (its best step, else its latest), a converted checkpoint, one step's
        folder in it, or hf://OWNER/NAME[@REVISION] on a hub. Default: "ready", the weights that come with jaxiqa (a
        line on standard error says so).
      step: the step to load, instead of the best one.
      crops: crop policy, "grid" (covers every pixel), "overlap", "five", "auto:N", "random:N" or "whole"; default: the
        checkpoint's own.
      allow: packages outside jaxiqa, e.g. "mylab", from which the checkpoint may import its model. A module path in
        `name` is allowed too.

    Raises:
      ConfigError: the checkpoint holds another model than `name`, or none is given and jaxiqa has no weights of `name`.
      CheckpointError: the checkpoint cannot be read.
    """
    if name.startswith(hub.SCHEME) and not checkpoint:
        name, checkpoint = "", name
    if name and not checkpoint and os.path.isdir(name):
        raise ConfigError(
            f'create_metric("{name}"): this is a folder; write create_metric(checkpoint="{name}")',
            code="value",
            key="name",
        )
    if name:
        find_model(name)
    if not checkpoint and name not in ("", ready.MODEL):
        raise ConfigError(
            f'create_metric("{name}"): the weights that come with jaxiqa are of {ready.MODEL}; give '
            'checkpoint="WORKDIR"',
            code="missing",
            key="checkpoint",
        )
    checkpoint = ready.by_default(checkpoint, "checkpoint=")
    allow = [allow] if isinstance(allow, str) else [*allow]
    scorer = Scorer(checkpoint, step, crops, allow=[*allow, *([name] if plugins.is_path(name) else [])])
    if name and name != scorer.card.model["name"]:
        raise ConfigError(
            f"{scorer.workdir} holds {scorer.card.model['name']}, not {name}", code="mismatch", key="checkpoint"
        )
    return Metric(scorer)
