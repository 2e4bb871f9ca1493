"""The group maximum differentiation competition (gMAD): quality models attack each other with pairs of images.

A defender gives a set of images about the same score. An attacker picks the two images of the set that differ most by
its own scores. People (or an oracle) judge the pair: if they see the difference, the defender is wrong; if not, the
attacker is wrong. The pool needs no opinion scores, so it may be far larger than any rated dataset.

K. Ma, Z. Duanmu, Z. Wang, Q. Wu, W. Liu, H. Yong, H. Li, L. Zhang: Group Maximum Differentiation Competition: Model
Comparison with Few Samples. IEEE TPAMI 42, 2020. The steps are those of the authors' public toolbox. Added here: empty
levels, alignment by percentile, the oracle, and rankings if the likelihood has no maximum.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import scipy  # loads its subpackages on first use

from jaxiqa.evaluation.metrics import fit_logistic

LEVELS, TOLERANCE = 6, 9.0  # K, and half the width of a level on the scale 0..100
JND = 9.0  # a preference up to this size, on -100..100, counts as none; equal to the tolerance of a level
ALIGNMENTS = ("percentile", "logistic", "none")


def aligned(scores, how: str, rated: tuple | None = None) -> np.ndarray:
    """Maps the scores of a pool to the common scale 0..100, higher is better.

    percentile   100 (rank - 1/2) / N within the pool; ties share their mean rank
    logistic     b2 + (b1 - b2) / (1 + exp(-(s - b3) / |b4|)), fitted to a rated set by least squares
    none         unchanged; the scores must already be on one scale 0..100, as the tolerance of a level is

    Args:
      scores: (N,) scores of the pool.
      how: one of ALIGNMENTS.
      rated: for logistic, two arrays (R,): the same model's scores of R rated images, and their opinion scores on
        0..100, higher is better.

    Raises:
      ValueError: a score is not finite, or the fit did not converge or falls (higher scores for worse images).
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
        raise ValueError("the scores of a pool must be a list of finite numbers, at least one")
    if how == "none":
        return scores
    if how == "percentile":
        return 100 * (scipy.stats.rankdata(scores) - 0.5) / scores.size
    if how != "logistic":
        raise ValueError(f"align={how!r} is not one of {', '.join(ALIGNMENTS)}")
    if rated is None:
        raise ValueError("logistic alignment needs the scores and the opinion scores of a rated set")
    fit = fit_logistic(*rated, "logistic4")
    if not fit.converged:
        raise ValueError("the logistic fit to the rated set did not converge; align by percentile")
    b1, b2, _, b4 = fit.params
    if (b1 - b2) * b4 <= 0:
        raise ValueError("the fitted curve falls: higher scores go with lower opinion scores; reverse one of them")
    return fit(scores)


def level_sets(defender, K: int = LEVELS, tol: float = TOLERANCE) -> tuple[np.ndarray, np.ndarray]:
    """The levels of a defender: sets of images that it gives about the same score.

    Args:
      defender: (N,) aligned scores.
      K: number of levels, spread evenly from the lowest to the highest score.
      tol: half the width of a level, which does not depend on the distance of the levels; levels may overlap.

    Returns:
      (K,) centres lo + (k - 1/2) (hi - lo) / K, and (K, N) whether an image's score is nearer than tol to a centre.
    """
    defender = np.asarray(defender, np.float64)
    lo, hi = defender.min(), defender.max()
    centres = lo + (np.arange(K) + 0.5) * (hi - lo) / K
    return centres, np.abs(defender[None] - centres[:, None]) < tol


def make_pairs(scores: Mapping[str, Sequence], image_ids: Sequence, K: int = LEVELS, tol: float = TOLERANCE) -> list:
    """Makes the pairs of all attackers on all defenders: K M (M - 1) for M models.

    Args:
      scores: {model: (N,) aligned scores}, two models or more.
      image_ids: (N,) names of the images.
      K, tol: of level_sets.

    Returns:
      for each attacker, defender and level 1..K a dict with the keys attacker, defender, level, centre, worst_id,
      best_id (the images that the attacker scores lowest and highest in the defender's level; the first image wins a
      tie), attacker_worst, attacker_best, defender_worst, defender_best (the scores of these two) and n_in_level. An
      empty level has no pair: its ids and scores are None and n_in_level is 0. A level of one image pairs it with
      itself.

    Raises:
      ValueError: fewer than two models, a missing score, or a score that is not finite.
    """
    scores = {name: np.asarray(values, np.float64) for name, values in scores.items()}
    if len(scores) < 2 or any(values.shape != (len(image_ids),) for values in scores.values()):
        raise ValueError("a competition needs two or more models, each with one score for every image")
    if not np.isfinite(list(scores.values())).all():
        raise ValueError("the scores of a pool must be finite")
    found = []
    for attacker, defender in itertools.permutations(scores, 2):
        a, d = scores[attacker], scores[defender]
        for level, (centre, members) in enumerate(zip(*level_sets(d, K, tol), strict=True), 1):
            inside = np.flatnonzero(members)
            ends = (inside[np.argmin(a[inside])], inside[np.argmax(a[inside])]) if inside.size else (None, None)
            pair = {"attacker": attacker, "defender": defender, "level": level, "centre": float(centre)}
            for key, values in {"{}_id": image_ids, "attacker_{}": a.tolist(), "defender_{}": d.tolist()}.items():
                for end, image in zip(("worst", "best"), ends, strict=True):
                    pair[key.format(end)] = None if image is None else values[image]
            found.append(pair | {"n_in_level": int(inside.size)})
    return found


