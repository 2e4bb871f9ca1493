"""How good a calibration is on contents that it has not seen: means over random splits by content.

  python launch/ready_model/calibrated.py RATINGS.csv --train 200 --splits 20 --score_range 0 5
  python launch/ready_model/calibrated.py RATINGS.csv --train 0.8 --splits 2

RATINGS.csv is as for jaxiqa calibrate, with the columns path, mos and content. --train is a number of images, or a
share of the contents. The model is the one that ships, or --checkpoint. RMSE and widths are in percent of the scale.
"""

import argparse
import dataclasses
import pathlib

import numpy as np

from jaxiqa import datasets
from jaxiqa.errors import DataError
from jaxiqa.evaluation import conformal
from jaxiqa.evaluation.calibration import apply_curve, fit_curve
from jaxiqa.evaluation.metrics import rmse, srcc
from jaxiqa.scoring import calibration

COLUMNS = ("srcc_before", "srcc", "rmse_mean", "rmse_line", "rmse", "coverage", "width", "coverage_mean", "width_mean")


def split(groups: np.ndarray, train: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images of random contents: a share of them, or as few as have `train` images; and all others."""
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    images = np.cumsum(np.bincount(groups)[order])
    taken = round(train * len(order)) if train < 1 else int(np.searchsorted(images, train)) + 1
    inside = np.isin(groups, order[:taken])
    return np.flatnonzero(inside), np.flatnonzero(~inside)


def measure(source, dataset, predictions, features, groups, train, test) -> tuple[str, dict]:
    """The kind that is chosen on `train`, and its figures on `test`."""
    output = np.array([found.output for found in predictions])
    own = dataclasses.replace(dataset, records=[dataset.records[i] for i in train])
    choice = calibration.fit(
        source, own, [predictions[i] for i in train], None if features is None else features[train]
    )
    mos01 = dataset.scale.to_score01([r.mos for r in dataset.records])
    as_is = source.card.score01(output)
    if choice.ridge is not None:
        found = choice.ridge(features[test])
    else:
        found = apply_curve(choice.curve, output[test]) if choice.curve else as_is[test]
    mean, unknown = np.full(len(test), mos01[train].mean()), np.full(len(groups), np.nan)
    row = {"srcc": srcc(found, mos01[test]), "rmse": rmse(found, mos01[test]), "rmse_mean": rmse(mean, mos01[test])}
    if source.gives_scores:
        line = fit_curve("line", output[train], mos01[train], True)
        row["srcc_before"] = srcc(as_is[test], mos01[test])
        row["rmse_line"] = rmse(apply_curve(line, output[test]) if line else mean, mos01[test])
    for name, predicted, left_out in (("", found, choice.chosen), ("_mean", mean, choice.left_out["constant"])):
        interval = conformal.fit_interval(100 * (mos01[train] - left_out), groups[train], unknown[train], "own ratings")
        lo, hi = conformal.ends(interval, 100 * predicted, unknown[test])
        for key, value in conformal.coverage(lo, hi, 100 * mos01[test], groups[test]).items():
            row[key + name] = value if key == "width" else 100 * value
    return choice.kind, row | {key: 100 * row[key] for key in row if key.startswith("rmse")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ratings", type=pathlib.Path)
    parser.add_argument("--train", type=float, default=0.8)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--score_range", type=float, nargs=2, default=(1.0, 5.0))
    parser.add_argument("--checkpoint", default="ready")
    args = parser.parse_args()
    how = {"csv": args.ratings.name, "group_column": "content", "score_range": tuple(args.score_range)}
    dataset = datasets.load("folder", args.ratings.parent, **how)
    source = calibration.open_source(args.checkpoint, None, None, None, ())
    predictions, features = calibration.predict(source, dataset, None)
    groups = np.unique([r.reference for r in dataset.records], return_inverse=True)[1]
    rows = []
    for seed in range(args.splits):
        train, test = split(groups, args.train, seed)
        try:
            kind, row = measure(source, dataset, predictions, features, groups, train, test)
        except DataError as error:
            print(f"split {seed}: {error}")
            continue
        rows.append(row)
        print(
            f"split {seed}: {len(train)} images, {kind}, " + ", ".join(f"{k} {v:.3g}" for k, v in row.items()),
            flush=True,
        )
    for name in COLUMNS:
        if values := [row[name] for row in rows if name in row]:
            print(
                f"{name:14} {np.mean(values):8.3f}, from {min(values):.3f} to {max(values):.3f} in {len(values)} splits"
            )


if __name__ == "__main__":
    main()
