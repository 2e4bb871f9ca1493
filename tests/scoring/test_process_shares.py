"""The joined shares of the processes: every image once, in order, with its whole prediction."""

import json
import math

import pytest

from jaxiqa.scoring import process_shares
from jaxiqa.scoring.predict import Prediction


def predictor(variables, images):
    """Returns predictions as a Predictor does; the third image cannot be read."""
    return [
        Prediction(math.nan, math.nan, 0, "cannot be read")
        if images[i] == 2
        else Prediction(variables / (1 + images[i]), 0.1, 4, "", (0.25, 0.75))
        for i in range(len(images))
    ]


@pytest.mark.parametrize(("count", "images"), [(2, 7), (3, 7), (4, 3), (1, 7)])
def test_shares(count, images, monkeypatch):
    numbers = list(range(images))
    whole = predictor(1 / 3, numbers)
    given = []

    def at(index, gather):
        monkeypatch.setattr(process_shares.jax, "process_count", lambda: count)
        monkeypatch.setattr(process_shares.jax, "process_index", lambda: index)
        return process_shares.predict_shares(predictor, 1 / 3, numbers, gather)

    for index in range(count):
        if count > 1:
            with pytest.raises(InterruptedError):  # all must pass their share to gather before any gets the others
                at(index, lambda value: given.append(json.loads(json.dumps(value))) or _stop())
    for index in range(count):
        assert repr(at(index, lambda value: given)) == repr(whole)


def _stop():
    raise InterruptedError
