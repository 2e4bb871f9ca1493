"""Makes a checkpoint whose scores are on the scale of somebody's own ratings, from a checkpoint and these ratings."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util
from tqdm import tqdm

from jaxiqa.datasets.file_sizes import data_fingerprint
from jaxiqa.datasets.formats.split_files import read_own, write_split
from jaxiqa.datasets.records import Dataset
from jaxiqa.datasets.splits import Split
from jaxiqa.errors import DataError
from jaxiqa.evaluation import conformal
from jaxiqa.evaluation.calibration import Choice, Ratings, choose
from jaxiqa.evaluation.metrics import rmse, srcc
from jaxiqa.evaluation.statistics import bootstrap_rmse
from jaxiqa.inputs.image_source import Images
from jaxiqa.models import calibrated, find_model
from jaxiqa.runs.checkpoint import Saved, save_once
from jaxiqa.runs.checkpoint_meta import CheckpointMeta
from jaxiqa.scoring.card import Card
from jaxiqa.scoring.explain import FILE, explainer_if_any
from jaxiqa.scoring.predict import Prediction, Predictor
from jaxiqa.scoring.scorer import batch_sizes
from jaxiqa.training import sharding
from jaxiqa.training.state import scoring_variables

MIN_RATINGS = 20
MIN_CONTENTS = 5
_LEAST_GAIN = 0.95  # of the error of the mean opinion. Of 40 sets of 30 opinions at random, none was below it.
_VIEWS, _CROPS = (0, 1), "auto:1"  # of a backbone: the whole image, and the crop at its centre

_WORDS = {
    "none": "no calibration",
    "constant": "mean opinion, without the image",
    "line": "line through the scores",
    "logistic": "logistic curve through the scores",
    "ridge": "ridge regression of features",
}


@dataclasses.dataclass(frozen=True)
class Source:
    """A checkpoint to calibrate, with the model that shows its features.

    Attributes:
      saved: the step that is read.
      card: of the checkpoint.
      model, variables: a "calibrated" model around that of the checkpoint, which returns the score of the checkpoint's
        model (0 if that gives none); or this model itself, if its file declares no features (TAPS).
      gives_scores: whether the model of the checkpoint gives scores.
    """

    saved: Saved
    card: Card
    model: nn.Module
    variables: dict
    gives_scores: bool

    @property
    def has_features(self) -> bool:
        return self.card.model["name"] == "calibrated"


def open_source(
    checkpoint: epath.PathLike, step: int | None, crops: str | None, resize: int | None, allow: Iterable[str]
) -> Source:
    """Reads a checkpoint of any model: one that gives scores, or a backbone.

    Args:
      checkpoint, step, crops, resize, allow: as for Scorer. A backbone sees each image twice by default: as a whole,
        resized to a crop, and its centre.

    Raises:
      CheckpointError: the checkpoint cannot be read, or its model is not allowed.
    """
    saved = Saved(checkpoint, step)
    card = Card.from_dict(saved.meta.card, saved.workdir)
    card = dataclasses.replace(card, resize=card.resize if resize is None else resize)
    alone = card.create_model(saved.workdir, tuple(allow))
    device = sharding.replicated(sharding.make_mesh())
    variables = scoring_variables(**saved.load(("params", "batch_stats", "ema"), device))
    options = dict(card.model)
    if options["name"] == "calibrated":  # only its other model is used: the regression is fitted again
        options = {name: options[name] for name in ("of", "taps", "views") if name in options}
        is_backbone = bool(options.get("views"))
        variables = {part: tree.get("base", {}) for part, tree in variables.items()}
    else:
        is_backbone = hasattr(alone, "num_classes")
        taps = _taps(options["name"], alone)
        if not taps:
            return Source(saved, dataclasses.replace(card, crops=crops or card.crops), alone, variables, True)
        options = {"of": options, "taps": taps, "views": _VIEWS if is_backbone else ()}
    card = dataclasses.replace(
        card,
        model={"name": "calibrated", "variant": "linear", **options},
        crops=crops or (_CROPS if is_backbone and card.model["name"] != "calibrated" else card.crops),
    )
    model = card.create_model(saved.workdir, tuple(allow))
    return Source(saved, card, model, _around(model, variables, gives_scores=not is_backbone), not is_backbone)


def seen_in_training(source: Source, dataset: Dataset) -> list[str]:
    """The ids of images that have the file name of one that trained the checkpoint or selected its step."""
    if not source.saved.meta.config.get("dataset"):  # converted or calibrated
        return []
    split = read_own(source.saved.workdir / "split.json")
    names = {os.path.basename(image) for part in ("train", "val") for image in split.get(part, ())}
    return [r.id for r in dataset.records if os.path.basename(r.id) in names]


def _taps(name: str, model: nn.Module) -> list[str]:
    """The keys of the model's second output that its file declares as features."""
    images = jax.ShapeDtypeStruct((1, model.crop_size, model.crop_size, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0][1], images)
    return [tap for tap in getattr(find_model(name), "TAPS", ()) if tap in shapes]


