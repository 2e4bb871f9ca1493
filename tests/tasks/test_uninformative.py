"""The warning of a run whose scores say nothing about the opinion scores."""

import numpy as np
import pytest

from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.scoring.card import Card
from jaxiqa.scoring.predict import Prediction
from jaxiqa.scoring.rated import evaluate
from jaxiqa.tasks.quality import warn

OPINIONS = np.linspace(0.0, 8.0, 9)


@pytest.mark.parametrize(
    ("scores", "spread", "told"),
    [
        (OPINIONS, 1.0, False),
        (4 + 0.1 * OPINIONS, 0.1, False),
        (4 + 0.01 * OPINIONS, 0.01, True),  # stuck at the mean
        (np.full(9, 4.0), 0.0, True),
        (np.abs(OPINIONS - 4), 0.5092, True),  # unrelated to the opinions
        (8 - OPINIONS, 1.0, True),
    ],
)
def test_a_warning(scores, spread, told, capsys):
    dataset = Dataset("mine", [Record("", mos, f"{mos}") for mos in OPINIONS], (0.0, 8.0), True)
    card = Card({"name": "", "variant": ""}, "float32", "native", "mine", dataset.scale, "grid")
    results = evaluate([Prediction(float(score), 0.0, 1) for score in scores], dataset.records, dataset, card)
    assert results.spread == pytest.approx(spread, abs=1e-4)
    assert warn(results) == ({"warning": "uninformative"} if told else {})
    assert capsys.readouterr().out.startswith("warning: ") == told
