"""Intervals cover what they promise, and tests give known p values."""

import numpy as np
import pytest
from scipy import stats

from jaxiqa.evaluation import metrics
from jaxiqa.evaluation.metrics import SCALE_FREE
from jaxiqa.evaluation.statistics import bootstrap, paired, variance_f_test, wilcoxon

RNG = np.random.default_rng(0)
MOS = RNG.normal(size=60).round(1)  # with ties
PRED = (MOS + RNG.normal(size=60)).round(1)
GROUPS = [f"content{i % 12}" for i in range(60)]


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_every_resample_has_the_value_of_the_metric_on_the_drawn_images(groups, monkeypatch):
    """Drawn as documented, every image written out as often as it was drawn."""
    seen = []
    quantile = np.quantile
    monkeypatch.setattr(np, "quantile", lambda values, q: (seen.append(values), quantile(values, q))[1])
    found = bootstrap(PRED, MOS, groups, SCALE_FREE, samples=40, seed=3)
    units = np.arange(60) if groups is None else np.unique(groups, return_inverse=True)[1]
    drawn = np.random.default_rng(3).integers(0, units.max() + 1, (40, units.max() + 1))
    for metric, values in zip(SCALE_FREE, seen, strict=True):
        function = getattr(metrics, metric)
        resamples = [np.concatenate([np.flatnonzero(units == unit) for unit in row]) for row in drawn]
        np.testing.assert_allclose(values, [function(PRED[r], MOS[r]) for r in resamples], atol=1e-12)
        interval = found[metric]
        assert interval.value == function(PRED, MOS) and interval.samples == 40
        assert (interval.low, interval.high) == pytest.approx(quantile(values, [0.025, 0.975]))


def test_agreement_with_scipy():
    x, y = PRED[:25], MOS[:25]
    ours = bootstrap(x, y, samples=9999, seed=1)
    for metric, statistic in (("srcc", stats.spearmanr), ("plcc", stats.pearsonr)):
        theirs = stats.bootstrap(
            (x, y), lambda a, b, s=statistic: s(a, b).statistic, paired=True, vectorized=False, n_resamples=1500,
            method="percentile", rng=np.random.default_rng(2),
        ).confidence_interval  # fmt: skip
        assert (ours[metric].low, ours[metric].high) == pytest.approx(theirs, abs=0.03)


def test_results_depend_on_the_seed_alone_and_confidence_widens():
    first, again, other = (bootstrap(PRED, MOS, seed=seed)["srcc"] for seed in (0, 0, 1))
    assert first == again != other
    wide = bootstrap(PRED, MOS, confidence=0.99)["srcc"]
    assert wide.low < first.low < first.value < first.high < wide.high
    assert paired(PRED, MOS, MOS, GROUPS) == paired(PRED, MOS, MOS, GROUPS)


@pytest.mark.slow
def test_coverage_by_image():
    """Bivariate normal scores, whose true correlations are known: 95 % intervals hold them about 95 times in 100."""
    rng, n, trials = np.random.default_rng(4), 80, 400
    true = {"plcc": 0.8, "srcc": 6 / np.pi * np.arcsin(0.8 / 2), "krcc": 2 / np.pi * np.arcsin(0.8)}
    hits = dict.fromkeys(true, 0)
    for trial in range(trials):
        mos = rng.normal(size=n)
        pred = 0.8 * mos + 0.6 * rng.normal(size=n)
        for metric, interval in bootstrap(pred, mos, None, SCALE_FREE, 300, trial).items():
            hits[metric] += interval.low <= true[metric] <= interval.high
    assert all(0.92 <= hit / trials <= 0.98 for hit in hits.values()), hits


