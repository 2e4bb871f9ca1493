"""The scoring stage for pipelines of other engines: takes a dict of columns with images, and adds their scores."""

import collections
import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from jaxiqa.errors import ConfigError, DataError
from jaxiqa.inputs import remote
from jaxiqa.inputs.fingerprint import Fingerprint, fingerprint
from jaxiqa.inputs.python_images import pixels
from jaxiqa.inputs.transforms import fit
from jaxiqa.models import ready
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.scoring.card import Card, Score
from jaxiqa.scoring.columns import IMAGES, NUMBERS, REASON, SEVERITY, TEXTS, TILES
from jaxiqa.scoring.crops import Cropper
from jaxiqa.scoring.engine import END, readers_by_default
from jaxiqa.scoring.meter import Meter
from jaxiqa.scoring.scorer import Scorer, loaded


class BatchScorer:
    """Scores columns of images.

      scorer = jaxiqa.BatchScorer()
      scorer({"path": ["a.jpg", "b.jpg"]})["score"]

    A copy by pickle holds no weights: it loads them at its first use, once in a process. The two stages of a call can
    run apart, in other processes: scorer.score(scorer.decode(columns)). `decode` needs no weights and no device.

    The devices see at most three shapes of batches. Each is compiled at its first use.

    Args:
      checkpoint: a workdir, a converted checkpoint, one step's folder, or hf://OWNER/NAME[@REVISION] on a hub; default:
        "ready", the weights that come with jaxiqa (a line on standard error says so).
      crops: crop policy, e.g. "grid", "auto:4" or "random:25"; default: the checkpoint's own.
      step: the step to load, instead of the best one.
      batch_size: crops in a full batch; default: 64, more if crops are small; on a CPU 8 to 128.
      readers: number of reading threads of a call; default: one for each core.
      explain: whether to add a column for each family of distortions, and `severity`, as `jaxiqa score --explain` does.
        None: if the checkpoint has a probe that fits.
      fingerprints: whether to add the columns of inputs.fingerprint.Fingerprint, which tell near-duplicates.
      allow: packages outside jaxiqa from which the checkpoint may import its model.

    Attributes:
      card: card of the checkpoint, with the crops of this object.
      model: text that names the weights: model, variant, step, and the start of their SHA-256.
      digest: SHA-256 of the weights; "" for checkpoints of 0.1.0.
      columns: names of the columns that a call adds.
      readers: number of reading threads.

    Raises:
      CheckpointError, ConfigError: as scoring.scorer.Scorer.
    """

    def __init__(
        self,
        checkpoint: epath.PathLike | None = None,
        crops: str | None = None,
        *,
        step: int | None = None,
        batch_size: int | None = None,
        readers: int | None = None,
        explain: bool | None = False,
        fingerprints: bool = False,
        allow: str | Iterable[str] = (),
    ):
        saved = Saved(ready.by_default(checkpoint, "checkpoint="), step)
        allow = (allow,) if isinstance(allow, str) else tuple(allow)
        # With the folder and the step that were found, so that copies in this process share the weights.
        self._arguments = (str(saved.workdir), saved.step, crops, batch_size, None, explain, allow)
        scorer = self.scorer
        self._cropper: Cropper = scorer.predictor.cropper
        self.card: Card = scorer.card
        self.digest, self.fingerprints = scorer.digest, fingerprints
        self.readers = readers or readers_by_default()
        self.model = f"{scorer.about()['model']}, {self.digest[:12] or 'no digest'}"
        self.families = tuple(scorer.families)
        self._explained = (*self.families, SEVERITY) if self.families else ()
        prints = Fingerprint._fields if fingerprints else ()
        self.columns = (*NUMBERS, *TEXTS, *self.families, *prints, *self._explained[-1:])  # new ones are the last

    def copy(self, readers: int) -> "BatchScorer":
        """The same scorer with another number of readers."""
        other = copy.copy(self)
        other.readers = readers
        return other

    @property
    def scorer(self) -> Scorer:
        """The loaded checkpoint, which all objects of the same checkpoint in a process share."""
        return loaded(*self._arguments)

    def __call__(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Adds the scores of images to their columns.

        Args:
          columns: N values in each column, which may be a list, an array or a column of pyarrow. One of them must be
            "bytes" (of a file), "image" (anything that create_metric takes, or a dict with "bytes" and "path", as
            Hugging Face datasets hold it) or "path" (a path, or an address such as s3://bucket/a.jpg).

        Returns:
          the given columns and those of the attribute `columns`, as arrays (N,): float64, NaN if there is no value, or
          text. score: 0 to 100, higher is better. native: on the scale of the training set. lo, hi: interval for the
          mean opinion of people, if the checkpoint has one. status: "ok" or "refused". reason: why the image was
          refused. model: as the attribute. The others are those of `jaxiqa score`. An image that cannot be read raises
          no error.

        Raises:
          DataError: there is no column of images.
        """
        return self._joined(columns, self.rows(_images(columns)))

    def decode(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """The first stage of a call, on a CPU, in the calling thread: reads, decodes and cuts.

        Args:
          columns: as for a call.

        Returns:
          the given columns, without those of images but "path", and with "tiles", the bytes of the crops (uint8, n
          crops one after the other; b"" of a refused image), "reason", and the fingerprints.
        """
        rows = []
        for image in _images(columns):
            try:
                crops, found = self._decode(image)
                row = {TILES: crops.tobytes(), REASON: "", **found._asdict()}
            except DataError as error:
                row = {TILES: b"", REASON: str(error), **Fingerprint()._asdict()}
            rows.append(row)
        kept = {name: column for name, column in columns.items() if name not in IMAGES or name == "path"}
        added = (TILES, REASON, *(Fingerprint._fields if self.fingerprints else ()))
        return kept | {name: _column([row[name] for row in rows], name in _OBJECTS) for name in added}

    def score(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """The second stage of a call, on the devices: scores what decode() returned, and removes the column "tiles"."""
        kept = {name: column for name, column in columns.items() if name not in (TILES, REASON)}
        stages = zip(columns[TILES], columns[REASON], strict=True)
        found = self.scorer.stream(stages, self._tiles, are_crops=True, threads=1)
        return self._joined(kept, (self._row(next(self.card.scores([one])), ()) for one in found))

    @property
    def batch_bytes(self) -> int:
        """The bytes of the crops of a full batch, in the column "tiles"."""
        return self.scorer.predictor.batch_sizes[-1] * math.prod(self._cropper.shape)

    def warm_up(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Compiles every shape of batch that a call may use, on black crops.

        Args:
          wanted: asked before each compilation; the first False ends the warm-up.
        """
        for size in self.scorer.predictor.batch_sizes:
            if not wanted():
                return
            self.score({TILES: [bytes(size * math.prod(self._cropper.shape))], REASON: [""]})

    def rows(self, images: Iterable, meter: Meter | None = None) -> Iterator[Any]:
        """Yields the values of `columns` of each image as a dict, in order, each as soon as they are known.

        Args:
          images: as the values of a column of a call, or the DataError of an image. They are taken when they are
            needed, so their number has no limit. The item engine.END is yielded as it is: the images before and after
            it share no batch.
          meter: adds up how long the images take to be read and to be scored.
        """
        waiting: collections.deque[list] = collections.deque()

        def items():
            for image in images:
                if image is not END:
                    waiting.append([image, Fingerprint()])
                yield END if image is END else waiting[-1]

        def read(item):
            crops, item[1] = self._decode(item[0])
            return crops

        for found in self.scorer.stream(items(), read, are_crops=True, threads=self.readers, meter=meter):
            if found is END:
                yield END
            else:
                _, more = waiting.popleft()
                yield self._row(next(self.card.scores([found])), more)

    def _decode(self, image) -> tuple[np.ndarray, Fingerprint]:
        """The crops, uint8 (n, S crop, crop, 3), and the fingerprint of an image. Any fault of it is a DataError."""
        if isinstance(image, DataError):
            raise image
        try:
            if isinstance(image, str) and self.fingerprints and remote.is_address(image):
                image = remote.read_bytes(image)  # once
            image_HWC = pixels(image)
            found = fingerprint(image_HWC, image) if self.fingerprints else Fingerprint()
            return np.stack(self._cropper(fit(image_HWC, self._cropper.min_side, self.card.resize))), found
        except (DataError, ConfigError):
            raise
        except Exception as error:  # a job of a hundred million images does not end with one of them
            what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise DataError(
                f"an image of type {type(image).__name__} cannot be read ({what})", code="format"
            ) from error

    def _tiles(self, stage: tuple[bytes, str]) -> np.ndarray:
        tiles, reason = stage
        if reason:
            raise DataError(str(reason), code="unreadable")
        return np.frombuffer(tiles, np.uint8).reshape(-1, *self._cropper.shape)

    def _row(self, found: Score, more: Sequence) -> dict[str, Any]:
        """The values of `columns` for one image."""
        values = (found.score, found.native, found.lo, found.hi, found.se, found.percentile)
        texts = ("refused" if found.reason else "ok", found.reason, self.model, self.card.crops, found.word)
        explanation = found.explanation or (math.nan,) * len(self._explained)
        names = (*NUMBERS, *TEXTS, *self._explained, *Fingerprint._fields)
        return dict(zip(names, (*values, *texts, *explanation, *more), strict=False))

    def _joined(self, columns: Mapping[str, Any], rows: Iterable[dict]) -> dict[str, Any]:
        found = list(rows)
        added = [name for name in self.columns if name not in Fingerprint._fields or name not in columns]
        return {**columns, **{name: _column([row[name] for row in found], name in _OBJECTS) for name in added}}


_OBJECTS = (*TEXTS, "dhash", TILES)  # columns that are no numbers


def _column(values: list, is_object: bool) -> np.ndarray:
    if not is_object:
        return np.array(values, np.float64)
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _images(columns: Mapping[str, Any]) -> Iterator:
    """Yields the image of each row."""
    known = [columns[name] for name in IMAGES if name in columns]
    if not known:
        raise DataError(
            f"no column has the name bytes, image or path (there are: {', '.join(map(str, columns)) or 'none'}); "
            "rename the column that holds the images",
            code="missing",
            key="bytes",
        )
    return (_image(next((value for value in row if value is not None), None)) for row in zip(*known, strict=True))


def _image(value: Any) -> Any:
    value = value.as_py() if hasattr(value, "as_py") else value  # a value of pyarrow
    if isinstance(value, Mapping):
        return next((value[name] for name in IMAGES if value.get(name) is not None), None)
    return value
