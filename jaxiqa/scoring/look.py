"""A second look at a few images, for reports: where an image is bad, and by which distortions."""

import contextlib
from typing import NamedTuple

import numpy as np

from jaxiqa.errors import ConfigError
from jaxiqa.figures.quality_map import overlay
from jaxiqa.scoring.explain import explainer_if_any, in_words
from jaxiqa.scoring.maps import Maps
from jaxiqa.scoring.predict import Predictor
from jaxiqa.scoring.scorer import Scorer, batch_sizes
from jaxiqa.training import sharding

MOST = 6  # images of a report that get a map, which takes about five times as long as a score


class Seen(NamedTuple):
    """What a second look finds."""

    image: np.ndarray  # uint8 (H, W, 3)
    overlay: np.ndarray | None  # of the quality map, uint8 (H, W, 3), red where the score is low; None without a map
    reasons: str  # explain.in_words; "" without a probe


class Look:
    """Looks at images with one checkpoint. Models that see only whole images give no maps.

    Attributes:
      about: of the probe (Explainer); {} without one.
    """

    def __init__(self, scorer: Scorer):
        self._scorer, model = scorer, scorer.model
        self._maps = self._explained = None
        self._families: tuple[str, ...] = ()
        self.about: dict = {}
        with contextlib.suppress(ConfigError):
            self._maps = Maps(scorer)
        if not (explainer := explainer_if_any(scorer.workdir, scorer.card.model["name"], scorer.digest)):
            return
        batches = sharding.batch_sharding(sharding.make_mesh())
        self._families, self.about = explainer.families, explainer.about
        self._explained = Predictor(model, scorer.card.crops, batches, batch_sizes(model.crop_size), explainer)

    def __call__(self, image, with_map: bool = True) -> Seen:
        """Looks at one image: a path, bytes, a Pillow image or an array. Raises DataError if it cannot be read."""
        pixels, reasons, drawn = self._scorer.read(image), "", None
        if self._explained:
            (found,) = self._explained(self._scorer.variables, [pixels])
            reasons = in_words(self._families, found.explanation)
        if self._maps and with_map:
            parts = self._maps(pixels)
            drawn = overlay(parts.image, parts.pixels())
        return Seen(pixels, drawn, reasons)