@pytest.mark.slow
def test_coverage_by_content():
    """Errors that all versions of a content share: drawing contents covers, drawing images would not."""
    rng, contents, versions, trials = np.random.default_rng(5), 40, 10, 300
    groups = np.repeat(np.arange(contents), versions)
    true, by_content, by_image = 1 / np.sqrt(1.5), 0, 0
    for trial in range(trials):
        mos = rng.normal(size=contents * versions)
        shared = rng.normal(0, np.sqrt(0.5), contents)[groups]
        mos_level = rng.normal(0, 1, contents)[groups]  # contents differ in quality, too
        mos = np.sqrt(0.5) * (mos + mos_level)
        for kind, chosen in (("content", groups), ("image", None)):
            interval = bootstrap(mos + shared, mos, chosen, ("plcc",), 300, trial)["plcc"]
            hit = interval.low <= true <= interval.high
            by_content, by_image = by_content + (kind == "content") * hit, by_image + (kind == "image") * hit
    assert 0.90 <= by_content / trials <= 0.98, by_content / trials
    assert by_image / trials < 0.75, by_image / trials


def test_paired_difference():
    rng = np.random.default_rng(6)
    mos = rng.normal(size=300)
    hard = rng.normal(size=300)  # an error that both make
    good, bad = mos + hard + 0.2 * rng.normal(size=300), mos + hard + 0.8 * rng.normal(size=300)
    found = paired(good, bad, mos, metrics=SCALE_FREE)
    for metric, difference in found.items():
        function = getattr(metrics, metric)
        assert difference.value == pytest.approx(function(good, mos) - function(bad, mos))
        assert 0 < difference.low < difference.value < difference.high and difference.p < 0.01
    apart = [bootstrap(x, mos)["srcc"] for x in (good, bad)]
    assert apart[0].low < apart[1].high  # the intervals overlap, and yet the difference is clear
    turned = paired(bad, good, mos)["srcc"]
    assert turned.value == -found["srcc"].value and turned.p == found["srcc"].p
    same = paired(good, 5 * good + 1, mos)
    assert (same["srcc"].value, same["srcc"].low, same["srcc"].high, same["srcc"].p) == (0, 0, 0, 1)


def test_p_of_the_paired_difference_is_uniform_without_one():
    rng, p = np.random.default_rng(7), []
    for trial in range(300):
        mos = rng.normal(size=60)
        a, b = (mos + 0.7 * rng.normal(size=60) for _ in range(2))
        p.append(paired(a, b, mos, metrics=("srcc",), samples=200, seed=trial)["srcc"].p)
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)


def test_a_resample_without_a_correlation_does_not_count():
    """Three contents, two of them constant at the same value: the rest of the resamples are undefined."""
    mos, groups = [1, 1, 1, 1, 2, 3], [0, 0, 1, 1, 2, 2]
    interval = bootstrap([1, 1, 1, 1, 5, 7], mos, groups, SCALE_FREE, samples=900)
    assert {i.samples for i in interval.values()} == {interval["srcc"].samples}
    assert interval["srcc"].samples / 900 == pytest.approx(1 - (2 / 3) ** 3, abs=0.05)
    assert np.isfinite([i.low for i in interval.values()]).all()


def test_scale_does_not_matter():
    reference = bootstrap(PRED, MOS)
    for scale in (1e-150, 1e100):
        found = bootstrap(scale * PRED, MOS + 1e4)
        for metric in found:
            assert found[metric].low == pytest.approx(reference[metric].low, abs=1e-9)


