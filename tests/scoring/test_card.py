"""From predictions to scores: on 0..100 and on the training set's own scale, whichever of them the model learned."""

import math

import pytest

from jaxiqa.datasets.records import Scale
from jaxiqa.scoring.card import Card
from jaxiqa.scoring.predict import Prediction


@pytest.mark.parametrize(("labels", "output", "error"), [("score01", 0.25, 0.01), ("native", 4.0, 0.04)])
def test_scores(labels, output, error):
    card = Card({}, "float32", labels, "", Scale(1.0, 5.0, higher_is_better=False), "grid")
    refused = Prediction(math.nan, math.nan, 0, "cannot be read")
    one, none, single = card.scores(
        iter([Prediction(output, error, 4, "", (0.5,)), refused, Prediction(output, math.nan, 1)])
    )
    assert one == (pytest.approx(25), pytest.approx(4), pytest.approx(1), "", (0.5,), "")
    assert all(math.isnan(x) for x in none[:3]) and none.reason == "cannot be read"
    assert single.score == one.score and math.isnan(single.se)


def test_each_score_comes_with_its_prediction():
    card = Card({}, "float32", "score01", "", Scale(0.0, 1.0), "grid")

    def endless():
        while True:
            yield Prediction(0.5, 0.1, 2)

    assert next(card.scores(endless())).score == 50
