"""Quality maps: where in an image the score is low."""

from typing import NamedTuple

import numpy as np
from etils import epath

from jaxiqa.errors import DataError
from jaxiqa.figures.quality_map import draw
from jaxiqa.files import writing
from jaxiqa.scoring.crops import overlap_shape, parse_policy, positions
from jaxiqa.scoring.predict import Predictor
from jaxiqa.scoring.scorer import Scorer, batch_sizes
from jaxiqa.training import sharding


class QualityMap(NamedTuple):
    """The scores of the overlapping crops of one image; R rows and C columns of crops."""

    scores: np.ndarray  # float32 (R, C), 0..100, higher is better
    corners: np.ndarray  # int64 (R, C, 2): top and left of each crop, in pixels
    crop: int  # side of a crop in pixels
    image: np.ndarray  # uint8 (H, W, 3): the pixels that were cropped

    def pixels(self) -> np.ndarray:
        """float32 (H, W): the mean score of the crops that a pixel is in."""
        total, count = np.zeros(self.image.shape[:2], np.float32), np.zeros(self.image.shape[:2], np.float32)
        for (top, left), score in zip(self.corners.reshape(-1, 2).tolist(), self.scores.ravel(), strict=True):
            place = slice(top, top + self.crop), slice(left, left + self.crop)
            total[place] += score
            count[place] += 1
        return total / count

    def worst(self, most: int = 3) -> list[tuple[int, int, float]]:
        """(top, left, score) of the lowest crops, below the mean of all, that do not overlap; worst first."""
        found: list[tuple[int, int, float]] = []
        corners, scores = self.corners.reshape(-1, 2), self.scores.ravel()
        for i in np.argsort(scores, kind="stable"):
            top, left = corners[i].tolist()
            apart = all(max(abs(top - t), abs(left - w)) >= self.crop for t, w, _ in found)
            if apart and scores[i] < scores.mean() and len(found) < most:
                found.append((top, left, float(scores[i])))
        return found


class Maps:
    """Makes the quality maps of images with one checkpoint."""

    def __init__(self, scorer: Scorer):
        self._scorer, model = scorer, scorer.model
        batches = sharding.batch_sharding(sharding.make_mesh())
        self._predictor = Predictor(model, "overlap", batches, batch_sizes(model.crop_size))

    def __call__(self, image) -> QualityMap:
        """The map of one image: a path, bytes, a Pillow image or an array. Raises DataError if it cannot be read."""
        crop, scorer = self._scorer.model.crop_size, self._scorer
        pixels = scorer.read(image)
        (outputs,) = self._predictor.outputs(scorer.variables, [pixels])
        if isinstance(outputs, DataError):
            raise outputs
        height, width, _ = pixels.shape
        shape = overlap_shape(height, width, crop)
        corners = positions(parse_policy("overlap"), pixels, crop).reshape(*shape, 2)
        scores = 100 * scorer.card.score01(outputs[:, 0].astype(np.float64)).reshape(shape)
        return QualityMap(scores.astype(np.float32), corners, crop, pixels)


def write(folder: epath.Path, name: str, found: QualityMap, title: str) -> None:
    """Writes NAME.png, an overlay with a legend and boxes around the worst parts, and NAME.npy, the scores."""
    draw(folder / f"{name}.png", found.image, found.pixels(), found.worst(), found.crop, title)
    with writing(folder / f"{name}.npy") as file:
        np.save(file, found.scores)