def _around(model: nn.Module, variables: dict, gives_scores: bool) -> dict:
    """Variables of a "calibrated" model that hands on the score, the first feature, of the model with `variables`."""
    images = jax.ShapeDtypeStruct((1, model.crop_size, model.crop_size, 3), jnp.float32)
    shapes = traverse_util.flatten_dict(jax.eval_shape(model.init, jax.random.key(0), images), sep="/")
    given = traverse_util.flatten_dict({part: {"base": tree} for part, tree in variables.items()}, sep="/")
    kernel = np.zeros(shapes["params/regressor/kernel"].shape, np.float32)
    kernel[0] = gives_scores
    own = {"params/regressor/kernel": kernel, "params/regressor/bias": np.zeros((), np.float32)}
    # A classifier, which no shape has, is left out.
    return traverse_util.unflatten_dict({path: own.get(path, given.get(path)) for path in shapes}, sep="/")


def predict(source: Source, dataset: Dataset, batch_size: int | None) -> tuple[list[Prediction], np.ndarray | None]:
    """The predictions of the source for all images of a dataset, and their features (N, F).

    Raises:
      DataError: an image cannot be read.
    """
    features = (lambda out: out["features"]) if source.has_features else None
    predictor = _predictor(source.model, source.card, batch_size, features)
    images: Any = Images(dataset.records, predictor.min_side, source.card.resize)
    predictions: list[Prediction] = []
    rows: list[np.ndarray] = []
    stream = predictor.stream(source.variables, images)
    for found in tqdm(stream, "features", len(images), unit=" images", mininterval=1, disable=None):
        if found.reason:
            path = dataset.records[len(rows)].path
            raise DataError(f"{path}: {found.reason}", code=found.code, key=path)
        rows.append(np.array(found.explanation, np.float32))
        predictions.append(found._replace(explanation=()))
    return predictions, np.stack(rows) if features else None


def _predictor(model: nn.Module, card: Card, batch_size: int | None, explain=None) -> Predictor:
    batches = sharding.batch_sharding(sharding.make_mesh())
    return Predictor(model, card.crops, batches, batch_sizes(model.crop_size, batch_size), explain)


def fit(source: Source, dataset: Dataset, predictions: Sequence[Prediction], features: np.ndarray | None) -> Choice:
    """Fits the scores to the opinions, by the kind of map that predicts left-out contents best.

    Raises:
      DataError: there are too few ratings or contents, or no kind is better than the mean opinion.
    """
    contents = [r.content for r in dataset.records]
    groups = np.unique(contents, return_inverse=True)[1]
    for number, least, what in ((len(contents), MIN_RATINGS, "ratings"), (groups.max() + 1, MIN_CONTENTS, "contents")):
        if number < least:
            raise DataError(
                f"{number} {what} are too few to calibrate, and to tell how good the result is; rate at least "
                f"{MIN_RATINGS} images of {MIN_CONTENTS} contents",
                code="empty",
                key=dataset.name,
            )
    output = np.array([found.output for found in predictions]) if source.gives_scores else None
    as_is: Any = None if output is None else source.card.score01(output)
    ratings = Ratings(
        mos01=dataset.scale.to_score01([r.mos for r in dataset.records]),
        groups=groups,
        features=features,
        free=int(source.gives_scores),
        output=output,
        rises=output is None or as_is[np.argmax(output)] >= as_is[np.argmin(output)],
        as_is=as_is,
    )
    if np.ptp(ratings.mos01) == 0:
        raise DataError(
            f"all {len(contents)} ratings are equal, so there is nothing to learn; rate images of different quality",
            code="empty",
            key=dataset.name,
        )
    choice = choose(ratings)
    error, of_mean = (rmse(x, ratings.mos01) for x in (choice.chosen, choice.left_out["constant"]))
    if choice.kind == "constant" or not error <= _LEAST_GAIN * of_mean:
        raise DataError(
            f"{len(contents)} ratings of {groups.max() + 1} contents: no map of the model's scores and features "
            "predicts contents that were left out better than the mean opinion does, so a calibration would only fit "
            "noise; rate more contents, or take another checkpoint",
            code="mismatch",
            key=dataset.name,
        )
    return choice


