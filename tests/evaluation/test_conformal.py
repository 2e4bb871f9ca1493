"""Intervals for opinions: how many of new images they hold, and that versions of one content do not count as many."""

import numpy as np
import pytest

from jaxiqa.evaluation import conformal


def residuals(contents, versions, within, rng):
    """Errors of images: one part that a content's versions share, and one of their own."""
    shared = rng.normal(size=contents)[:, None] * np.sqrt(1 - within)
    return 10 * (shared + np.sqrt(within) * rng.normal(size=(contents, versions))).ravel()


@pytest.mark.parametrize("contents", [9, 14, 60])
@pytest.mark.parametrize("within", [0.0, 0.5, 1.0])
def test_ninety_percent_of_new_contents_are_covered(contents, within):
    """The mean over repetitions, for contents that share none, half or all of their error."""
    rng, found = np.random.default_rng(0), []
    for _ in range(150):
        fitted = conformal.fit_interval(
            residuals(contents, 6, within, rng), np.repeat(np.arange(contents), 6), np.full(6 * contents, np.nan), "x"
        )
        found.append(np.mean(np.abs(residuals(200, 1, within, rng)) <= fitted["half_width"]))
    assert 0.87 <= np.mean(found) <= 0.94


def test_versions_of_a_content_do_not_count_as_contents():
    rng = np.random.default_rng(0)
    error, groups, unknown = rng.normal(size=8), np.arange(8), np.full(80, np.nan)
    assert conformal.fit_interval(error, groups, unknown[:8], "x") == {}
    assert conformal.fit_interval(np.repeat(error, 10), np.repeat(groups, 10), unknown, "x") == {}
    error, groups = rng.normal(size=20), np.arange(20)
    one = conformal.fit_interval(error, groups, unknown[:20], "x")
    ten = conformal.fit_interval(np.repeat(error, 10), np.repeat(groups, 10), np.full(200, np.nan), "x")
    assert ten["half_width"] == pytest.approx(one["half_width"]) and (ten["contents"], ten["images"]) == (20, 200)


def test_widths_follow_the_spread_if_that_helps():
    rng = np.random.default_rng(0)
    spread, groups = rng.uniform(0.2, 4, 600), np.arange(600) // 2
    fitted = conformal.fit_interval(5 * spread * rng.normal(size=600), groups, spread, "x")
    even = conformal.fit_interval(5 * rng.normal(size=600), groups, spread, "x")
    assert fitted["spread_weight"] == 2.0 and even["spread_weight"] == 0.0
    lo, hi = conformal.ends(fitted, [50.0, 50.0, 50.0], [0.1, 2.0, np.nan])
    assert (hi - lo)[1] > 2 * (hi - lo)[0] and np.isfinite(hi[2])


def test_ends_stay_on_the_scale_and_need_an_interval():
    interval = {"level": 0.9, "half_width": 10.0, "spread_weight": 0.0, "median_spread": 0.0}
    lo, hi = conformal.ends(interval, [-3.0, 50.0, 99.0], [np.nan] * 3)
    assert lo.tolist() == [0.0, 40.0, 89.0] and hi.tolist() == [7.0, 60.0, 100.0]
    assert np.isnan(conformal.ends({}, [50.0], [1.0])).all()
    found = conformal.coverage(lo, hi, [7.0, 39.0, 90.0], ["a", "a", "b"])
    assert found == {"coverage": pytest.approx(0.75), "width": pytest.approx((13.5 + 11.0) / 2)}
    assert conformal.coverage([np.nan], [np.nan], [1.0], ["a"]) == {}


@pytest.mark.parametrize("change", [{"half_width": -1.0}, {"half_width": None}, {"level": float("nan")}])
def test_a_damaged_interval_is_refused(change):
    interval = {"level": 0.9, "half_width": 10.0, "spread_weight": 0.0, "median_spread": 0.0}
    conformal.check_interval(interval)
    with pytest.raises((TypeError, ValueError)):
        conformal.check_interval(interval | change)
