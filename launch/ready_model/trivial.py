"""Scores that need no learning, on the test part of a trained run: files for `jaxiqa compare`.

  python launch/ready_model/trivial.py WORKDIR
  jaxiqa compare WORKDIR/predictions_test.csv WORKDIR/trivial_*.csv

WORKDIR is a run of jaxiqa train. The scores are:
  sharpness  mean of |Laplacian| of the luminance of the stored image
  height     height of the stored image in pixels
  level      minus the level of the distortion
  kind       mean label of the run's training images with the same distortion and level (AGIQA-3K: the same generator)
A score that is the same for all images is left out.
"""

import argparse
import json
import pathlib

import numpy as np
from measure import sharpness

from jaxiqa import datasets
from jaxiqa.datasets.splits import make_split
from jaxiqa.evaluation.metrics import srcc
from jaxiqa.evaluation.result_files import write_predictions
from jaxiqa.inputs.decode import image_size, read_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=pathlib.Path, help="workdir of jaxiqa train")
    workdir = parser.parse_args().workdir
    config = json.loads((workdir / "config.json").read_text())
    dataset = datasets.load(**config["dataset"])
    split = make_split(dataset, **config["split"])
    better = dataset.scale.to_score01
    trained, records = ([dataset.records[i] for i in part] for part in (split.train, split.test))
    by_kind: dict[tuple, list[float]] = {}
    for r in trained:
        by_kind.setdefault((r.distortion, r.level), []).append(float(better(r.mos)))
    mean = float(np.mean([better(r.mos) for r in trained]))
    scores = {
        "sharpness": [100 * sharpness(read_image(r.path)) for r in records],
        "height": [image_size(r.path)[0] for r in records],
        "level": [-r.level for r in records],
        "kind": [100 * float(np.mean(by_kind.get((r.distortion, r.level), mean))) for r in records],
    }
    mos = [better(r.mos) for r in records]
    for name, found in scores.items():
        if len({*found}) > 1:
            rows = [
                {"path": r.path, "score": score, "mos": r.mos, "reference": r.reference}
                for r, score in zip(records, found, strict=True)
            ]
            write_predictions(workdir / f"trivial_{name}.csv", rows)
            print(f"{name:10} srcc {srcc(found, mos):6.3f} on {len(records)} test images")


if __name__ == "__main__":
    main()
