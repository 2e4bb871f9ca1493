"""Compares predictors on the same rated images: metrics with intervals, and tests of every pair."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from jaxiqa.evaluation import metrics as iqa_metrics
from jaxiqa.evaluation import statistics

FIT = "logistic4"
FEW = 20  # contents below which bootstrap intervals are too narrow


def compare(scores_FN, mos, contents: Sequence[str], samples: int = 1000, seed: int = 0) -> dict:
    """Computes the metrics of F predictors on N images, and tests every pair of predictors.

    Args:
      scores_FN: (F, N) predicted scores, higher is better.
      mos: (N,) opinion scores, higher is better.
      contents: (N,) the content (scene) of each image; the bootstrap draws whole contents.
      samples, seed: number of resamples and seed of the bootstrap.

    Returns:
      a dict with "pictures" (N), "contents" (how many), "samples", "seed", "confidence" and two lists.
      "files": for each predictor srcc, plcc and krcc as dicts of statistics.Interval, and plcc and rmse after a
      logistic fit.
      "pairs": for each pair of predictors their indices "a" and "b", srcc and plcc as dicts of statistics.Difference,
      and "f_test", a dict of statistics.FTest, or None if a fit has no finite, varying residuals.

    Raises:
      ValueError: constant scores, or too few images or contents.
    """
    groups = None if len(set(contents)) == len(mos) else contents
    files, residuals = [], []
    for score in scores_FN:
        intervals = statistics.bootstrap(score, mos, groups, iqa_metrics.SCALE_FREE, samples, seed)
        fit = iqa_metrics.fit_logistic(score, mos, FIT)
        fitted = fit(score)
        residuals.append(mos - fitted)
        after = {"plcc": iqa_metrics.plcc(fitted, mos), "rmse": iqa_metrics.rmse(fitted, mos)}
        files.append(
            {metric: dataclasses.asdict(interval) for metric, interval in intervals.items()}
            | {FIT: {**after, "converged": fit.converged}}
        )
    pairs = []
    for a, b in itertools.combinations(range(len(files)), 2):
        differences = statistics.paired(scores_FN[a], scores_FN[b], mos, groups, samples=samples, seed=seed)
        usable = np.isfinite([residuals[a], residuals[b]]).all() and all(np.ptp(residuals[i]) > 0 for i in (a, b))
        f_test = dataclasses.asdict(statistics.variance_f_test(residuals[a], residuals[b])) if usable else None
        found = {metric: dataclasses.asdict(difference) for metric, difference in differences.items()}
        pairs.append({"a": a, "b": b, **found, "f_test": f_test})
    about = {"pictures": len(mos), "contents": len(set(contents)), "samples": samples, "seed": seed, "confidence": 0.95}
    return {**about, "files": files, "pairs": pairs}


def compare_rounds(rounds_a: Mapping[tuple, Mapping], rounds_b: Mapping[tuple, Mapping]) -> dict[str, dict]:
    """Wilcoxon's test of the rounds of two predictors.

    Args:
      rounds_a, rounds_b: from result_files.read_rounds.

    Returns:
      {"srcc": ..., "plcc": ...}, dicts of statistics.Wilcoxon.

    Raises:
      ValueError: the two have different rounds, or fewer than 3.
    """
    alone = [" ".join(key) for key in rounds_a.keys() ^ rounds_b.keys()]
    if alone:
        raise ValueError(f"{len(alone)} rounds are in only one of the two: {', '.join(sorted(alone)[:5])}")
    return {
        metric: dataclasses.asdict(
            statistics.wilcoxon([r[metric] for r in rounds_a.values()], [rounds_b[key][metric] for key in rounds_a])
        )
        for metric in iqa_metrics.HEADLINES
    }


def describe(found: Mapping, names: Sequence[str]) -> str:
    """The result of compare() as text tables."""
    lone = found["contents"] == found["pictures"]
    drawn = "single images" if lone else f"{found['contents']} contents (whole)"
    resamples = f"{found['samples']} resamples of {drawn}, seed {found['seed']}"
    lines = [
        f"{found['pictures']} images; 95 % intervals from {resamples}",
        "",
        f"{'':3}{''.join(f'{metric:27}' for metric in iqa_metrics.SCALE_FREE)}after {FIT}: plcc, rmse",
    ]
    for name, row in zip(names, found["files"], strict=True):
        cells = [f"{r['value']:7.4f} [{r['low']:7.4f}, {r['high']:7.4f}]" for r in map(row.get, iqa_metrics.SCALE_FREE)]
        fit = row[FIT]
        lines.append(
            f"{name:3}{''.join(f'{cell:27}' for cell in cells)}{fit['plcc']:7.4f}, {fit['rmse']:.4g}"
            + ("" if fit["converged"] else " (not converged)")
        )
    if found["pairs"]:
        heads = "".join(f"{f'{metric} difference':38}" for metric in iqa_metrics.HEADLINES)
        lines += ["", f"{'':7}{heads}residual variance, F test"]
    for pair in found["pairs"]:
        a, b = names[pair["a"]], names[pair["b"]]
        cells = [
            f"{d['value']:+7.4f} [{d['low']:+7.4f}, {d['high']:+7.4f}] p {d['p']:.4f}"
            for d in map(pair.get, iqa_metrics.HEADLINES)
        ]
        f_test = pair["f_test"]
        test = "not defined"
        if f_test:
            test = f"{a} / {b} = {f_test['ratio']:.3f}, p {f_test['p']:.4g}"
            if not f_test["gaussian"]:
                test += f" (not Gaussian: kurtosis {f_test['kurtosis_a']:.1f}, {f_test['kurtosis_b']:.1f})"
        lines.append(f"{f'{a} - {b}':7}{''.join(f'{cell:38}' for cell in cells)}{test}")
    return "\n".join(lines + [f"note: {note}" for note in _notes(found, lone)])


def describe_rounds(found: Mapping[str, Mapping]) -> str:
    """The result of compare_rounds() as text, one line for each metric."""
    lines = [
        f"{metric} over {row['rounds']} rounds: median of A - B {row['median_difference']:+.4f}, "
        f"Wilcoxon's signed-rank p {row['p']:.4f}"
        for metric, row in found.items()
    ]
    if found[iqa_metrics.BEST]["rounds"] < 6:
        lines.append("note: fewer than 6 rounds cannot give a p below 0.05")
    return "\n".join([*lines, "note: rounds of one dataset share images, so this p is smaller than it should be"])


def _notes(found: Mapping, lone: bool) -> list[str]:
    """Cautions about the numbers, if any apply."""
    notes = []
    if found["contents"] < FEW:
        unit = "images" if lone else "contents"
        notes.append(f"with fewer than {FEW} {unit} ({found['contents']}) these intervals are too narrow")
    if all(row[iqa_metrics.BEST]["value"] < 0 for row in found["files"]):
        what = f"every {iqa_metrics.BEST} is negative"
        notes.append(f"{what}; if the opinion scores are differences (DMOS), add --lower_is_better")
    if len(found["pairs"]) > 1:
        count = len(found["pairs"])
        notes.append(
            f"{count} pairs were tested: call a difference significant at 5 % if p is below {0.05 / count:.4f}"
        )
    if any(pair["f_test"] and not pair["f_test"]["gaussian"] for pair in found["pairs"]):
        notes.append("the F test assumes Gaussian residuals; if they are not Gaussian, rely on the bootstrap")
    return notes
