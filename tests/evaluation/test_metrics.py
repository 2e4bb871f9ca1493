"""Agreement numbers: known values, undefined input, and logistic fits that find the best curve on any scale."""

import pathlib

import numpy as np
import pytest
from scipy import special, stats

from jaxiqa.evaluation.metrics import all_metrics, fit_logistic, krcc, plcc, rmse, srcc

RNG = np.random.default_rng(0)
PRED = RNG.normal(size=200).round(1)  # with ties
MOS = (PRED + RNG.normal(size=200)).round(1)
CORRELATIONS = [srcc, krcc, plcc, lambda p, m: plcc(p, m, "logistic4"), lambda p, m: plcc(p, m, "logistic5")]


def test_known_values():
    """Worked by hand: ranks 1 2.5 2.5 4 against 1 3 2 4, five concordant pairs, one tied."""
    pred, mos = [1, 2, 2, 5], [10, 30, 20, 40]
    assert srcc(pred, mos) == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert krcc(pred, mos) == pytest.approx(5 / np.sqrt(5 * 6))
    assert plcc(pred, mos) == pytest.approx(60 / np.sqrt(9 * 500))
    assert rmse(pred, mos) == pytest.approx(np.sqrt((81 + 28**2 + 18**2 + 35**2) / 4))


def test_equal_to_scipy_with_ties():
    assert srcc(PRED, MOS) == pytest.approx(stats.spearmanr(PRED, MOS).statistic, abs=1e-12)
    assert krcc(PRED, MOS) == pytest.approx(stats.kendalltau(PRED, MOS).statistic, abs=1e-12)
    assert plcc(PRED, MOS) == pytest.approx(stats.pearsonr(PRED, MOS).statistic, abs=1e-12)
    assert all_metrics(PRED, MOS) == {
        "srcc": srcc(PRED, MOS), "plcc": plcc(PRED, MOS), "krcc": krcc(PRED, MOS), "rmse": rmse(PRED, MOS),
    }  # fmt: skip
    assert all(type(value) is float for value in all_metrics(PRED.astype(np.float32), list(MOS)).values())


def test_perfect_agreement_is_exactly_one():
    for scale in (1e-200, 1, 1e100):
        assert srcc(PRED, scale * PRED) == krcc(PRED, scale * PRED) == 1
        assert plcc(PRED, scale * PRED) == pytest.approx(1, abs=1e-12) and plcc(PRED, scale * PRED) <= 1
        assert srcc(PRED, -scale * PRED) == -1
    assert rmse(PRED, PRED) == 0


BAD = {
    "no image": ([], []),
    "one image": ([1.0], [2.0]),
    "two images": ([1.0, 2.0], [2.0, 3.0]),
    "constant prediction": ([0.1] * 9, list(range(9))),
    "constant labels": (list(range(9)), [3.3] * 9),
    "nan prediction": ([1.0, np.nan, 3.0, 4.0], [1, 2, 3, 4]),
    "infinite label": ([1, 2, 3, 4], [1.0, np.inf, 3.0, 4.0]),
}


@pytest.mark.parametrize("kind", BAD)
def test_undefined_is_nan_without_a_warning(kind):
    pred, mos = BAD[kind]
    for metric in CORRELATIONS:
        assert np.isnan(metric(pred, mos))
    assert set(all_metrics(pred, mos)) == {"srcc", "plcc", "krcc", "rmse"}
    fit = fit_logistic(pred, mos, "logistic5")
    assert not fit.converged and np.isnan(fit.params).all() and np.isnan(fit(np.arange(3.0))).all()


def test_rmse_needs_no_spread():
    assert rmse([2, 2, 2], [1, 2, 3]) == pytest.approx(np.sqrt(2 / 3))
    assert rmse([2.0], [5.0]) == 3
    assert np.isnan(rmse([], [])) and np.isnan(rmse([np.nan, 1], [1, 1]))


@pytest.mark.parametrize("metric", [*CORRELATIONS, rmse, all_metrics])
@pytest.mark.parametrize("shapes", [((4,), (5,)), ((4, 1), (4,)), ((4, 1), (4, 1)), ((), ())])
def test_lengths_must_match(metric, shapes):
    with pytest.raises(ValueError, match="two lists of equal length"):
        metric(*(np.ones(shape) for shape in shapes))


def test_unknown_fit_is_refused():
    with pytest.raises(ValueError, match="'logistic3' is not one of logistic4, logistic5"):
        plcc(PRED, MOS, "logistic3")


