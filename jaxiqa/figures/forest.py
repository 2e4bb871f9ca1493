"""A figure of several predictors: a forest plot of their intervals, and a scatter plot of the first two."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from jaxiqa.evaluation.metrics import SCALE_FREE
from jaxiqa.figures.drawing import BLUE, INK, ORANGE, blank, plain, save, style

_COLOURS = (BLUE, ORANGE, "#2f855a", "#805ad5", "#4a5568")  # of the metrics, in turn
_LONGEST = 60  # letters of a file's name


def draw_comparison(path, found: Mapping, names: Sequence[str], files: Sequence[str], scores_FN, mos):
    """Draws srcc, plcc and krcc of each file with their intervals as PNG, and a scatter plot if there are two files.

    Args:
      path: the file to write.
      found: from comparison.compare.
      names, files: short and full names of the F files.
      scores_FN: (F, N) their scores; the scatter plot shows the first two files.
      mos: (N,) opinion scores, shown by the colour of the points.
    """
    two = len(files) > 1
    height = 2.6 + 0.5 * len(files) + (1.5 if two else 0)
    figure = blank(12 if two else 6.5, height, layout="constrained")
    left, *right = figure.subplots(1, 2, width_ratios=(6, 5)) if two else [figure.subplots()]
    _forest(left, found, names)
    if two:
        _scatter(figure, right[0], names, scores_FN, mos)
    unit = "images" if found["contents"] == found["pictures"] else f"of {found['contents']} contents"
    title = f"{found['pictures']} images" + ("" if unit == "images" else f" {unit}")
    shown = (file if len(file) <= _LONGEST else f"…{file[1 - _LONGEST :]}" for file in files)
    listed = "\n".join(f"{name}  {plain(file)}" for name, file in zip(names, shown, strict=True))
    figure.suptitle(f"{title}\n{listed}", fontsize=10, color=INK, parse_math=False)
    save(path, figure)


def _forest(axes, found: Mapping, names: Sequence[str]) -> None:
    axes.set(xlabel="correlation with the opinion scores, 95 % interval")
    rows = np.arange(len(names))[::-1]
    shifts = 0.22 * np.linspace(1, -1, len(SCALE_FREE))
    for metric, colour, shift in zip(SCALE_FREE, itertools.cycle(_COLOURS), shifts, strict=False):
        value, low, high = (np.array([row[metric][key] for row in found["files"]]) for key in ("value", "low", "high"))
        axes.hlines(rows + shift, low, high, color=colour, linewidth=2)
        axes.plot(value, rows + shift, "o", color=colour, markersize=6, label=metric.upper())
    axes.set_yticks(rows, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    style(axes, "x")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(SCALE_FREE), frameon=False, fontsize=9)


def _scatter(figure, axes, names: Sequence[str], scores_FN, mos) -> None:
    size = 28 if len(mos) < 500 else 12 if len(mos) < 3000 else 6
    points = axes.scatter(scores_FN[0], scores_FN[1], c=mos, s=size, cmap="viridis", alpha=0.8, linewidths=0)
    axes.set(xlabel=f"score of {names[0]}", ylabel=f"score of {names[1]}")
    style(axes)
    figure.colorbar(points, ax=axes, label="opinion score")
