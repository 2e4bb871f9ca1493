"""PNG figures of a run and of its evaluations: loss curve, scatter plot, contact sheet, residuals, confusion, rounds.

`path` is the file to write: a str, a pathlib path or an etils path (a bucket). It appears only when it is complete.
`title` is the heading.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxiqa.evaluation.metrics import HEADLINES, METRICS, Fit, plcc
from jaxiqa.figures import drawing
from jaxiqa.figures.drawing import BLUE, DPI, INK, ORANGE, blank, head, new_figure, plain, save

_CELL = 2.5  # inches of width per image of a contact sheet


def loss_curve(
    path,
    steps: Sequence[int],
    losses: Sequence[float],
    val: Sequence[tuple[int, float]] | None = None,
    val_name: str = "validation SRCC",
):
    """Draws the training loss over the steps and, on the right axis, the value of every evaluation.

    Args:
      steps, losses: of equal length (ValueError otherwise); values that are not finite leave a gap.
      val: (step, value) of every evaluation.
      val_name: name of the values.
    """
    steps, losses = np.asarray(steps, np.float64), np.asarray(losses, np.float64)
    if steps.ndim != 1 or steps.shape != losses.shape:
        raise ValueError(
            f"steps and losses must be two lists of equal length, not of shapes {steps.shape}, {losses.shape}"
        )
    figure, axes = new_figure(8, 4.5)
    axes.set(xlabel="step", ylabel="training loss")
    window = len(losses) // 30
    if window > 1:
        axes.plot(steps, losses, color=BLUE, alpha=0.3, linewidth=1, label="loss")
        smooth, centre = (np.convolve(values, np.ones(window) / window, "valid") for values in (losses, steps))
        axes.plot(centre, smooth, color=BLUE, linewidth=2, label=f"loss, mean of {window}")
    else:
        axes.plot(steps, losses, "o-", color=BLUE, linewidth=2, markersize=4, label="loss")
    positive = losses[np.isfinite(losses)]
    if positive.size and positive.min() > 0 and positive.max() > 20 * positive.min():
        axes.set_yscale("log")
    handles, names = axes.get_legend_handles_labels()
    if val:
        right = axes.twinx()
        right.spines[["top", "left"]].set_visible(False)
        right.set_ylabel(val_name, color=ORANGE)
        right.tick_params(colors=ORANGE)
        points = np.asarray(val, np.float64)
        handles += right.plot(points[:, 0], points[:, 1], "o-", color=ORANGE, markersize=4, label=val_name)
        names.append(val_name)
    figure.legend(handles, names, loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    save(path, figure)


def scatter(path, pred: ArrayLike, mos: ArrayLike, title: str, fit: Fit | None = None):
    """Draws opinion scores over predicted scores; the heading states SRCC, PLCC and the number of images.

    Args:
      pred: (N,) predicted scores, 0..100.
      mos: (N,) opinion scores on their own scale. Pairs that are not finite are left out and counted.
      title: e.g. model and dataset.
      fit: a curve of fit_logistic to draw; its kind and the PLCC after the fit are added to the heading.
    """
    pred, mos = np.asarray(pred, np.float64), np.asarray(mos, np.float64)
    finite = np.isfinite(pred) & np.isfinite(mos)
    left_out = f" ({np.sum(~finite)} more not finite)" if not finite.all() else ""
    pred, mos = pred[finite], mos[finite]
    values = "".join(f"{name.upper()} {METRICS[name].function(pred, mos):.3f}   " for name in HEADLINES)
    heading = f"{values}n = {len(pred)}{left_out}"
    figure, axes = new_figure(6.4, 5.6)
    axes.set(xlabel="predicted score (0-100)", ylabel="opinion score")
    size, alpha = (28, 0.6) if len(pred) < 500 else (12, 0.35) if len(pred) < 3000 else (6, 0.2)
    axes.scatter(pred, mos, s=size, color=BLUE, alpha=alpha, linewidths=0)
    if fit is not None and len(pred):
        heading += f"\nPLCC after {fit.kind} {plcc(fit(pred), mos):.3f}" + ("" if fit.converged else " (not converged)")
        low, high = axes.get_ylim()
        grid = np.linspace(pred.min(), pred.max(), 300)
        axes.plot(grid, fit(grid), color=ORANGE, linewidth=2, label=f"{fit.kind} fit")
        axes.set_ylim(low, high)
        axes.legend(loc="lower right", frameon=False, fontsize=9)
    head(axes, title, below=f"\n{heading}")
    save(path, figure)


def contact_sheet(path, images: Sequence[np.ndarray], captions: Sequence[str], title: str, columns: int):
    """Draws small images in rows, each with its caption below; no image is cropped or stretched.

    Args:
      images: uint8 (H, W, 3), of any sizes; ValueError if there are none.
      captions: one for each image; line breaks are kept, and long lines are shortened in the middle.
      title: heading of the sheet; line breaks are kept.
      columns: images per row.
    """
    if not images or len(images) != len(captions):
        raise ValueError(f"a sheet needs images and a caption for each, not {len(images)} and {len(captions)}")
    rows = math.ceil(len(images) / columns)
    width = columns * _CELL
    thumbnails = [drawing.thumbnail(image, round(0.94 * _CELL * DPI)) for image in images]
    lines = max(caption.count("\n") + 1 for caption in captions)
    heights = [max(t.shape[0] for t in thumbnails[r * columns : (r + 1) * columns]) / DPI for r in range(rows)]
    width_in_letters = max(20, int(10.5 * width))
    heading = [textwrap.shorten(line, width_in_letters, placeholder=" …") for line in plain(title).split("\n")]
    below, above = 0.12 + 0.15 * lines, 0.27 + 0.23 * len(heading)  # inches for the captions and for the title
    height = above + sum(heights) + rows * (below + 0.1)
    figure = blank(width, height)
    at = (0.5, 1 - 0.12 / height)
    figure.text(*at, "\n".join(heading), ha="center", va="top", fontsize=12, color=INK, parse_math=False)
    top = above
    for row, tallest in enumerate(heights):
        cells = list(zip(thumbnails, captions, strict=True))[row * columns : (row + 1) * columns]
        for column, (small, caption) in enumerate(cells):
            # Pixels are drawn one to one: resampling by matplotlib would blur the images.
            left = round((column + 0.5) * _CELL * DPI - small.shape[1] / 2)
            down = round((height - top - tallest) * DPI)
            figure.figimage(small, left, down, origin="upper")
            text = "\n".join(drawing.shortened(line, 36) for line in plain(caption).split("\n"))
            at = ((column + 0.5) / columns, 1 - (top + tallest + 0.06) / height)
            figure.text(*at, text, ha="center", va="top", fontsize=8, color=INK, linespacing=1.25, parse_math=False)
        top += tallest + below + 0.1
    save(path, figure)


def residuals(path, groups: Mapping[str, ArrayLike], title: str):
    """Draws a box plot of predicted minus opinion scores for groups of images.

    Args:
      groups: {name: predicted minus opinion score of each image, both 0..100}; values that are not finite are left out.
    """
    finite = {name: [v for v in values if math.isfinite(v)] for name, values in groups.items()}
    names = [f"{plain(name)} ({len(values)})" for name, values in finite.items()]
    figure, axes = new_figure(7.2, 1.6 + 0.26 * len(names))
    boxes = axes.boxplot(
        list(finite.values()), orientation="horizontal", tick_labels=names, widths=0.6, patch_artist=True,
        flierprops=dict(markersize=3, markeredgecolor=BLUE), medianprops=dict(color=ORANGE, linewidth=2),
    )  # fmt: skip
    for box in boxes["boxes"]:
        box.set(facecolor=BLUE, alpha=0.35)
    axes.axvline(0, color=INK, linewidth=1)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("predicted minus opinion score (0-100)")
    head(axes, title)
    save(path, figure)


def draw_confusion(path, counts: np.ndarray, names: Sequence[str], title: str, predicted: Sequence[str] | None = None):
    """Draws a confusion matrix, each row in percent of its samples; zeros are left blank.

    Args:
      counts: (n, m), row = true class, column = predicted class.
      names: names of the n true classes.
      title: the heading.
      predicted: names of the m predicted classes, if they are others.
    """
    margin = 0.0 if predicted is None else 0.07 * max(map(len, names))  # of a narrow figure, in inches
    predicted = names if predicted is None else predicted
    values = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    height, width = (2.6 + 0.36 * len(labels) for labels in (names, predicted))
    width += margin
    figure, axes = new_figure(width + 0.4, height)
    axes.grid(visible=False)
    axes.imshow(values, cmap="Blues", vmin=0)
    axes.set_xticks(range(len(predicted)), predicted, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="predicted class", ylabel="true class (percent of each row)")
    for (row, column), value in np.ndenumerate(np.rint(values).astype(int)):
        if value:
            colour = "white" if value > 0.6 * values.max() else INK
            axes.text(column, row, value, ha="center", va="center", fontsize=7, color=colour)
    head(axes, title, round(9 * width))
    save(path, figure)


def draw_rounds(path, values: Mapping[str, Sequence[float]], title: str):
    """Draws the SRCC of repeated rounds: a dot for each round, a bar at their median.

    Args:
      values: {name: SRCC of its rounds}; names may have line breaks, and values that are not finite are left out.
    """
    longest = max(len(line) for name in values for line in name.split("\n"))
    figure, axes = new_figure(max(4.0, 1.2 + max(0.9, 0.1 * longest) * len(values)), 4.5)
    for position, rounds in enumerate(values.values()):
        rounds = [value for value in rounds if math.isfinite(value)]
        axes.plot([position] * len(rounds), rounds, "o", color=BLUE, alpha=0.5, markersize=6, markeredgewidth=0)
        if rounds:
            axes.hlines(np.median(rounds), position - 0.3, position + 0.3, color=ORANGE, linewidth=2.5)
    axes.set_xticks(range(len(values)), [plain(name) for name in values], fontsize=9)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.set_ylabel("SRCC of each round, and the median")
    head(axes, title, 60)
    save(path, figure)


def histogram(counts: ArrayLike, edges: ArrayLike, of: str, what: str) -> bytes:
    """Draws the numbers of values in bins. Returns the PNG file.

    Args:
      counts: (n,) numbers of values.
      edges: (n + 1,) edges of the bins.
      of: name of the values, for the x axis.
      what: name of what is counted, for the y axis.
    """
    counts, edges = np.asarray(counts), np.asarray(edges, np.float64)
    figure, axes = new_figure(7.2, 3.6)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=BLUE, edgecolor="white", linewidth=0.6)
    axes.set(xlabel=of, ylabel=f"number of {what}")
    axes.yaxis.get_major_locator().set_params(integer=True)
    return drawing.png(figure)
