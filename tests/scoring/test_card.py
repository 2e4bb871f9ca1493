"""From predictions to scores: on 0..100 and on the training set's own scale, whichever of them the model learned."""

import dataclasses
import json
import math

import pytest
from refused import refused

from jaxiqa.datasets.records import Scale
from jaxiqa.errors import CheckpointError
from jaxiqa.scoring.card import WORDS, Card
from jaxiqa.scoring.predict import Prediction


@pytest.mark.parametrize(("labels", "output", "error"), [("score01", 0.25, 0.01), ("native", 4.0, 0.04)])
def test_scores(labels, output, error):
    card = Card({}, "float32", labels, "", Scale(1.0, 5.0, higher_is_better=False), "grid")
    refused = Prediction(math.nan, math.nan, 0, "cannot be read")
    one, none, single = card.scores(
        iter([Prediction(output, error, 4, "", (0.5,)), refused, Prediction(output, math.nan, 1)])
    )
    assert one[:6] == (pytest.approx(25), pytest.approx(4), pytest.approx(1), "", (0.5,), "")
    assert math.isnan(one.percentile) and one.word == "poor"
    assert all(math.isnan(x) for x in none[:3]) and none.reason == "cannot be read" and none.word == ""
    assert single.score == one.score and math.isnan(single.se)


def test_weights_of_unknown_scale_get_no_word():
    card = Card({}, "float32", "score01", "", Scale(0.0, 1.0), "grid")
    (found,) = card.scores([Prediction(16.9, 0.1, 4)])
    assert found.word == "" and not card.is_known and dataclasses.replace(card, dataset="live").is_known


def test_each_score_comes_with_its_prediction():
    card = Card({}, "float32", "score01", "", Scale(0.0, 1.0), "grid")

    def endless():
        while True:
            yield Prediction(0.5, 0.1, 2)

    assert next(card.scores(endless())).score == 50


def unrated(**changes) -> Card:
    """A card of a model whose images nobody rated; half of its reference images are below 0.2."""
    quantiles = [0.004 * i for i in range(50)] + [0.2 + 0.016 * i for i in range(51)]
    reference = {"of": "some images", "quantiles": quantiles}
    card = Card({"name": "compact", "variant": "test"}, "float32", "score01", "", None, "auto:4", reference=reference)
    return dataclasses.replace(card, **changes)


@pytest.mark.parametrize(
    ("output", "percentile", "word"),
    [
        (-0.5, 0, "bad"),
        (0.0, 0, "bad"),
        (0.1, 25, "bad"),
        (0.19, 47.5, "bad"),
        (0.2, 50, "poor"),
        (0.4, 62.5, "fair"),
        (0.599, 74.9375, "fair"),
        (0.6, 75, "good"),
        (0.8, 87.5, "excellent"),
        (1.0, 100, "excellent"),
        (1.7, 100, "excellent"),
    ],
)
def test_percentile_and_word(output, percentile, word):
    (score,) = unrated().scores([Prediction(output, math.nan, 1)])
    assert score.percentile == pytest.approx(percentile) and score.word == word and word in WORDS
    assert score.score == pytest.approx(100 * output) and math.isnan(score.native)


def test_meaning_of_native_labels_and_of_no_score():
    card = unrated(labels="native", scale=Scale(1.0, 5.0, higher_is_better=False))
    good, none = card.scores([Prediction(1.4, 0.1, 4), Prediction(math.nan, math.nan, 0, "cannot be read")])
    assert (good.word, good.percentile) == ("excellent", pytest.approx(50 + 0.7 / 0.016))
    assert none.word == "" and math.isnan(none.percentile)


def test_a_card_survives_json():
    plain = Card({"name": "cnniqa", "variant": "test"}, "float32", "score01", "", Scale(0.0, 1.0), "grid")
    assert "reference" not in plain.to_dict()  # older versions read it
    for card in (plain, unrated(), unrated(scale=Scale(0.0, 1.0), labels="native")):
        assert Card.from_dict(json.loads(json.dumps(card.to_dict())), "here") == card


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": "native"},
        {"reference": {"of": "no quantiles"}},
        {"reference": {"quantiles": [0.01 * i for i in range(101)]}},
        {"reference": {"of": "too few", "quantiles": [0.0, 1.0]}},
        {"reference": {"of": "descending", "quantiles": [1 - 0.01 * i for i in range(101)]}},
        {"reference": {"of": "nan", "quantiles": [math.nan] * 101}},
        {"reference": {"of": "text", "quantiles": ["a"] * 101}},
        {"reference": "text"},
    ],
)
def test_a_card_that_cannot_work_is_refused(changes):
    with refused(CheckpointError, "format", "here"):
        Card.from_dict(unrated(**changes).to_dict(), "here")
