"""Shares of the processes, put together: every picture once, in order, whatever its prediction holds."""

import json
import math

import pytest

from jaxiqa.scoring import shares
from jaxiqa.scoring.predict import Prediction


def predictor(variables, pictures):
    """What a Predictor gives; the third picture cannot be read."""
    return [
        Prediction(math.nan, math.nan, 0, "cannot be read")
        if pictures[i] == 2
        else Prediction(variables / (1 + pictures[i]), 0.1, 4, "", (0.25, 0.75))
        for i in range(len(pictures))
    ]


@pytest.mark.parametrize(("count", "pictures"), [(2, 7), (3, 7), (4, 3), (1, 7)])
def test_shares(count, pictures, monkeypatch):
    numbers = list(range(pictures))
    whole = predictor(1 / 3, numbers)
    given = []

    def at(index, gather):
        monkeypatch.setattr(shares.jax, "process_count", lambda: count)
        monkeypatch.setattr(shares.jax, "process_index", lambda: index)
        return shares.predict_shares(predictor, 1 / 3, numbers, gather)

    for index in range(count):
        if count > 1:
            with pytest.raises(InterruptedError):  # all have to give theirs before any gets the others'
                at(index, lambda value: given.append(json.loads(json.dumps(value))) or _stop())
    for index in range(count):
        assert repr(at(index, lambda value: given)) == repr(whole)


def _stop():
    raise InterruptedError
