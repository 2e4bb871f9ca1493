"""The competition worked by hand: levels, pairs, preferences, matrices, ranking, and the screening of votes."""

import numpy as np
import pytest
from scipy import stats

from jaxiqa.competition import gmad
from jaxiqa.evaluation.metrics import fit_logistic

KEYS = [
    "attacker", "defender", "level", "centre", "worst_id", "best_id", "attacker_worst", "attacker_best",
    "defender_worst", "defender_best", "n_in_level",
]  # fmt: skip
IDS = ["i0", "i1", "i2", "i3", "i4", "i5", "i6"]
A = [0.0, 60.0, 30.0, 20.0, 90.0, 50.0, 50.0]
B = [0.0, 15.0, 20.0, 26.0, 40.0, 58.0, 60.0]  # levels of width 20 around 10, 30, 50
QUALITY = dict(zip(IDS, [5.0, 12.0, 42.0, 25.0, 70.0, 90.0, 60.0], strict=True))


def test_levels_by_hand():
    centres, members = gmad.level_sets(B, K=3, tol=9.0)
    np.testing.assert_allclose(centres, [10, 30, 50])
    assert [np.flatnonzero(row).tolist() for row in members] == [[1], [3], [5]]
    _, members = gmad.level_sets(B, K=3, tol=10.0)  # open: 20 is 10 from both 10 and 30, 40 from 30 and 50, in none
    assert [np.flatnonzero(row).tolist() for row in members] == [[1], [3], [5]]
    _, members = gmad.level_sets(B, K=3, tol=15.0)  # overlapping
    assert [np.flatnonzero(row).tolist() for row in members] == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]


def test_pairs_by_hand():
    """A attacks: in {0, 15, 20} it finds 0 and 60, and so on; B attacks in A's levels around 15, 45 and 75."""
    pairs = gmad.gmad(A, B, IDS, K=3, tol=15.5, align="none")
    assert [list(pair) for pair in pairs] == [KEYS] * 6
    rows = [tuple(pair.values()) for pair in pairs]
    assert rows == [
        ("a", "b", 1, 10.0, "i0", "i1", 0.0, 60.0, 0.0, 15.0, 3),
        ("a", "b", 2, 30.0, "i3", "i4", 20.0, 90.0, 26.0, 40.0, 4),
        ("a", "b", 3, 50.0, "i5", "i4", 50.0, 90.0, 58.0, 40.0, 3),
        ("b", "a", 1, 15.0, "i0", "i3", 0.0, 26.0, 0.0, 20.0, 3),
        ("b", "a", 2, 45.0, "i1", "i6", 15.0, 60.0, 60.0, 50.0, 4),
        ("b", "a", 3, 75.0, "i1", "i4", 15.0, 40.0, 60.0, 90.0, 2),
    ]


def test_no_pair_where_a_level_is_empty():
    """Scores at both ends only: the middle level holds nothing."""
    pairs = gmad.gmad([1.0, 2.0, 3.0], [0.0, 1.0, 90.0], IDS[:3], K=3, tol=16, align="none", oracle=QUALITY)
    first, middle, last, *_ = pairs
    assert middle["n_in_level"] == 0 and middle["centre"] == 45 and middle["verdict"] == "no pair"
    assert all(middle[key] is None for key in KEYS[4:10]) and middle["preference"] is None
    assert (first["worst_id"], first["best_id"], first["n_in_level"]) == ("i0", "i1", 2)
    assert last["worst_id"] == last["best_id"] == "i2" and last["preference"] == 0 and last["verdict"] == "resisted"
    aggressiveness, resistance = gmad.matrices(pairs, "ab")
    assert aggressiveness[0, 1] == pytest.approx(2 / 3 * 7) and resistance[1, 0] == pytest.approx(
        2 / 3 * 93 + 1 / 3 * 100
    )
    empty = gmad.judge(gmad.gmad([1.0, 2.0], [0.0, 90.0], IDS[:2], K=1, align="none"), [None, 3.0])
    assert gmad.matrices(empty, "ab")[0][0, 1] == 0 and gmad.matrices(empty, "ab")[1][1, 0] == 0


