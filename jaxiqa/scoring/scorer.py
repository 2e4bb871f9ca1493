"""A loaded checkpoint that scores images: files, bytes, Pillow images and arrays."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from etils import epath

from jaxiqa.errors import CheckpointError
from jaxiqa.inputs.python_images import pixels
from jaxiqa.inputs.transforms import fit
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.scoring.card import Card, Score
from jaxiqa.scoring.explain import Explainer, explainer_if_any
from jaxiqa.scoring.predict import Predictor
from jaxiqa.scoring.stored_interval import read_interval
from jaxiqa.training import sharding
from jaxiqa.training.state import scoring_variables
from jaxiqa.version import __version__

_BATCH_PIXELS = 2**20  # pixels in a full batch, but at least 64 crops
# On a CPU, larger batches leave the caches: the model that ships scores 1.6 times as many images by 24 crops as by 64.
_CPU_PIXELS, _CPU_CROPS = 2**18, (8, 128)


class Scorer:
    """One step of a checkpoint on all local devices.

    A copy by pickle holds no weights: it loads the same step of the folder again, once in a process.

    Args:
      checkpoint: a workdir (its best step, else its latest), one step's folder, or "ready" (jaxiqa.models.ready).
      step: the step to load, instead of the best one.
      crops: crop policy, e.g. "grid", "auto:25" or "random:25"; default: the checkpoint's own.
      batch_size: crops in a full batch; default: 64, more if crops are small; on a CPU 8 to 128, by their size. The
        last batch may be smaller.
      resize: shorter side in pixels to which images are resized; default: the checkpoint's own.
      explain: whether each prediction has an explanation: probabilities of the kinds of distortion, and a severity.
        None: if the checkpoint has a probe that fits.
      allow: packages outside jaxiqa from which the checkpoint may import its model.

    Attributes:
      card: card of the checkpoint, with the `crops` and `resize` given here.
      workdir, step, meta: from the checkpoint.
      arguments: what `loaded` takes to load the same step again.
      digest: SHA-256 of the weights (runs.checkpoint.Saved.digest); "" for checkpoints of 0.1.0.
      model, predictor, variables: the model; its variables are on the devices.
      families: names of the probabilities in a prediction's explanation; the value after them is the severity.
      reasons: what the probe of the explanations was fitted on and how good it is (scoring/reasons.py); {} without one.

    Raises:
      CheckpointError: the checkpoint cannot be read, its model is from outside and not installed or not allowed, or it
        has no probe to explain with.
      ConfigError: crops is not a policy, there is no device, or the process was forked from one that uses JAX.
    """

    def __init__(
        self,
        checkpoint: epath.PathLike,
        step: int | None = None,
        crops: str | None = None,
        batch_size: int | None = None,
        resize: int | None = None,
        explain: bool | None = False,
        allow: Iterable[str] = (),
    ):
        mesh = sharding.make_mesh()
        saved = Saved(checkpoint, step)
        self.workdir, self.step, self.meta = saved.workdir, saved.step, saved.meta
        card = Card.from_dict(saved.meta.card, saved.workdir)
        self.card = dataclasses.replace(
            card,
            crops=card.crops if crops is None else crops,
            resize=card.resize if resize is None else resize,
            interval=card.interval or read_interval(saved.workdir, saved.step),
        )
        allow = tuple(allow)
        self.model = self.card.create_model(saved.workdir, allow)
        if hasattr(self.model, "num_classes"):
            raise CheckpointError(
                f"checkpoint {saved.workdir} holds the backbone {self.card.model['name']}, which gives no scores; "
                "fit it to ratings by jaxiqa calibrate, or train a model from it by config.init",
                code="mismatch",
                key=saved.workdir,
            )
        self.arguments = (str(saved.workdir), saved.step, crops, batch_size, resize, explain, allow)
        self.variables = scoring_variables(**saved.load(("params", "batch_stats", "ema"), sharding.replicated(mesh)))
        self.digest = saved.digest()  # after the weights, which are refused if the digests are damaged
        find = Explainer if explain else explainer_if_any
        explainer = None if explain is False else find(self.workdir, self.card.model["name"], self.digest)
        self.families, self.reasons = (explainer.families, explainer.about) if explainer else ((), {})
        batches = sharding.batch_sharding(mesh)
        sizes = batch_sizes(self.model.crop_size, batch_size)
        self.predictor = Predictor(self.model, self.card.crops, batches, sizes, explainer)

    def __reduce__(self):
        return loaded, self.arguments

    def stream(self, images: Iterable, read: Callable | None = None, **how) -> Iterator[Any]:
        """Yields predictions in the order of the images, each as soon as it is known.

        Args:
          images: each is a path, the bytes of a file, a Pillow image or an array (see inputs.python_images.pixels). If
            it cannot be read, its prediction has a reason.
          read: function of an image that returns uint8 (H, W, 3) of at least min_side, in place of the usual way.
          how: as for Predictor.stream.
        """
        sharding.local_devices()
        return self.predictor.stream(self.variables, images, read or self.read, **how)

    def scores(self, images: Iterable) -> Iterator[Score]:
        """Yields the scores of the predictions of stream()."""
        return self.card.scores(self.stream(images))

    def about(self) -> dict[str, Any]:
        """What the users of another program must know: the model, the digest of its weights, the crops and the card."""
        cropper, named = self.predictor.cropper, self.card.model
        return {
            "model": f"{named['name']} {named['variant']}, step {self.step}",
            "weights_sha256": self.digest,
            "crops": {
                "policy": str(cropper.policy),
                "side": cropper.crop,
                "scales": list(cropper.scales),
                "stride": cropper.stride,
                "min_side": cropper.min_side,
                "resize": self.card.resize,
            },
            "card": self.card.to_dict(),
            "jaxiqa": __version__,
        }

    def read(self, image) -> np.ndarray:
        """The pixels of an image as they are cropped: uint8 (H, W, 3). Raises DataError if it cannot be read."""
        return fit(pixels(image), self.predictor.min_side, self.card.resize)


def batch_sizes(crop_size: int, full: int | None = None) -> list[int]:
    """The numbers of crops of this size that are scored at a time; `full` is the largest of them."""
    devices = jax.device_count()
    if full is None and jax.default_backend() == "cpu":
        least, most = _CPU_CROPS
        full = min(max(least, _CPU_PIXELS // crop_size**2 // 8 * 8), most)
    elif full is None:
        full = max(64, _BATCH_PIXELS // crop_size**2 // 64 * 64)
    return sorted({-(-max(1, full // part) // devices) * devices for part in (1, 4, 16)})


@functools.lru_cache(maxsize=4)
def loaded(*arguments) -> Scorer:
    """The Scorer of these arguments, loaded once in a process: a worker of a pool receives a new copy for each call."""
    return Scorer(*arguments)
