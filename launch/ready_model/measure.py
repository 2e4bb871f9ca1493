"""SRCC of checkpoints on rated images that they were not trained on, and order by level on unseen photographs.

  python launch/ready_model/measure.py --data MOS [--peer DIR] [--photographs DIR] [--figure FILE] [CHECKPOINT...]

Without CHECKPOINT: the weights that come with jaxiqa. MOS holds folders with images and an index.csv (columns path and
mos): avt_hevc (enlarged bicubically to 1024 x 1024, centre of 448 x 448), tub_acr and agiqa3k (as stored). A peer is a
checkpoint that is scored beside them. The mean of |Laplacian| of the luminance is the row `sharpness`. With the
photographs (render.py), each of those of the part `test` is distorted by the 25 types at five levels; a series of
levels is in order if no level scores higher by more than 0.5 of 100 than the next weaker one. The figure shows two
photographs of scikit-image, undistorted and distorted, in the order of their scores.
"""

import argparse
import csv
import importlib.resources
import pathlib

import numpy as np
from PIL import Image
from render import find_photographs, opened, seeded, window
from tqdm import tqdm

from jaxiqa.distortions import DISTORTIONS, distort_exact
from jaxiqa.evaluation.metrics import plcc, srcc
from jaxiqa.figures import drawing
from jaxiqa.inputs.decode import read_image
from jaxiqa.scoring.robustness import in_order
from jaxiqa.scoring.scorer import Scorer


def as_stored(image_HWC: np.ndarray) -> np.ndarray:
    return image_HWC


def enlarged(image_HWC: np.ndarray) -> np.ndarray:
    """Centre of 448 x 448 of the image at 1024 x 1024."""
    return np.asarray(
        Image.fromarray(image_HWC).resize((1024, 1024), Image.Resampling.BICUBIC).crop((288, 288, 736, 736))
    )


SETS = {"avt_hevc": enlarged, "tub_acr": as_stored, "agiqa3k": as_stored}


def sharpness(image_HWC: np.ndarray) -> float:
    """Mean of |Laplacian| of the luminance, 0..1."""
    y = image_HWC.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    return float(np.abs(4 * y[1:-1, 1:-1] - y[:-2, 1:-1] - y[2:, 1:-1] - y[1:-1, :-2] - y[1:-1, 2:]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="*", default=["ready"])
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with avt_hevc, tub_acr and agiqa3k")
    parser.add_argument("--peer", action="append", default=[], help="another checkpoint to score beside them")
    parser.add_argument("--photographs", type=pathlib.Path, help="folder with the files of photographs.csv")
    parser.add_argument("--figure", type=pathlib.Path, help="PNG file to write")
    args = parser.parse_args()
    scorers = {name: Scorer(name) for name in [*args.checkpoints, *args.peer]}
    for name, prepare in SETS.items():
        with open(args.data / name / "index.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        images = [prepare(read_image(args.data / name / row["path"])) for row in tqdm(rows, name, disable=None)]
        mos = np.array([float(row["mos"]) for row in rows])
        found = {scorer: [s.score for s in scorers[scorer].scores(images)] for scorer in scorers}
        found["sharpness"] = [sharpness(image) for image in images]
        for scorer, scores in found.items():
            numbers = f"srcc {srcc(scores, mos):6.3f}  plcc {plcc(scores, mos):6.3f}"
            print(f"{name:10} {len(rows):5} images  {numbers}  {scorer}")
    if args.photographs:
        for name in args.checkpoints:
            print_order(scorers[name], name, args.photographs)
    if args.figure:
        draw(args.figure, scorers[args.checkpoints[0]])


def print_order(scorer: Scorer, name: str, folder: pathlib.Path) -> None:
    """Prints the share of series of levels in order, over the photographs that no training has seen."""
    rows = [row for row in find_photographs(folder) if row["split"] == "test"]
    scores = np.empty((len(rows), len(DISTORTIONS), 5))
    for i, row in enumerate(tqdm(rows, "order by level", disable=None)):
        source = window(opened(row), seeded(row, 0))
        series = [distort_exact(source, t, lv, i, stretch=False) for t in range(1, 26) for lv in range(1, 6)]
        scores[i] = np.reshape([s.score for s in scorer.scores(series)], scores.shape[1:])
    strength, numbered = (
        {type_.name: in_order(scores[:, t], chains or type_.chains).mean() for t, type_ in enumerate(DISTORTIONS)}
        for chains in ((), (range(5),))
    )
    of_strength, of_number = (np.mean([*found.values()]) for found in (strength, numbered))
    count = scores.shape[0] * scores.shape[1]
    print(f"{name}: {of_strength:.1%} of {count} series in order of strength, {of_number:.1%} by number")
    print("below 95 %: " + ", ".join(f"{type_} {share:.0%}" for type_, share in strength.items() if share < 0.95))


def draw(path: pathlib.Path, scorer: Scorer) -> None:
    """Draws chelsea and coffee with eleven distortions each in the order of their scores."""
    done = [(), (1, 2), (1, 4), (3, 5), (9, 4), (10, 3), (10, 5), (11, 5), (13, 5), (16, 5), (19, 3), (24, 4)]
    images, names = [], []
    for photograph in ("chelsea.png", "coffee.png"):
        with (importlib.resources.files("skimage") / "data" / photograph).open("rb") as file:
            source = np.asarray(Image.open(file).convert("RGB"))[:300, :450]
        for cell in done:
            images.append(distort_exact(source, *cell, 1, stretch=False) if cell else source)
            names.append(f"{DISTORTIONS[cell[0] - 1].name} {cell[1]}" if cell else "undistorted")
    scores = [found.score for found in scorer.scores(images)]
    figure = drawing.blank(9, 4.9, layout="constrained")
    for axes, i in zip(figure.subplots(4, 6).flat, np.argsort(scores)[::-1], strict=True):
        axes.imshow(images[i])
        axes.set_axis_off()
        axes.set_title(f"{scores[i]:.0f}  {names[i].replace('_', ' ')}", fontsize=8, color=drawing.INK)
    drawing.save(path, figure)


if __name__ == "__main__":
    main()