REFUSED = [
    (([1, 1, 1, 1], [1, 2, 3, 4]), "all predicted scores are 1"),
    (([1, 2, 3, 4], [3, 3, 3, 3]), "all opinion scores are 3"),
    (([1, 2, np.nan, np.inf], [1, 2, 3, 4]), "2 of the predicted scores are not finite"),
    (([1, 2], [1, 2]), "needs 3 or more images to draw from, not 2"),
    (([1, 2, 3, 4], [1, 2, 3, 4], ["a", "a", "b", "b"]), r"3 or more groups \(contents\) to draw from, not 2"),
    (([1, 2, 3], [1, 2, 3, 4]), "must be lists of equal length"),
    (([1, 2, 3], [1, 2, 3], ["a", "b"]), "and 2 groups"),
    (([1, 2, 3], [1, 2, 4], None, ("rmse",)), "'rmse' is not one of srcc, plcc, krcc"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(*arguments)
    with pytest.raises(ValueError, match=message):
        paired(arguments[0], *arguments)


# --- tests over rounds and of residuals -------------------------------------------------------------------------------


def test_wilcoxon_by_hand():
    """Differences 1 2 3 4 5 -6: the negative rank sum is 6, and 14 of the 64 sign patterns have one of at most 6."""
    a, b = np.array([2, 4, 6, 8, 10, 0]) / 10, np.array([1, 2, 3, 4, 5, 6]) / 10
    found = wilcoxon(a, b)
    assert found.rounds == 6 and found.statistic == 6 and found.median_difference == pytest.approx(0.25)
    assert found.p == pytest.approx(2 * 14 / 64)
    always = wilcoxon(np.arange(1, 7) / 10, np.zeros(6))
    assert always.p == pytest.approx(2 / 64) and always.statistic == 0
    assert wilcoxon(np.arange(1, 6), np.zeros(5)).p == pytest.approx(2 / 32)
    assert wilcoxon([0.5] * 4, [0.5] * 4).p == 1


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [([1, 2], [1, 2], "3 or more rounds"), ([1, 2, 3], [1, 2], "3 and 2"), ([1, np.nan, 3], [1, 2, 3], "finite")],
)
def test_wilcoxon_refuses(a, b, message):
    with pytest.raises(ValueError, match=message):
        wilcoxon(a, b)


def test_f_test_of_known_variances():
    """Variances 10/3 and 2/3 of 4 values: F(3, 3) = 5, whose upper tail is known in closed form."""
    a, b = [-2.0, -1.0, 1.0, 2.0], [-1.0, 0.0, 0.0, 1.0]
    found = variance_f_test(a, b)
    assert found.ratio == pytest.approx(5) and found.dof == 3
    tail = 1 - 2 / np.pi * (np.arctan(np.sqrt(5)) + np.sqrt(5) * (5 - 1) / (5 + 1) ** 2)
    assert found.p_a_larger == pytest.approx(tail) and found.p_a_smaller == pytest.approx(1 - tail)
    assert found.p == pytest.approx(2 * tail)
    assert found.kurtosis_a == pytest.approx(17 / 2 / 2.5**2) and found.kurtosis_b == pytest.approx(2)
    assert found.gaussian is False  # 1.36 is below 2
    swapped = variance_f_test(b, a)
    assert swapped.ratio == pytest.approx(1 / 5) and swapped.p == pytest.approx(found.p)
    assert swapped.p_a_smaller == pytest.approx(found.p_a_larger)


def test_f_test_agrees_with_the_table_and_with_bartlett():
    """The 5 % point of F(10, 10) is 2.978 (any table); Bartlett's test of variances gives nearly the same p."""
    rng = np.random.default_rng(8)
    a = rng.normal(size=11)
    a = (a - a.mean()) / a.std()
    found = variance_f_test(np.sqrt(2.978) * a, rng.permutation(a))
    assert found.p_a_larger == pytest.approx(0.05, abs=1e-4)
    a, b = rng.normal(size=400), 1.12 * rng.normal(size=400)
    found = variance_f_test(a, b)
    assert found.gaussian and found.p == pytest.approx(stats.bartlett(a, b).pvalue, rel=0.01)


def test_heavy_tails_are_called_so():
    rng = np.random.default_rng(9)
    found = variance_f_test(rng.normal(size=500), rng.standard_t(3, size=500))
    assert found.kurtosis_a == pytest.approx(3, abs=0.6) and found.kurtosis_b > 4 and not found.gaussian


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1, 2], [1, 2], "3 or more images"),
        ([1, 2, 3], [1, 2, 3, 4], "not 3 and 4"),
        ([1, 1, 1], [1, 2, 3], "all equal"),
        ([1, 2, 3], [1, 2, np.nan], "not finite"),
    ],
)
def test_f_test_refuses(a, b, message):
    with pytest.raises(ValueError, match=message):
        variance_f_test(a, b)
