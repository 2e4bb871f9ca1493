"""Calibrated checkpoints: what they are fitted to is what they score, and they are used as any other checkpoint."""

import contextlib
import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from refused import refused
from small_checkpoint import write_source

import jaxiqa
from jaxiqa import datasets
from jaxiqa.datasets.leakage import seen_references
from jaxiqa.errors import CheckpointError, DataError
from jaxiqa.evaluation.calibration import Choice
from jaxiqa.evaluation.probe import Probe
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.scoring import calibration
from jaxiqa.scoring.scorer import Scorer

CONTENTS = 20


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """Three versions of twenty contents with noise; labels are differences (DMOS, 0 to 100) that rise with it."""
    folder, rng = tmp_path_factory.mktemp("rated"), np.random.default_rng(0)
    with open(folder / "ratings.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "mos", "content"])
        for content in range(CONTENTS):
            small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
            clean = np.asarray(small.resize((112, 96), Image.Resampling.BICUBIC), np.float32)
            for strength in (2, 20, 60):
                image = np.clip(clean + strength * rng.standard_normal(clean.shape), 0, 255).astype(np.uint8)
                Image.fromarray(image).save(folder / f"{content}_{strength}.png")
                rows.writerow([f"{content}_{strength}.png", 20 + strength + 2 * rng.standard_normal(), f"c{content}"])
    return folder


@pytest.fixture(scope="module")
def dataset(rated):
    return datasets.load(
        "folder", rated, csv="ratings.csv", group_column="content", score_range=(0, 100), higher_is_better=False
    )


@pytest.fixture(scope="module", params=["compact", "resnet"])
def calibrated(request, dataset, tmp_path_factory):
    """Source, choice, features, predictions and folder of a calibrated checkpoint: of a system, and of a backbone."""
    folder = tmp_path_factory.mktemp(request.param)
    checkpoint = write_source(folder / "source", request.param)
    source = calibration.open_source(checkpoint, None, None, None, ())
    predictions, features = calibration.predict(source, dataset, None)
    choice = calibration.fit(source, dataset, predictions, features)
    if source.gives_scores:
        add_probe(source, ("pooled",), features.shape[1] - 1)
    calibration.write(source, dataset, predictions, choice, folder / "new")
    return source, choice, features, predictions, folder / "new"


def test_the_checkpoint_scores_as_it_was_fitted(calibrated, dataset):
    source, choice, features, _, folder = calibrated
    assert choice.kind == "ridge"
    paths = [r.path for r in dataset.records]
    scorer = Scorer(folder)
    found = list(scorer.scores(paths))
    np.testing.assert_allclose([s.score for s in found], 100 * choice.ridge(features), atol=2e-3)
    np.testing.assert_allclose([s.native for s in found], [100 - s.score for s in found], atol=1e-9)
    assert scorer.card.interval["contents"] == CONTENTS and scorer.card.interval["images"] == 3 * CONTENTS
    assert all(0 <= s.lo <= s.hi <= 100 for s in found)
    mos100 = 100 * dataset.scale.to_score01([r.mos for r in dataset.records])
    assert np.mean([s.lo <= mos <= s.hi for s, mos in zip(found, mos100, strict=True)]) >= 0.9
    is_backbone = not source.gives_scores
    assert (scorer.card.crops, tuple(scorer.model.scales)) == (("auto:1", (0, 1)) if is_backbone else ("auto:4", (1,)))
    assert all(np.isnan(s.se) == is_backbone for s in found)
    metric = jaxiqa.create_metric("calibrated", checkpoint=folder)
    assert metric.describe(paths[0]).lo == pytest.approx(found[0].lo, abs=1e-3)


def add_probe(source, taps, width):
    """Writes a probe with random weights into the folder of a checkpoint."""
    weight, *severity = np.random.default_rng(0).normal(0, 0.1, (4, width, 3)).astype(np.float32)
    severity = np.append(severity[0][:, 0] / 10, np.float32(2))
    about = {"weights": source.saved.digest()}
    families = ("pristine", "blur", "noise")
    Probe(weight, np.zeros(3, np.float32), families, families, severity, taps, about).save(
        source.saved.workdir / "probe.npz"
    )


def explanations(folder, dataset):
    scorer = Scorer(folder, crops="auto:4", explain=True)
    return [found.explanation for found in scorer.stream([r.path for r in dataset.records[:9]])]


@pytest.mark.slow
def test_reasons_stay(calibrated, dataset, tmp_path):
    """Through two calibrations. A probe of features that a curve does not have is left out, as is one of a backbone."""
    source, choice, _, predictions, folder = calibrated
    if not source.gives_scores:
        assert not (folder / "probe.npz").exists()
        return
    expected = explanations(source.saved.workdir, dataset)
    np.testing.assert_allclose(explanations(folder, dataset), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 1e-3
    again = calibration.open_source(folder, None, None, None, ())
    calibration.write(again, dataset, predictions, choice, tmp_path / "again")
    np.testing.assert_allclose(explanations(tmp_path / "again", dataset), expected, atol=1e-5)
    assert np.load(folder / "probe.npz")["about"] != np.load(source.saved.workdir / "probe.npz")["about"]

    again = calibration.open_source(tmp_path / "again", None, None, None, ())
    add_probe(again, ("features",), len(choice.ridge.weight))
    expected = explanations(tmp_path / "again", dataset)
    calibration.write(again, dataset, predictions, choice, tmp_path / "regression")
    np.testing.assert_allclose(explanations(tmp_path / "regression", dataset), expected, atol=1e-5)
    line = Choice("line", {"kind": "line", "parameters": [1.0, 0.0]}, None, choice.left_out, choice.chosen)
    calibration.write(again, dataset, predictions, line, tmp_path / "line")
    with refused(CheckpointError, "not_found", None, "probe.npz"):
        explanations(tmp_path / "line", dataset)


def test_where_it_comes_from_is_stored(calibrated, dataset):
    source, *_, folder = calibrated
    saved = Saved(folder)
    assert saved.meta.source["sha256"] == source.saved.digest() != ""
    assert (saved.meta.source["ratings"], saved.meta.source["contents"]) == (3 * CONTENTS, CONTENTS)
    assert {row["kind"] for row in saved.meta.source["errors"]} >= {"constant", "ridge", "chosen"}
    assert (saved.meta.card["scale"]["higher_is_better"], saved.meta.card["dataset"]) == (False, "folder")
    split = json.loads((folder / "split.json").read_text())
    assert split["train"] == [r.id for r in dataset.records] and split["val"] == split["test"] == []
    assert not seen_references(saved.meta.transferred, dataset, dataset.records)


def test_errors_have_intervals_and_units(calibrated, dataset):
    _, choice, *_ = calibrated
    rows = {row["kind"]: row for row in calibration.errors(dataset, choice)}
    assert all(row["low"] <= row["rmse"] <= row["high"] for row in rows.values())
    assert rows["constant"]["rmse"] > 20 and rows["chosen"]["rmse"] < 0.8 * rows["constant"]["rmse"]
    assert rows["ridge"]["srcc"] > 0.6


def test_calibrated_anew_it_is_the_same(calibrated, dataset):
    _, _, features, _, folder = calibrated
    again = calibration.open_source(folder, None, None, None, ())
    _, same = calibration.predict(again, dataset, None)
    np.testing.assert_allclose(same, features, rtol=1e-5, atol=1e-5)


def test_too_few_ratings_or_contents_are_refused(calibrated, dataset):
    source, _, features, predictions, _ = calibrated
    few = dataclasses.replace(dataset, records=dataset.records[:19])
    with refused(DataError, "empty", "folder", "19 ratings"):
        calibration.fit(source, few, predictions[:19], features[:19])
    narrow = dataclasses.replace(
        dataset, records=[dataclasses.replace(r, reference=f"c{i % 4}") for i, r in enumerate(dataset.records)]
    )
    with refused(DataError, "empty", "folder", "4 contents"):
        calibration.fit(source, narrow, predictions, features)


@pytest.mark.parametrize(
    ("kind", "share", "accepted"), [("line", 0.94, True), ("line", 0.96, False), ("constant", 0.5, False)]
)
def test_a_map_that_is_hardly_better_than_the_mean_is_refused(calibrated, dataset, monkeypatch, kind, share, accepted):
    source, _, features, predictions, _ = calibrated
    mos01 = dataset.scale.to_score01([r.mos for r in dataset.records])
    constant = np.full(len(mos01), mos01.mean())
    made = Choice(kind, {}, None, {"constant": constant}, mos01 + share * (constant - mos01))
    monkeypatch.setattr(calibration, "choose", lambda ratings: made)
    expected = contextlib.nullcontext() if accepted else refused(DataError, "mismatch", "folder")
    with expected:
        assert calibration.fit(source, dataset, predictions, features) is made


@pytest.mark.slow
def test_a_curve_keeps_the_model_and_the_order(dataset, tmp_path):
    """Labels that are a curve of the scores: a lower output is better on the scale of the source."""
    scale = {"lo": -9.0, "hi": 9.0, "higher_is_better": False}
    checkpoint = write_source(tmp_path / "source", "compact", labels="native", scale=datasets.records.Scale(**scale))
    source = calibration.open_source(checkpoint, None, None, None, ())
    predictions, features = calibration.predict(source, dataset, None)
    add_probe(source, ("pooled",), features.shape[1] - 1)
    output = np.array([found.output for found in predictions])
    ranks = np.argsort(np.argsort(output)) / len(output)
    records = [dataclasses.replace(r, mos=20 + 60 * rank) for r, rank in zip(dataset.records, ranks, strict=True)]
    dataset = dataclasses.replace(dataset, records=records)
    choice = calibration.fit(source, dataset, predictions, None)
    assert choice.kind in ("line", "logistic")
    card = calibration.write(source, dataset, predictions, choice, tmp_path / "new")
    assert card.model == {"name": "compact", "variant": "test"} and card.curve == choice.curve
    old, new = Scorer(checkpoint), Scorer(tmp_path / "new")
    paths = [r.path for r in dataset.records]
    before, after = list(old.scores(paths)), list(new.scores(paths))
    assert (np.argsort([s.score for s in before]) == np.argsort([s.score for s in after])).all()
    assert np.corrcoef([s.native for s in after], [r.mos for r in records])[0, 1] > 0.95
    assert all(s.se > 0 and s.lo < s.score < s.hi for s in after)
    np.testing.assert_array_equal(explanations(tmp_path / "new", dataset), explanations(checkpoint, dataset))
