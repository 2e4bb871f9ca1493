"""A figure of the stability of a score: harmless changes, and how it falls with 25 distortions."""

from collections.abc import Mapping

import numpy as np

from jaxiqa.figures.drawing import BLUE, INK, ORANGE, blank, head, save, style


def draw(path, found: Mapping, title: str) -> None:
    """Draws the result of scoring.robustness as PNG. Numbers at the right are the changes of score at level 5.

    Args:
      path: the file to write.
      found: {"images", "changes", "types"}.
      title: above the figure.
    """
    figure = blank(11, 6.6, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(4, 5))
    figure.suptitle(title, fontsize=12, color=INK, parse_math=False)
    rows, names = np.arange(len(found["changes"]))[::-1], [row["change"] for row in found["changes"]]
    left.barh(rows, [row["largest"] for row in found["changes"]], color=ORANGE, height=0.35, label="largest")
    left.barh(rows, [row["mean_size"] for row in found["changes"]], color=BLUE, height=0.7, alpha=0.85, label="mean")
    left.set_yticks(rows, names)
    left.set(xlabel="size of the change of score, of 100")
    left.legend(frameon=False)
    style(left, "x")
    head(left, "What should not matter", 40)
    rows = np.arange(len(found["types"]))[::-1]
    right.barh(rows, [100 * row["in_order"] for row in found["types"]], color=BLUE, height=0.7)
    for row, of in zip(rows, found["types"], strict=True):
        right.text(101, row, f"{-of['fall']:+.0f}", va="center", fontsize=8, color=INK)
    right.set_yticks(rows, [row["type"].replace("_", " ") for row in found["types"]], fontsize=8)
    right.text(101, len(rows), "level 5", va="center", fontsize=8, color=INK)
    right.set(xlim=(0, 110), xlabel=f"% of {found['images']} images whose score never rises from weak to strong")
    style(right, "x")
    head(right, "Five levels of 25 distortions", 40)
    save(path, figure)
