"""Results of repeated rounds: medians and means, overall and by distortion and level.

A cell is one finished run or evaluation: the report.json and predictions_*.csv of its folder. A row of a table is one
of the configs that are compared. A selection is the rule by which the step was chosen.
"""

import csv
import dataclasses
import io
import json
import math
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath

from jaxiqa.evaluation.metrics import BEST, HEADLINES, METRICS


@dataclasses.dataclass(frozen=True)
class Cell:
    """The results of one round of one row."""

    row: str  # the config, or an ablation of it
    selection: str  # "val", "legacy", or "not known"
    round: int  # 1, 2, ...
    target: str  # the dataset that was scored
    report: dict  # content of report.json
    images: list[dict[str, str]]  # rows of predictions_*.csv, as text


def read_cell(folder: epath.Path, row: str, selection: str, round: int, target: str = "") -> Cell:
    """Reads the cell whose files are in `folder`; the default target is the name of the dataset.

    Raises OSError or ValueError if a file is missing or damaged.
    """
    report = json.loads((folder / "report.json").read_text())
    text = (folder / f"predictions_{report['part']}.csv").read_bytes().decode("utf-8", "surrogateescape")
    return Cell(row, selection, round, target or report["dataset"], report, list(csv.DictReader(io.StringIO(text))))


def summarise(cells: Iterable[Cell]) -> list[dict]:
    """Summarises the rounds of each (row, selection, target), in the order of the cells.

    Returns:
      dicts with row, selection, target, the number of rounds, and for each metric the median, mean and sample standard
      deviation over the rounds (nan for a single round).
    """
    rows = []
    for (row, selection, target), group in _grouped(cells, lambda c: (c.row, c.selection, c.target)).items():
        line = {"row": row, "selection": selection, "target": target, "rounds": len(group)}
        for metric in METRICS:
            values = np.array([_number(c.report.get(metric)) for c in group])
            deviation = values.std(ddof=1) if len(values) > 1 else math.nan
            line |= {f"{metric}_median": np.median(values), f"{metric}_mean": values.mean(), f"{metric}_std": deviation}
        rows.append(line)
    return rows


def by_group(cells: Iterable[Cell], column: str) -> list[dict]:
    """The headline metrics of each group of test images, as medians over the rounds.

    Args:
      cells: the results to group.
      column: "distortion" or "level"; images with the same value are a group. Images without a value and groups of
        fewer than three images are left out.

    Returns:
      dicts with row, selection, target, `column`, rounds, pictures (median number of images), and the metrics.
    """
    found: dict[tuple, list] = {}
    for cell in cells:
        for value, images in _grouped(cell.images, lambda p: p[column]).items():
            pred, mos = (np.array([_number(p[name]) for p in images]) for name in ("score", "mos"))
            if value in ("", "0") or len(images) < 3:
                continue
            sign = (
                1 if cell.report["higher_is_better"] else -1
            )  # direction of the labels; a higher score is always better
            with warnings.catch_warnings(action="ignore"):  # constant predictions have no correlation: nan
                both = [sign * METRICS[name].function(pred, mos) for name in HEADLINES]
            found.setdefault((cell.row, cell.selection, cell.target, value), []).append((len(images), *both))
    rows = []
    for (row, selection, target, value), values in found.items():
        images, *medians = np.median(values, axis=0).tolist()
        line = {"row": row, "selection": selection, "target": target, column: value, "rounds": len(values)}
        rows.append(line | {"pictures": round(images)} | dict(zip(HEADLINES, medians, strict=True)))
    return rows


def markdown(rows: Sequence[dict], digits: int = 4) -> str:
    """A Markdown table of dicts with the same keys."""
    if not rows:
        return ""
    cell = lambda v: ("" if math.isnan(v) else f"{v:.{digits}f}") if isinstance(v, float) else str(v)  # noqa: E731
    body = [[cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(list(rows[0]), *body, strict=True)]
    line = lambda cells: "| " + " | ".join(f"{c:{w}}" for c, w in zip(cells, widths, strict=True)) + " |"  # noqa: E731
    return "\n".join([line(rows[0]), "|" + "|".join("-" * (w + 2) for w in widths) + "|", *map(line, body)])


def best_of_rounds(cells: Iterable[Cell]) -> dict[str, list[float]]:
    """{"ROW\\nSELECTION": the SRCC (metrics.BEST) of each round}; nan for a round without it."""
    groups = _grouped(cells, lambda c: f"{c.row}\n{c.selection}")
    return {name: [_number(c.report[BEST]) for c in group] for name, group in groups.items()}


def _grouped(items, key) -> dict:
    groups: dict = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _number(value) -> float:
    """The number; nan for JSON's null and for an empty CSV field."""
    return math.nan if value in (None, "") else float(value)
