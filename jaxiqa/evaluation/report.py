"""What a run leaves to look at: loss curve, scatter plot, contact sheet (PNG), predictions (CSV) and numbers (JSON).

`path` is the file to write: a str, a pathlib path or an etils path (a bucket). It appears whole or not at all. `title`
is the heading.
"""

import csv
import io
import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxiqa.evaluation import drawing
from jaxiqa.evaluation.drawing import BLUE, DPI, INK, ORANGE, blank, head, new_figure, plain, save
from jaxiqa.evaluation.metrics import Fit, plcc, srcc

COLUMNS = ("path", "score", "native", "se", "mos", "reference", "distortion", "level")
_CELL = 2.5  # inches of width per picture of a contact sheet


def loss_curve(
    path,
    steps: Sequence[int],
    losses: Sequence[float],
    val: Sequence[tuple[int, float]] | None = None,
    val_name: str = "validation SRCC",
):
    """PNG of the training loss over the steps and, on the right axis, of what every evaluation found.

    Args:
      steps, losses: equally long (ValueError otherwise); values that are not finite leave a gap.
      val: (step, value) of every evaluation.
      val_name: what the values are.
    """
    steps, losses = np.asarray(steps, np.float64), np.asarray(losses, np.float64)
    if steps.ndim != 1 or steps.shape != losses.shape:
        raise ValueError(
            f"steps and losses must be two lists of one length, not of shapes {steps.shape}, {losses.shape}"
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


def scatter(path, pred: Sequence[float], mos: Sequence[float], title: str, fit: Fit | None = None):
    """PNG of opinion scores over predicted scores; the heading gives SRCC, PLCC and the number of pictures.

    Args:
      pred: predicted scores, 0..100.
      mos: opinion scores on their own scale, as many. Pairs that are not finite are left out and counted.
      title: what was predicted, e.g. model and dataset.
      fit: a curve to draw (of fit_logistic); its kind and the PLCC after it are added to the heading.
    """
    pred, mos = np.asarray(pred, np.float64), np.asarray(mos, np.float64)
    finite = np.isfinite(pred) & np.isfinite(mos)
    left_out = f" ({np.sum(~finite)} more not finite)" if not finite.all() else ""
    pred, mos = pred[finite], mos[finite]
    heading = f"SRCC {srcc(pred, mos):.3f}   PLCC {plcc(pred, mos):.3f}   n = {len(pred)}{left_out}"
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
    """PNG of small pictures in rows, each with its caption below; no picture is cropped or stretched.

    Args:
      images: uint8 (H, W, 3), of any sizes; ValueError where there are none.
      captions: one per picture; line breaks are kept, long lines lose their middle.
      title: heading of the sheet; line breaks are kept.
      columns: pictures per row.
    """
    if not images or len(images) != len(captions):
        raise ValueError(f"a sheet needs pictures and a caption for each, not {len(images)} and {len(captions)}")
    rows = math.ceil(len(images) / columns)
    width = columns * _CELL
    thumbnails = [drawing.thumbnail(image, round(0.94 * _CELL * DPI)) for image in images]
    lines = max(caption.count("\n") + 1 for caption in captions)
    pictures = [max(t.shape[0] for t in thumbnails[r * columns : (r + 1) * columns]) / DPI for r in range(rows)]
    width_in_letters = max(20, int(10.5 * width))
    heading = [textwrap.shorten(line, width_in_letters, placeholder=" …") for line in plain(title).split("\n")]
    below, above = 0.12 + 0.15 * lines, 0.27 + 0.23 * len(heading)  # inches for a caption and for the title
    height = above + sum(pictures) + rows * (below + 0.1)
    figure = blank(width, height)
    at = (0.5, 1 - 0.12 / height)
    figure.text(*at, "\n".join(heading), ha="center", va="top", fontsize=12, color=INK, parse_math=False)
    top = above
    for row, tallest in enumerate(pictures):
        cells = list(zip(thumbnails, captions, strict=True))[row * columns : (row + 1) * columns]
        for column, (small, caption) in enumerate(cells):
            # Whole pixels one to one: resampling by matplotlib would blur what the sheet is for.
            left = round((column + 0.5) * _CELL * DPI - small.shape[1] / 2)
            down = round((height - top - tallest) * DPI)
            figure.figimage(small, left, down, origin="upper")
            text = "\n".join(drawing.shortened(line, 36) for line in plain(caption).split("\n"))
            at = ((column + 0.5) / columns, 1 - (top + tallest + 0.06) / height)
            figure.text(*at, text, ha="center", va="top", fontsize=8, color=INK, linespacing=1.25, parse_math=False)
        top += tallest + below + 0.1
    save(path, figure)


def residuals(path, groups: Mapping[str, Sequence[float]], title: str):
    """PNG of how far scores lie from opinions in groups of pictures: a box from quartile to quartile with the median.

    Args:
      groups: {name: score minus opinion of its pictures, 0..100}; what is not finite is left out.
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


def draw_matrix(path, values: np.ndarray, names: Sequence[str], title: str, xlabel: str, ylabel: str):
    """PNG of a square matrix with its values written in its cells, rows downwards.

    Args:
      values: (n, n); they are rounded, and zeros are left blank.
      names: of rows and columns, n.
      title, xlabel, ylabel: texts.
    """
    size = 2.6 + 0.36 * len(names)
    figure, axes = new_figure(size + 0.4, size)
    axes.grid(visible=False)
    axes.imshow(values, cmap="Blues", vmin=0)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    for (row, column), value in np.ndenumerate(np.rint(values).astype(int)):
        if value:
            colour = "white" if value > 0.6 * values.max() else INK
            axes.text(column, row, value, ha="center", va="center", fontsize=7, color=colour)
    head(axes, title, round(9 * size))
    save(path, figure)


def draw_rounds(path, values: Mapping[str, Sequence[float]], title: str):
    """PNG of the SRCC of repeated rounds: a dot for each, a bar at their median.

    Args:
      values: {what is compared: SRCC of its rounds}; names may have line breaks, what is not finite is left out.
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
    axes.set_ylabel("SRCC of each round, and their median")
    head(axes, title, 60)
    save(path, figure)


def write_predictions(path, rows: Iterable[Mapping]):
    """CSV, one line per picture, with the header `path,score,native,se,mos,reference,distortion,level`.

    A key that is missing is left empty, another key is a ValueError. File names of any bytes survive: read the file as
    UTF-8 with errors="surrogateescape".
    """
    drawing.write_bytes(path, to_csv(rows, COLUMNS).encode("utf-8", "surrogateescape"))


def to_csv(rows: Sequence[Mapping], columns: Sequence[str] = ()) -> str:
    """Dicts as CSV with a header, by default the keys of the first; another key is a ValueError."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns or [key for row in rows[:1] for key in row], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_json(path, values: Mapping):
    """Indented JSON. NumPy scalars and arrays become numbers and lists, and what is not finite becomes null."""
    drawing.write_bytes(path, (json.dumps(_jsonable(values), indent=2, allow_nan=False) + "\n").encode())


def _jsonable(value):
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