def gmad(
    scores_a,
    scores_b,
    image_ids: Sequence,
    K: int = LEVELS,
    tol: float = TOLERANCE,
    align: str = "percentile",
    rated: tuple | None = None,
    oracle: Mapping | None = None,
    names: tuple[str, str] = ("a", "b"),
) -> list[dict]:
    """Runs a competition of two models: K pairs in which A attacks, then K pairs in which B attacks.

    Args:
      scores_a, scores_b, image_ids: (N,) scores and names of the pool.
      K, tol: as in level_sets.
      align: one of ALIGNMENTS.
      rated: for logistic, (scores of A, scores of B, opinion scores 0..100) of a rated set.
      oracle: {image id: quality 0..100}, which judges the pairs (see judge); without it the pairs are not judged.
      names: of the two models.

    Returns:
      dicts with the keys of make_pairs and, with an oracle, of judge.
    """
    rated = (None, None) if rated is None else ((rated[0], rated[2]), (rated[1], rated[2]))
    scores = {
        name: aligned(values, align, fitted)
        for name, values, fitted in zip(names, (scores_a, scores_b), rated, strict=True)
    }
    pairs = make_pairs(scores, image_ids, K, tol)
    return pairs if oracle is None else judge(pairs, [preference(pair, oracle) for pair in pairs])


def preference(pair: Mapping, oracle: Mapping) -> float | None:
    """The preference of an oracle {image id: quality 0..100}: clip(oracle(best) - oracle(worst), -100, 100).

    Returns None if the level is empty.
    """
    if not pair["n_in_level"]:
        return None
    return float(np.clip(oracle[pair["best_id"]] - oracle[pair["worst_id"]], -100, 100))


def judge(pairs: Sequence[Mapping], preferences: Sequence[float | None], jnd: float = JND) -> list[dict]:
    """Adds `preference` and `verdict` to the pairs.

    Args:
      pairs: from make_pairs.
      preferences: for each pair -100..100, positive if the attacker's best image is preferred; None for an empty level.
      jnd: preferences up to this size count as no difference.

    Returns:
      new dicts; verdict is "succeeds" (the attacker is right), "resisted" (no visible difference), "backfires" (the
      attacker's worst image is preferred) or "no pair".
    """
    judged = []
    for pair, p in zip(pairs, preferences, strict=True):
        if pair["n_in_level"]:
            verdict = "succeeds" if p > jnd else "backfires" if p < -jnd else "resisted"
        else:
            p, verdict = None, "no pair"
        judged.append({**pair, "preference": p, "verdict": verdict})
    return judged


@dataclasses.dataclass(frozen=True)
class CleanVotes:
    """Votes of S subjects on P pairs after the screening of BT.500."""

    preference: np.ndarray  # (P,) mean of the votes that are kept
    outlier: np.ndarray  # (S, P) whether a vote is an outlier, which is dropped
    rejected: np.ndarray  # (S,) whether a subject is rejected; all of its votes are dropped