# --- fits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1, 1e4])
def test_the_true_parameters_are_found(scale):
    x = np.linspace(-2, 3, 300)
    true4 = (4.5, 1.2, 0.4, 0.3)
    y = 1.2 + 3.3 / (1 + np.exp(-(x - 0.4) / 0.3))
    fit = fit_logistic(scale * x + 7, y, "logistic4")
    b1, b2, b3, b4 = fit.params
    assert (b1, b2, (b3 - 7) / scale, b4 / scale) == pytest.approx(true4, rel=1e-4)
    true5 = (3.0, 2.5, 0.4, 0.5, 1.0)
    y = 3 * (0.5 - 1 / (1 + np.exp(2.5 * (x - 0.4)))) + 0.5 * x + 1
    fit = fit_logistic(scale * x, y, "logistic5")
    b1, b2, b3, b4, b5 = fit.params
    assert (b1, b2 * scale, b3 / scale, b4 * scale, b5) == pytest.approx(true5, rel=1e-3)
    assert fit.converged and fit(scale * x) == pytest.approx(y, abs=1e-5)


def test_parameters_are_those_of_the_formulas():
    x = PRED + 5
    b1, b2, b3, b4 = fit_logistic(x, MOS, "logistic4").params
    assert fit_logistic(x, MOS, "logistic4")(x) == pytest.approx((b1 - b2) / (1 + np.exp(-(x - b3) / b4)) + b2)
    b1, b2, b3, b4, b5 = fit_logistic(x, MOS, "logistic5").params
    formula = b1 * (0.5 - 1 / (1 + np.exp(b2 * (x - b3)))) + b4 * x + b5
    assert fit_logistic(x, MOS, "logistic5")(x) == pytest.approx(formula)


def test_a_falling_curve_and_wild_scores():
    assert plcc(PRED, MOS, "logistic4") == pytest.approx(plcc(-PRED, MOS, "logistic4"), abs=1e-4)
    wild = PRED.copy()
    wild[:3] = [1e6, -1e7, 1e5]
    assert abs(plcc(wild, MOS)) < 0.3
    assert plcc(wild, MOS, "logistic4") > 0.95 * plcc(PRED, MOS)


@pytest.mark.parametrize("n", [3, 4, 5, 6, 8])
def test_few_images(n):
    """A curve through as many points as it has parameters would always be perfect."""
    for kind, parameters in (("logistic4", 4), ("logistic5", 5)):
        value = plcc(PRED[:n], MOS[:n], kind)
        assert np.isnan(value) if n <= parameters else 0 <= value <= 1


def cases(mos: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Predictions of one simulated model, squashed and scaled in the ways that real ones are; mos is 1..5."""
    rng = np.random.default_rng(0)
    z = (mos - mos.mean()) / mos.std() + 0.4 * rng.standard_normal(mos.size)
    mos100 = 25 * (mos - 1)
    return {
        "saturating 0-1": (special.expit(2.5 * z - 1), mos),
        "saturating 0-1, labels 0-100": (special.expit(2.5 * z - 1), mos100),
        "lower is better, 0-100": (100 * special.expit(-1.8 * z - 0.5), mos),
        "unbounded, heavy tails": (50 * np.sinh(1.6 * z) - 300, mos100),
        "tiny differences around 1000": (1000 + 1e-6 * z**3, mos),
        "wild scores": (z + rng.standard_cauchy(mos.size), -mos),
    }


def best_known(pred: np.ndarray, mos: np.ndarray, kind: str) -> float:
    """PLCC by brute force: a fine grid of slopes and centres with the linear parameters solved exactly."""
    x, y = (pred - np.median(pred)) / np.subtract(*np.percentile(pred, [75, 25])), mos - mos.mean()
    best = 0.0
    for slope in np.geomspace(0.02, 100, 40):
        for centre in np.percentile(x, np.linspace(0.5, 99.5, 30)):
            columns = np.stack([special.expit(slope * (x - centre)), x][: 1 if kind == "logistic4" else 2], 1)
            columns = columns - columns.mean(0)
            explained = y @ columns @ np.linalg.pinv(columns.T @ columns) @ (columns.T @ y)
            best = max(best, explained / (y @ y))
    return float(np.sqrt(best))


@pytest.mark.parametrize("case", cases(np.linspace(1, 5, 9)))
def test_fits_on_real_labels_reach_the_best_known_value(case, shared: pathlib.Path):
    lines = (shared / "data/labels/MANIQA/kadid10k_label.txt").read_text().splitlines()
    mos = np.array([float(line.split(",")[1]) for line in lines])
    assert mos.size == 10125
    pred, mos = (values[::5] for values in cases(mos)[case])
    raw = abs(plcc(pred, mos))
    values = {}
    for kind in ("logistic4", "logistic5"):
        fit = fit_logistic(pred, mos, kind)
        assert fit.converged and fit.kind == kind
        values[kind] = plcc(pred, mos, kind)
        assert values[kind] == plcc(fit(pred), mos)
        assert values[kind] >= best_known(pred, mos, kind) - 0.0005
        assert values[kind] >= raw - 0.002
    assert values["logistic5"] >= values["logistic4"] - 0.0005  # the former contains the latter