def test_the_first_of_equals_is_taken():
    pairs = gmad.gmad([5.0, 3.0, 5.0, 3.0], [10.0, 10.0, 10.0, 10.0], IDS[:4], K=2, align="none")
    assert [(p["worst_id"], p["best_id"], p["n_in_level"]) for p in pairs[:2]] == [("i1", "i0", 4)] * 2
    assert [p["centre"] for p in pairs[:2]] == [10.0, 10.0]  # a constant defender has all of its levels in one place


def test_judging_by_an_oracle():
    pairs = gmad.gmad(A, B, IDS, K=3, tol=15.5, align="none", oracle=QUALITY)
    assert [list(pair) for pair in pairs] == [[*KEYS, "preference", "verdict"]] * 6
    assert [pair["preference"] for pair in pairs] == [7.0, 45.0, -20.0, 20.0, 48.0, 58.0]
    assert [pair["verdict"] for pair in pairs] == ["resisted", "succeeds", "backfires"] + ["succeeds"] * 3
    just = [{"n_in_level": 1}] * 4
    verdicts = [pair["verdict"] for pair in gmad.judge(just, [9.0, 9.001, -9.0, -9.001])]
    assert verdicts == ["resisted", "succeeds", "resisted", "backfires"]
    pair = {"n_in_level": 2, "worst_id": "w", "best_id": "b"}
    assert gmad.preference(pair, {"w": -30.0, "b": 130.0}) == 100  # clipped


def test_matrices_by_hand():
    """A on B: weights 3/10, 4/10, 3/10 of the preferences 7, 45, -20; B on A: 3/9, 4/9, 2/9 of 20, 48, 58."""
    pairs = gmad.gmad(A, B, IDS, K=3, tol=15.5, align="none", oracle=QUALITY)
    aggressiveness, resistance = gmad.matrices(pairs, ("a", "b"))
    np.testing.assert_allclose(aggressiveness, [[0, (21 + 180 - 60) / 10], [(60 + 192 + 116) / 9, 0]])
    np.testing.assert_allclose(resistance, [[0, (240 + 208 + 84) / 9], [(279 + 220 + 240) / 10, 0]])


def test_three_models_meet_twice_each():
    rng = np.random.default_rng(0)
    scores = {name: 100 * rng.random(200) for name in ("x", "y", "z")}
    pairs = gmad.make_pairs(scores, range(200), K=6)
    assert len(pairs) == 6 * 3 * 2
    assert len({(p["attacker"], p["defender"], p["level"]) for p in pairs}) == 36
    for pair in pairs:
        a, d = scores[pair["attacker"]], scores[pair["defender"]]
        inside = np.flatnonzero(np.abs(d - pair["centre"]) < 9)
        assert pair["n_in_level"] == len(inside) > 0
        assert pair["worst_id"] == inside[a[inside].argmin()] and pair["best_id"] == inside[a[inside].argmax()]
        assert pair["attacker_worst"] < pair["attacker_best"]
        assert abs(pair["defender_worst"] - pair["defender_best"]) < 18
    oracle = dict(enumerate(100 * rng.random(200)))
    aggressiveness, resistance = gmad.matrices(
        gmad.judge(pairs, [gmad.preference(p, oracle) for p in pairs]), list(scores)
    )
    assert (np.diag(aggressiveness) == 0).all() and (np.diag(resistance) == 0).all()
    assert (resistance[~np.eye(3, dtype=bool)] > 0).all()


