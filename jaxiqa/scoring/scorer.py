"""A checkpoint, ready to score pictures in whatever form they come."""

import dataclasses
import os
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from PIL import Image

from jaxiqa.errors import CheckpointError, ConfigError, DataError
from jaxiqa.inputs.decode import from_pil, read_image
from jaxiqa.inputs.transforms import fit
from jaxiqa.models import create_model
from jaxiqa.scoring.card import Card
from jaxiqa.scoring.explain import Explainer
from jaxiqa.scoring.predict import Prediction, Predictor
from jaxiqa.training import sharding
from jaxiqa.training.checkpoint import Saved
from jaxiqa.training.state import scoring_variables

_BATCH_PIXELS = 2**20  # of a full batch, but at least 64 crops


class Scorer:
    """One step of a checkpoint on all local devices.

    Args:
      checkpoint: a workdir (its best step, else its latest) or one step's folder.
      step: this step instead.
      crops: test policy, e.g. "grid" or "random:25"; default: the checkpoint's own.
      batch_size: crops in a full batch; default: 64, more where crops are small. What is left over goes
        into smaller batches.
      resize: shorter side in pixels that pictures are resized to; default: the checkpoint's own.
      explain: whether predictions say which kinds of distortion the model sees.

    Attributes:
      card: what the checkpoint says about itself, with the `crops` and `resize` given here.
      workdir, step, meta: of the checkpoint.
      model, predictor, variables: what it holds, on the devices.
      families: names of the values of a prediction's explanation.

    Raises:
      CheckpointError: nothing there that can be read, or nothing to explain with. ConfigError: crops is no policy.
    """

    def __init__(
        self,
        checkpoint: epath.PathLike,
        step: int | None = None,
        crops: str | None = None,
        batch_size: int | None = None,
        resize: int | None = None,
        explain: bool = False,
    ):
        saved = Saved(checkpoint, step)
        self.workdir, self.step, self.meta = saved.workdir, saved.step, saved.meta
        given = {name: value for name, value in (("crops", crops), ("resize", resize)) if value is not None}
        self.card = dataclasses.replace(Card.from_dict(saved.meta.get("card", {}), saved.workdir), **given)
        try:
            self.model = create_model(**self.card.model, dtype=jnp.dtype(self.card.dtype))
        except ConfigError as error:
            raise CheckpointError(f"checkpoint {saved.workdir} is of a model this version lacks: {error}") from error
        if hasattr(self.model, "num_classes"):
            raise CheckpointError(
                f"checkpoint {saved.workdir} holds the backbone {self.card.model['name']}, which gives no scores; a "
                "training run starts from it by config.init"
            )
        mesh = sharding.make_mesh()
        self.variables = scoring_variables(**saved.load(("params", "batch_stats", "ema"), sharding.replicated(mesh)))
        devices = jax.device_count()
        batch_size = batch_size or max(64, _BATCH_PIXELS // self.model.crop_size**2 // 64 * 64)
        sizes = {-(-max(1, batch_size // part) // devices) * devices for part in (1, 4, 16)}
        explainer = Explainer(self.workdir) if explain else None
        self.families = explainer.families if explainer else ()
        batches = sharding.batch_sharding(mesh)
        self.predictor = Predictor(self.model, self.card.crops, batches, sorted(sizes), explainer)

    def stream(self, pictures: Sequence) -> Iterator[Prediction]:
        """Predictions in the pictures' order, each as soon as it is known.

        A picture is a path, the bytes of a file, a Pillow image or an array (see pixels()). One that cannot be read
        gives a prediction with a reason.
        """
        return self.predictor.stream(self.variables, _Readable(pictures, self.model.crop_size, self.card.resize))


class _Readable:
    """Pictures as the predictor takes them; a DataError in the place of one that cannot be read."""

    def __init__(self, pictures: Sequence, min_side: int, resize: int | Sequence[int]):
        self._pictures, self._min_side, self._resize = pictures, min_side, resize

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> np.ndarray | DataError:
        try:
            return fit(pixels(self._pictures[index]), self._min_side, self._resize)
        except DataError as error:
            return error


def pixels(picture) -> np.ndarray:
    """uint8 (H, W, 3) of a path, bytes, Pillow image or array.

    Arrays are (H, W, 3) RGB, or (H, W) grey: uint8, or floating point in 0..1, which is rounded to 8 bits.

    Raises:
      DataError: it cannot be read, or an array of another shape, type or range.
    """
    if isinstance(picture, str | os.PathLike | bytes | bytearray | memoryview):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return from_pil(picture)
    image = np.asarray(picture)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        hint = "; move the channels last" if image.ndim == 3 and image.shape[0] == 3 else ""
        raise DataError(f"an array of shape {image.shape} is no picture; it must be (H, W, 3) or (H, W){hint}")
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating) and image.dtype != jnp.bfloat16:
        raise DataError(f"an array of {image.dtype} has no defined white; pass uint8, or floats in 0..1")
    image = image.astype(np.float32)
    if not (image.min() >= 0 and image.max() <= 1):  # also where there is a nan
        raise DataError(
            f"a float picture must be in 0..1, not {image.min():g}..{image.max():g}; divide it by its white"
        )
    return np.rint(255 * image).astype(np.uint8)
