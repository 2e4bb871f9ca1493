"""A checkpoint, ready to score images in whatever form they come."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from jaxiqa.errors import CheckpointError, ConfigError
from jaxiqa.inputs.pictures import pixels
from jaxiqa.inputs.transforms import fit
from jaxiqa.models import create_model
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.scoring.card import Card, Score
from jaxiqa.scoring.explain import Explainer
from jaxiqa.scoring.predict import Prediction, Predictor
from jaxiqa.training import sharding
from jaxiqa.training.state import scoring_variables

_BATCH_PIXELS = 2**20  # of a full batch, but at least 64 crops


class Scorer:
    """One step of a checkpoint on all local devices.

    Args:
      checkpoint: a workdir (its best step, else its latest) or one step's folder.
      step: this step instead.
      crops: test policy, e.g. "grid" or "random:25"; default: the checkpoint's own.
      batch_size: crops in a full batch; default: 64, more if crops are small. The last batch may be smaller.
      resize: shorter side in pixels that images are resized to; default: the checkpoint's own.
      explain: whether predictions say which kinds of distortion the model sees.

    Attributes:
      card: what the checkpoint says about itself, with the `crops` and `resize` given here.
      workdir, step, meta: of the checkpoint.
      model, predictor, variables: what it holds, on the devices.
      families: names of the values of a prediction's explanation.

    Raises:
      CheckpointError: nothing there that can be read, or nothing to explain with. ConfigError: crops is not a policy.
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
        self.card = dataclasses.replace(Card.from_dict(saved.meta.card, saved.workdir), **given)
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
        explainer = Explainer(self.workdir, self.card.model["name"]) if explain else None
        self.families = explainer.families if explainer else ()
        batches = sharding.batch_sharding(mesh)
        self.predictor = Predictor(self.model, self.card.crops, batches, sorted(sizes), explainer)

    def stream(self, pictures: Sequence) -> Iterator[Prediction]:
        """Predictions in the order of the images, each as soon as it is known.

        An image is a path, the bytes of a file, a Pillow image or an array (see inputs.pictures.pixels). One that
        cannot be read gives a prediction with a reason.
        """
        return self.predictor.stream(self.variables, pictures, self._read)

    def scores(self, pictures: Sequence) -> Iterator[Score]:
        """What people see of the predictions of stream()."""
        return self.card.scores(self.stream(pictures))

    def _read(self, picture) -> np.ndarray:
        return fit(pixels(picture), self.model.crop_size, self.card.resize)
