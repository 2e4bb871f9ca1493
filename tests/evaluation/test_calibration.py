"""Calibration chooses the kind of map that made the data, and estimates its error on left-out contents."""

import numpy as np
import pytest

from jaxiqa.evaluation.calibration import Ratings, apply_curve, check_curve, choose, fit_curve, slope_of_curve
from jaxiqa.evaluation.metrics import rmse


def made(truth, contents=20, versions=3, features=None, noise=0.05, **more):
    rng = np.random.default_rng(0)
    output = rng.uniform(-3, 3, contents * versions)
    mos = truth(output, rng) + noise * rng.normal(size=output.size)
    x = None if features is None else np.concatenate([output[:, None], features(output, mos, rng)], axis=1)
    groups = np.repeat(np.arange(contents), versions)
    return Ratings(mos, groups, x, 1, output, as_is=more.pop("as_is", lambda o: o)(output), **more)


def noise_features(output, mos, rng):
    return rng.normal(size=(output.size, 40))


def informative(output, mos, rng):
    return mos[:, None] + 0.05 * rng.normal(size=(output.size, 40))


def sigmoid(output):
    return 1 / (1 + np.exp(-3 * output))


CASES = {
    "none": made(lambda o, rng: 0.2 * o, features=noise_features, as_is=lambda o: 0.2 * o),
    "line": made(lambda o, rng: 0.5 + 0.1 * o, features=noise_features),
    "logistic": made(lambda o, rng: sigmoid(o), features=noise_features),
    "ridge": made(lambda o, rng: rng.uniform(0, 1, o.size), features=informative),
    "constant": made(lambda o, rng: rng.uniform(0, 1, o.size), features=noise_features),
}


def test_with_few_contents_the_order_of_the_scores_stays():
    few = made(lambda o, rng: 0.5 + 0.1 * o, contents=19, features=informative)
    assert few.kinds == ("none", "line", "logistic") and choose(few).kind == "line"
    without_scores = Ratings(few.mos01, few.groups, few.features)
    assert choose(without_scores).kind == "ridge"  # there is nothing else


_SLOW = ("ridge", "constant")  # fits of curves to noise


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] if k in _SLOW else []) for k in CASES])
def test_the_kind_that_is_right_is_chosen(kind):
    ratings = CASES[kind]
    choice = choose(ratings)
    assert choice.kind == kind
    assert bool(choice.curve) == (kind in ("line", "logistic")) and (choice.ridge is not None) == (kind == "ridge")
    assert np.isfinite(choice.chosen).all()
    if kind != "constant":
        assert rmse(choice.chosen, ratings.mos01) < 0.08 < rmse(choice.left_out["constant"], ratings.mos01)


def test_errors_are_of_contents_that_were_left_out():
    """Features that name the content predict each image with its content, and none without it."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    mos = rng.uniform(0, 1, 20)[groups]
    choice = choose(Ratings(mos, groups, np.eye(20)[groups] + 1e-3 * rng.normal(size=(100, 20))))
    assert rmse(choice.chosen, mos) > 0.9 * rmse(choice.left_out["constant"], mos)


@pytest.mark.parametrize(("rises", "sign"), [(True, 1), (False, -1)])
@pytest.mark.parametrize("kind", ["line", "logistic"])
def test_a_curve_keeps_the_direction(kind, rises, sign):
    output = np.linspace(0, 5, 50)
    mos01 = 0.5 + 0.3 * np.tanh(sign * (output - 2)) + 0.01 * np.sin(50 * output)
    curve = fit_curve(kind, output, mos01, rises)
    check_curve(curve)
    fitted = apply_curve(curve, output)
    assert (sign * np.diff(fitted) > 0).all() and np.abs(fitted - mos01).max() < (0.3 if kind == "line" else 0.02)
    assert fit_curve(kind, output, mos01, not rises) == {}
    step = (apply_curve(curve, 2.001) - apply_curve(curve, 1.999)) / 0.002
    assert slope_of_curve(curve, 2.0) == pytest.approx(abs(step), rel=1e-3)


@pytest.mark.parametrize(
    "curve",
    [
        {"kind": "spline", "parameters": [1.0]},
        {"kind": "line", "parameters": [1.0]},
        {"kind": "logistic", "parameters": [1.0, 0.0, 0.0, 0.0]},
        {"kind": "line", "parameters": [1.0, float("nan")]},
    ],
)
def test_a_damaged_curve_is_refused(curve):
    with pytest.raises((KeyError, ValueError)):
        check_curve(curve)
