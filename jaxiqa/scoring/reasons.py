"""Fits the probe that explains a model's scores (scoring/explain.py), on photographs that are distorted here."""

from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import numpy as np
from tqdm import tqdm

from jaxiqa.datasets.records import Record
from jaxiqa.errors import CheckpointError, DataError
from jaxiqa.evaluation import probe as probes
from jaxiqa.evaluation.probe import Probe
from jaxiqa.evaluation.ridge import fit_ridge
from jaxiqa.inputs.image_paths import find_images
from jaxiqa.inputs.image_source import Images
from jaxiqa.inputs.probe_set import KIND_FAMILIES, KINDS, samples, side_of
from jaxiqa.models import scales_of
from jaxiqa.scoring.card import Card
from jaxiqa.scoring.crops import parse_policy
from jaxiqa.scoring.explain import features, taps_of
from jaxiqa.scoring.predict import Predictor
from jaxiqa.scoring.scorer import batch_sizes
from jaxiqa.training import sharding

LEAST = 4  # photographs
_EVERY = 4  # of these, one is held out


def fit_folders(model: nn.Module, card: Card, variables, words: list[str], weights: str) -> Probe:
    """fit() on the photographs that words of a command line name (inputs.image_paths.find_images).

    Raises:
      CheckpointError, DataError: as fit(); or no photograph is there.
    """
    paths = find_images(words)
    side = side_of(model.crop_size, scales_of(model))
    images: Any = Images([Record(path, float("nan"), path) for path in paths], side, card.resize)
    of = f"{len(paths):,} photographs with 25 distortions at five levels"
    return fit(model, card, variables, images, weights, of)


def check(name: str, photographs: int) -> tuple[str, ...]:
    """Refuses a model or a number of photographs that fit() cannot use. Returns the model's TAPS.

    Raises:
      CheckpointError: the model declares no features.
      DataError: there are fewer than LEAST photographs.
    """
    if not (taps := taps_of(name)):
        raise CheckpointError(
            f"the model {name} declares no features (TAPS), so its scores cannot be explained",
            code="mismatch",
            key=name,
        )
    if photographs < LEAST:
        raise DataError(
            f"{photographs} photographs are too few for a probe; name at least {LEAST} (50 are recommended)",
            code="empty",
            key="photographs",
        )
    return taps


def fit(model: nn.Module, card: Card, variables, images: Sequence, weights: str, of: str) -> Probe:
    """Distorts photographs, and fits a probe to a model's features of them.

    Three quarters of the photographs are for the fit, a quarter measures the result (`Probe.about`).

    Args:
      model, card, variables: of the checkpoint; the variables are on the devices.
      images: undistorted photographs of different contents, uint8 (H, W, 3), read one by one.
      weights: SHA-256 of the weights; "" if it is not known.
      of: the photographs in words.

    Raises:
      CheckpointError, DataError: as check(); or a photograph cannot be read.
    """
    taps = check(card.model["name"], len(images))
    policy = card.crops if parse_policy(card.crops).kind == "whole" else "grid"
    batches, sizes = sharding.batch_sharding(sharding.local_mesh(sharding.make_mesh())), batch_sizes(model.crop_size)
    predictor = Predictor(model, policy, batches, sizes, lambda out: features(out, taps))
    labels: list[int] = []
    severities: list[float] = []
    contents: list[int] = []

    def crops() -> Iterator[np.ndarray]:
        side = side_of(model.crop_size, scales_of(model))
        for number in tqdm(range(len(images)), "probe", unit=" photographs", mininterval=1, disable=None):
            for sample in samples(images[number], side, number):
                labels.append(sample.label)
                severities.append(sample.severity)
                contents.append(number)
                yield sample.image

    found = [p.explanation for p in predictor.stream(variables, crops(), lambda crop: crop, threads=1)]
    x, groups = np.array(found, np.float32), np.array(contents)
    return fit_features(x, np.array(labels), np.array(severities), groups, groups % _EVERY == 0, taps, weights, of)


def fit_features(
    features_ND: np.ndarray,
    label_N: np.ndarray,
    severity_N: np.ndarray,
    content_N: np.ndarray,
    held_out_N: np.ndarray,
    taps: Sequence[str],
    weights: str,
    of: str,
    penalty: float = 1e-2,
) -> Probe:
    """Fits a probe to the features of N crops, of which some are held out to measure it.

    Args:
      features_ND: (N, D) as explain.features gives them.
      label_N: indices into inputs.probe_set.KINDS.
      severity_N: 0 to 5.
      content_N: number of the photograph of each crop.
      held_out_N: bool.
      taps, weights, of: for Probe.taps and Probe.about.
      penalty: of the softmax regression (evaluation/probe.py).
    """
    fitted = ~held_out_N
    probe = probes.fit_probe(features_ND[fitted], label_N[fitted], KINDS, KIND_FAMILIES, penalty)
    ridge = fit_ridge(features_ND[fitted], severity_N[fitted], content_N[fitted])
    severity = np.append(ridge.weight, ridge.bias).astype(np.float32)
    x, truth = features_ND[held_out_N], (label_N[held_out_N, None] == np.arange(len(KINDS))) @ probe.member
    counts = probes.confusion((probe.probabilities(x) @ probe.member).argmax(1), truth.argmax(1), len(probe.groups))
    error = np.abs(np.clip(ridge(x), 0, 5) - severity_N[held_out_N]).mean()
    about = {
        "of": of,
        "held_out": len(set(content_N[held_out_N].tolist())),
        **probes.accuracy(counts),
        "severity_error": float(error),
        "weights": weights,
    }
    return Probe(probe.weight, probe.bias, KINDS, KIND_FAMILIES, severity, tuple(taps), about)