def test_alignment():
    np.testing.assert_allclose(gmad.aligned([3.0, -7.0, 50.0, 3.0], "percentile"), [50, 12.5, 87.5, 50])
    assert gmad.aligned([3.0, -7.0], "none").tolist() == [3, -7]
    rng = np.random.default_rng(1)
    rated = rng.uniform(-2, 2, 200)
    mos = 10 + 80 / (1 + np.exp(-(rated - 0.3) / 0.5))
    pool = np.linspace(-3, 3, 20)
    expected = 10 + 80 / (1 + np.exp(-(pool - 0.3) / 0.5))
    np.testing.assert_allclose(gmad.aligned(pool, "logistic", (rated, mos)), expected, atol=1e-3)
    noisy = mos + rng.normal(0, 5, 200)
    found = gmad.gmad(pool, -pool, range(20), 2, align="logistic", rated=(rated, rated**3, noisy))
    top = max(p["attacker_best"] for p in found if p["attacker"] == "a" and p["n_in_level"])
    assert top <= fit_logistic(rated, noisy, "logistic4")(pool).max() + 1e-9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, np.nan], "none"), "list of finite numbers"),
        (([], "percentile"), "list of finite numbers"),
        (([1.0, 2.0], "rank"), "'rank' is not one of percentile, logistic, none"),
        (([1.0, 2.0], "logistic"), "needs the scores and the opinion scores"),
        (([1.0, 2.0], "logistic", ([1.0] * 9, range(9))), "did not converge"),
        (([1.0, 2.0], "logistic", (np.arange(50.0), 50 - np.arange(50.0))), "the fitted curve falls"),
    ],
)
def test_alignment_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        gmad.aligned(*arguments)


def test_what_is_no_competition():
    for scores in ({"a": [1.0, 2.0]}, {"a": [1.0, 2.0], "b": [1.0]}):
        with pytest.raises(ValueError, match="two or more models"):
            gmad.make_pairs(scores, IDS[:2])
    with pytest.raises(ValueError, match="finite"):
        gmad.make_pairs({"a": [1.0, 2.0], "b": [1.0, np.nan]}, IDS[:2])


# --- ranking ----------------------------------------------------------------------------------------------------------


def test_two_models_rank_by_the_normal_quantile():
    """The maximum of w12 log Phi(d) + w21 log Phi(-d) is at Phi(d) = w12 / (w12 + w21)."""
    for won, lost in ((75, 25), (60, 40), (1, 99), (0.5, 0.1)):
        ranking = gmad.rank([[0, won], [lost, 0]])
        lead = stats.norm.ppf(won / (won + lost))
        np.testing.assert_allclose(ranking.scale, [lead / 2, -lead / 2], atol=1e-6)
        assert not ranking.prior


def test_equal_models_are_equal():
    even = gmad.rank(50 * (1 - np.eye(4)))
    np.testing.assert_allclose(even.scale, 0, atol=1e-9)
    circle = gmad.rank([[0, 30, 0], [0, 0, 30], [30, 0, 0]])  # each beats the next
    np.testing.assert_allclose(circle.scale, 0, atol=1e-6)
    assert not circle.prior


def test_ranking_of_consistent_results():
    """Preferences made from known scale values give these back, whatever the diagonal says."""
    mu = np.array([0.9, 0.1, -0.3, -0.7])
    matrix = 100 * stats.norm.cdf(mu[:, None] - mu[None])
    ranking = gmad.rank(matrix)
    np.testing.assert_allclose(ranking.scale, mu, atol=1e-5)
    assert ranking.scale.sum() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(gmad.rank(matrix[::-1, ::-1]).scale, mu[::-1], atol=1e-5)