def clean_votes(votes_SP) -> CleanVotes:
    """Mean preferences after the screening of Recommendation ITU-R BT.500 (annex 1, 2.3.1).

    A vote is an outlier if it is more than 2 standard deviations (of N - 1) from the mean of its pair. If the kurtosis
    m4 / m2^2 of the pair's votes is not in 2..4, the limit is sqrt(20) standard deviations. A subject with P outliers
    above and Q below the mean is rejected if (P + Q) / votes > 0.05 and |P - Q| / (P + Q) < 0.3: its votes are often
    far off, and in both directions.

    Args:
      votes_SP: (S, P) -100..100, positive if the attacker's best image is preferred; nan if the subject was not asked.

    Raises:
      ValueError: votes_SP is not such a matrix, or no vote of a pair is kept.
    """
    votes = np.asarray(votes_SP, np.float64)
    if votes.ndim != 2 or np.isinf(votes).any() or (np.abs(votes) > 100).any():
        raise ValueError("votes must be a matrix of subjects by pairs with values -100..100, or nan if not asked")
    given = ~np.isnan(votes)
    deviation = np.where(given, votes - _mean(votes, given), 0.0)
    count = given.sum(0)
    m2, m4 = (np.sum(deviation**power, axis=0) / np.maximum(count, 1) for power in (2, 4))
    kurtosis = m4 / np.where(m2 > 0, m2**2, 1)
    sigma = np.sqrt(m2 * count / np.maximum(count - 1, 1))
    limit = sigma * np.where((kurtosis >= 2) & (kurtosis <= 4), 2, np.sqrt(20))
    high, low = deviation > limit, deviation < -limit
    p, q = high.sum(1), low.sum(1)
    often = p + q > 0.05 * given.sum(1)
    rejected = often & (np.abs(p - q) < 0.3 * (p + q))
    left = given & ~high & ~low & ~rejected[:, None]
    if not left.any(0).all():
        raise ValueError(f"pair {int(np.argmin(left.any(0)))} has no vote left after the screening of BT.500")
    return CleanVotes(_mean(votes, left), high | low, rejected)


def matrices(pairs: Sequence[Mapping], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Computes the aggressiveness and the resistance of M models.

    The weight of a level is its share of the images: w_k = n_k / sum of n.

    Args:
      pairs: from judge.
      names: names of the M models, in the order of rows and columns.

    Returns:
      (M, M) aggressiveness, [i, j] = sum of w_k p_k of attacker i on defender j, -100..100, and (M, M) resistance,
      [j, i] = sum of w_k (100 - |p_k|) of defender j against attacker i, 0..100. Diagonals are 0.
    """
    aggressiveness, resistance = np.zeros((2, len(names), len(names)))
    for i, j in itertools.permutations(range(len(names)), 2):
        own = [pair for pair in pairs if (pair["attacker"], pair["defender"]) == (names[i], names[j])]
        own = [pair for pair in own if pair["n_in_level"]]
        if own:
            weight = np.array([pair["n_in_level"] for pair in own]) / sum(pair["n_in_level"] for pair in own)
            p = np.array([pair["preference"] for pair in own])
            aggressiveness[i, j], resistance[j, i] = weight @ p, weight @ (100 - np.abs(p))
    return aggressiveness, resistance


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Thurstone scale values of M models."""

    scale: np.ndarray  # (M,) with mean 0, higher is better; the unit is the standard deviation of a comparison
    prior: bool  # whether a standard normal prior was used, because the likelihood alone has no maximum


def rank(matrix_MM) -> Ranking:
    """Maximum-likelihood scale values mu of Thurstone's case V (L. L. Thurstone, Psychological Review 34, 1927).

    Maximises the sum over i, j of max(matrix[i, j], 0) log Phi(mu_i - mu_j) with the mean of mu at 0. The maximum is
    finite only if every model can be reached from every other along positive entries. If one model (or a group) always
    wins, its lead grows without bound. In this case only, each mu gets a standard normal prior. Its effect on clear
    results is negligible, and one-sided results stay finite: two models, 100 to 0, end 2.6 apart.

    Args:
      matrix_MM: (M, M) aggressiveness or resistance, of rows over columns.
    """
    wins = np.maximum(np.asarray(matrix_MM, np.float64), 0)
    np.fill_diagonal(wins, 0)
    parts, _ = scipy.sparse.csgraph.connected_components(scipy.sparse.csr_array(wins), connection="strong")
    prior, total = parts > 1, max(wins.sum(), 1.0)

    def loss(mu):
        mu = mu - mu.mean()
        lead = mu[:, None] - mu[None]
        log_cdf = scipy.special.log_ndtr(lead)
        slope = wins * np.exp(-(lead**2) / 2 - log_cdf) / np.sqrt(2 * np.pi)
        gradient = slope.sum(0) - slope.sum(1) + prior * mu  # its sum is 0, because a shift of all mu changes nothing
        return (prior * mu @ mu / 2 - np.sum(wins * log_cdf)) / total, gradient / total

    mu = scipy.optimize.minimize(loss, np.zeros(len(wins)), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    return Ranking(mu - mu.mean(), prior)


def _mean(votes: np.ndarray, used: np.ndarray) -> np.ndarray:
    """(P,) means of the used votes; 0 for a pair without any."""
    return np.where(used, votes, 0.0).sum(0) / np.maximum(used.sum(0), 1)
