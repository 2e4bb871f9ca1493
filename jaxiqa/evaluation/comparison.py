"""Predictors of the same rated pictures side by side: metrics with intervals, and tests of every pair."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from jaxiqa.evaluation import metrics as iqa_metrics
from jaxiqa.evaluation import statistics

FIT = "logistic4"
FEW = 20  # contents below which bootstrap intervals are too narrow


def compare(scores_FN, mos, contents: Sequence[str], samples: int = 1000, seed: int = 0) -> dict:
    """Numbers of F predictors on N pictures.

    Args:
      scores_FN: (F, N) predicted scores, higher is better.
      mos: (N,) opinion scores, higher is better.
      contents: (N,) what each picture shows; drawn whole by the bootstrap.
      samples, seed: of the bootstrap.

    Returns:
      "pictures", "contents", "samples", "seed", "confidence"; "files": for each predictor its srcc, plcc and krcc as
      dicts of statistics.Interval, and plcc and rmse after a logistic fit; "pairs": for each two of them the places
      "a" and "b", srcc and plcc as dicts of statistics.Difference, and "f_test", a dict of statistics.FTest, or None
      where a fit found nothing.

    Raises:
      ValueError: constant scores, or too few pictures or contents.
    """
    groups = None if len(set(contents)) == len(mos) else contents
    how = {"groups": groups, "samples": samples, "seed": seed}
    files, residuals = [], []
    for score in scores_FN:
        intervals = statistics.bootstrap(score, mos, metrics=statistics.METRICS, **how)
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
        differences = statistics.paired(scores_FN[a], scores_FN[b], mos, **how)
        usable = np.isfinite([residuals[a], residuals[b]]).all() and all(np.ptp(residuals[i]) > 0 for i in (a, b))
        f_test = dataclasses.asdict(statistics.variance_f_test(residuals[a], residuals[b])) if usable else None
        found = {metric: dataclasses.asdict(difference) for metric, difference in differences.items()}
        pairs.append({"a": a, "b": b, **found, "f_test": f_test})
    about = {"pictures": len(mos), "contents": len(set(contents)), "samples": samples, "seed": seed, "confidence": 0.95}
    return {**about, "files": files, "pairs": pairs}


def compare_rounds(rounds_a: Mapping[tuple, Mapping], rounds_b: Mapping[tuple, Mapping]) -> dict[str, dict]:
    """Wilcoxon's test of the rounds of results.read_rounds, {"srcc": ..., "plcc": ...} as dicts of statistics.Wilcoxon.

    Raises:
      ValueError: the rounds are not the same, or fewer than 3.
    """
    alone = [" ".join(key) for key in rounds_a.keys() ^ rounds_b.keys()]
    if alone:
        raise ValueError(f"{len(alone)} rounds are in one of the two only: {', '.join(sorted(alone)[:5])}")
    return {
        metric: dataclasses.asdict(
            statistics.wilcoxon([r[metric] for r in rounds_a.values()], [rounds_b[key][metric] for key in rounds_a])
        )
        for metric in ("srcc", "plcc")
    }


def describe(found: Mapping, names: Sequence[str]) -> str:
    """What compare returned, as tables for people."""
    lone = found["contents"] == found["pictures"]
    drawn = "single pictures" if lone else f"{found['contents']} contents (whole)"
    resamples = f"{found['samples']} resamples of {drawn}, seed {found['seed']}"
    lines = [
        f"{found['pictures']} pictures; 95 % intervals from {resamples}",
        "",
        f"{'':3}{'srcc':27}{'plcc':27}{'krcc':27}after {FIT}: plcc, rmse",
    ]
    for name, row in zip(names, found["files"], strict=True):
        cells = [f"{r['value']:7.4f} [{r['low']:7.4f}, {r['high']:7.4f}]" for r in (row[m] for m in statistics.METRICS)]
        fit = row[FIT]
        lines.append(
            f"{name:3}{cells[0]:27}{cells[1]:27}{cells[2]:27}{fit['plcc']:7.4f}, {fit['rmse']:.4g}"
            + ("" if fit["converged"] else " (not converged)")
        )
    if found["pairs"]:
        lines += ["", f"{'':7}{'srcc difference':38}{'plcc difference':38}residual variance, F test"]
    for pair in found["pairs"]:
        a, b = names[pair["a"]], names[pair["b"]]
        cells = [
            f"{d['value']:+7.4f} [{d['low']:+7.4f}, {d['high']:+7.4f}] p {d['p']:.4f}"
            for d in (pair["srcc"], pair["plcc"])
        ]
        f_test = pair["f_test"]
        test = "not defined"
        if f_test:
            test = f"{a} / {b} = {f_test['ratio']:.3f}, p {f_test['p']:.4g}"
            if not f_test["gaussian"]:
                test += f" (not Gaussian: kurtosis {f_test['kurtosis_a']:.1f}, {f_test['kurtosis_b']:.1f})"
        lines.append(f"{f'{a} - {b}':7}{cells[0]:38}{cells[1]:38}{test}")
    return "\n".join(lines + [f"note: {note}" for note in _notes(found, lone)])


def describe_rounds(found: Mapping[str, Mapping]) -> str:
    """What compare_rounds returned, in a line for each metric."""
    lines = [
        f"{metric} over {row['rounds']} rounds: median of A - B {row['median_difference']:+.4f}, "
        f"Wilcoxon's signed-rank p {row['p']:.4f}"
        for metric, row in found.items()
    ]
    if found["srcc"]["rounds"] < 6:
        lines.append("note: fewer than 6 rounds cannot give a p below 0.05")
    return "\n".join([*lines, "note: rounds of one dataset share pictures, so this p is smaller than it should be"])


def _notes(found: Mapping, lone: bool) -> list[str]:
    """What a reader must know before believing the numbers."""
    notes = []
    if found["contents"] < FEW:
        unit = "pictures" if lone else "contents"
        notes.append(f"with fewer than {FEW} {unit} ({found['contents']}) these intervals are too narrow")
    if all(row["srcc"]["value"] < 0 for row in found["files"]):
        notes.append("every srcc is negative; where the opinion scores are differences (DMOS) add --lower_is_better")
    if len(found["pairs"]) > 1:
        count = len(found["pairs"])
        notes.append(
            f"{count} pairs were tested: call a difference significant at 5 % where p is below {0.05 / count:.4f}"
        )
    if any(pair["f_test"] and not pair["f_test"]["gaussian"] for pair in found["pairs"]):
        notes.append("the F test assumes Gaussian residuals; where it says they are not, rely on the bootstrap")
    return notes