def test_who_always_wins_stays_finite():
    """Only then a prior: 200 phi(2 m) / Phi(2 m) = 2 m for two models, 100 to 0."""
    ranking = gmad.rank([[0, 100], [-20, 0]])  # negative aggressiveness counts as none
    assert ranking.prior
    lead = ranking.scale[0] - ranking.scale[1]
    assert lead == pytest.approx(2.616, abs=1e-3)
    assert 200 * stats.norm.pdf(lead) / stats.norm.cdf(lead) == pytest.approx(lead, abs=1e-5)
    weak = gmad.rank([[0, 2], [0, 0]])
    assert 0 < weak.scale[0] < ranking.scale[0]
    nothing = gmad.rank(np.zeros((3, 3)))
    assert nothing.prior and nothing.scale.tolist() == [0, 0, 0]
    one_above = gmad.rank([[0, 40, 40], [0, 0, 50], [0, 50, 0]])  # the first is never beaten, the others are even
    assert one_above.prior and one_above.scale[0] > 1
    assert one_above.scale[1] == pytest.approx(one_above.scale[2], abs=1e-6)


# --- votes ------------------------------------------------------------------------------------------------------------


def test_a_vote_far_off_is_dropped_by_the_rule_of_its_kurtosis():
    """One vote against 19 equal ones: kurtosis 18.05, so the limit is sqrt(20) sigma = 4.47, and it is 4.25 off.

    Spread like a normal distribution (kurtosis 3.66) a vote 2.3 sigma off is an outlier.
    """
    lone = np.r_[np.full(19, 20.0), 80.0]
    spread = np.r_[-20.0, -12.0, -8, -8, -4, -4, -4, 0, 0, 0, 0, 0, 0, 4, 4, 4, 8, 8, 12, 20]
    found = gmad.clean_votes(np.stack([lone, spread], axis=1))
    assert stats.kurtosis(lone, fisher=False) == pytest.approx(18.0526, abs=1e-4)
    assert 2 < stats.kurtosis(spread, fisher=False) < 4
    assert not found.outlier[:, 0].any() and found.preference[0] == pytest.approx(23)
    assert np.flatnonzero(found.outlier[:, 1]).tolist() == [0, 19]
    far = np.abs(spread) / spread.std(ddof=1)
    assert far[0] > 2 and np.sort(far)[-3] < 2


def test_many_votes_find_the_lone_one():
    """Of 40 votes one is 6.2 sigma off: beyond sqrt(20)."""
    votes = np.full((40, 1), -10.0)
    votes[7] = 50
    found = gmad.clean_votes(votes)
    assert np.flatnonzero(found.outlier).tolist() == [7] and found.preference[0] == -10
    assert not found.rejected.any()  # one vote too high, none too low: off to one side


def test_who_is_often_off_to_both_sides_is_rejected():
    """Subject 0 answers 40 pairs with the extremes in turn, subject 1 always too high, the others agree."""
    rng = np.random.default_rng(2)
    votes = rng.normal(0, 5, (60, 40))
    votes[0] = np.where(np.arange(40) % 2, 90, -90)
    votes[1, :10] = 90
    found = gmad.clean_votes(votes)
    assert np.flatnonzero(found.rejected).tolist() == [0]
    assert found.outlier[:2, :10].all() and not found.outlier[1, 10:].any()  # subject 1 is off to one side only
    kept = ~found.outlier & ~found.rejected[:, None]
    np.testing.assert_allclose(found.preference, [votes[kept[:, k], k].mean() for k in range(40)])
    assert np.abs(found.preference[10:]).max() < 5


def test_votes_that_were_not_given_do_not_count():
    votes = np.array([[10.0, np.nan], [20.0, 4.0], [np.nan, 8.0]])
    found = gmad.clean_votes(votes)
    assert found.preference.tolist() == [15, 6] and not found.outlier.any() and not found.rejected.any()
    assert gmad.clean_votes(np.full((3, 1), 33.3)).preference == pytest.approx([33.3])


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ([1.0, 2.0], "a matrix of subjects by pairs"),
        ([[1.0, 101.0]], "values -100..100"),
        ([[np.inf, 1.0]], "values -100..100"),
        ([[1.0, np.nan], [2.0, np.nan]], "pair 1 has no vote left"),
    ],
)
def test_votes_refused(votes, message):
    with pytest.raises(ValueError, match=message):
        gmad.clean_votes(votes)