def errors(dataset: Dataset, choice: Choice) -> list[dict]:
    """A row for each kind and for the whole procedure: the errors for left-out contents, in the units of the labels.

    Returns:
      [{"what", "kind", "rmse", "low", "high" (95 % interval of rmse, bootstrap over contents), "srcc"}].
    """
    mos = np.array([r.mos for r in dataset.records])
    contents = [r.content for r in dataset.records]
    rows = []
    for kind, values in (*choice.left_out.items(), ("chosen", choice.chosen)):
        native = dataset.scale.to_native(values)
        found = bootstrap_rmse(native, mos, contents)
        what = _WORDS.get(kind, f"calibrated ({_WORDS[choice.kind]}), with the choice itself")
        rank = float("nan") if kind == "constant" else srcc(values, dataset.scale.to_score01(mos))
        rows.append(
            {"what": what, "kind": kind, "rmse": found.value, "low": found.low, "high": found.high, "srcc": rank}
        )
    return rows


def write(
    source: Source,
    dataset: Dataset,
    predictions: Sequence[Prediction],
    choice: Choice,
    output: epath.Path,
    batch_size: int | None = None,
) -> Card:
    """Writes the calibrated checkpoint into the folder `output`, and returns its card."""
    card, variables, model = source.card, source.variables, source.model
    curve = choice.curve
    if choice.ridge is not None:
        regressor = {"kernel": choice.ridge.weight[:, None].astype(np.float32), "bias": np.float32(choice.ridge.bias)}
        variables = variables | {"params": variables["params"] | {"regressor": regressor}}
    elif source.has_features:  # the model of the checkpoint, without the one around it
        variables = {part: tree.get("base", {}) for part, tree in variables.items()}
        card = dataclasses.replace(card, model=dict(card.model["of"]))
    if choice.kind == "none" and card.curve:
        curve = card.curve
    elif choice.kind == "none":
        start, end = (float(source.card.score01(x)) for x in (0.0, 1.0))
        curve = {"kind": "line", "parameters": [end - start, start]}
    contents = [r.content for r in dataset.records]
    what = f"{len(dataset):,} own ratings of {len(set(contents)):,} contents"
    of = source.card.model.get("of", source.card.model)["name"]
    card = dataclasses.replace(
        card,
        labels="score01",
        scale=dataset.scale,
        dataset=dataset.name,
        curve=curve,
        note=f"calibrated on {what}, from {of}",
        reference={},
        interval={},
    )
    if choice.ridge is not None:  # its spread over the crops is not that of the old scores
        predictor = _predictor(model, card, batch_size)
        if _several_crops(predictions):
            images: Any = Images(dataset.records, predictor.min_side, card.resize)
            stream = predictor.stream(variables, images)
            predictions = list(tqdm(stream, "spread", len(images), unit=" images", mininterval=1, disable=None))
        else:
            predictions = [found._replace(error=float("nan")) for found in predictions]
    spread = [found.se for found in card.scores(predictions)]
    residual = 100 * (dataset.scale.to_score01([r.mos for r in dataset.records]) - choice.chosen)
    card = dataclasses.replace(card, interval=conformal.fit_interval(residual, contents, spread, what))
    everything = list(range(len(dataset)))
    split = Split(everything, [], [], "calibration", None, 1, "val", dataset.fingerprint)
    about = {"checkpoint": str(source.saved.workdir), "step": source.saved.step, "sha256": source.saved.digest()}
    about |= {"ratings": len(dataset), "contents": len(set(contents)), "fingerprint": dataset.fingerprint}
    about |= {"kind": choice.kind, "errors": errors(dataset, choice)}
    output.mkdir(parents=True, exist_ok=True)
    write_split(output / "split.json", split, dataset, data_fingerprint(dataset))
    state = {part: jax.tree.map(np.asarray, variables.get(part, {})) for part in ("params", "batch_stats")}
    meta = CheckpointMeta(card=card.to_dict(), source=about, transferred=source.saved.meta.transferred)
    save_once(output, state, meta)
    _keep_probe(source, output)
    return card


def _keep_probe(source: Source, output: epath.Path) -> None:
    """Copies the probe of the source, whose features the new checkpoint has too, for the weights as they are there."""
    explainer = explainer_if_any(source.saved.workdir, source.saved.meta.card["model"]["name"], source.saved.digest())
    if not explainer:
        return
    new = Saved(output)
    if explainer.probe.taps == calibrated.TAPS and new.meta.card["model"]["name"] != "calibrated":
        print("note: a curve through the scores of the inner model has no reasons, because their probe reads its score")
        return
    dataclasses.replace(explainer.probe, about={**explainer.about, "weights": new.digest()}).save(output / FILE)


def _several_crops(predictions: Sequence[Prediction]) -> bool:
    return any(found.crops > 1 for found in predictions)
