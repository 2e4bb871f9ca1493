"""Results of repeated rounds: medians and means, by distortion and level, side by side; text, CSV and a figure.

A cell is one finished run or evaluation: its folder's report.json and predictions_*.csv. A row of a table is what is
compared (a config, or an ablation of one), a selection is how the step was picked.
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

from jaxiqa.evaluation.metrics import plcc, srcc
from jaxiqa.evaluation.report import draw_rounds

METRICS = ("srcc", "plcc", "krcc", "rmse")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One round of one row."""

    row: str  # what is compared
    selection: str  # "val", "legacy", or "not known"
    round: int  # 1, 2, ...
    target: str  # dataset the numbers are on
    report: dict  # of report.json
    pictures: list[dict[str, str]]  # rows of predictions_*.csv, as text


def read_cell(folder: epath.Path, row: str, selection: str, round: int, target: str = "") -> Cell:
    """The cell whose files are in `folder`; its target is the dataset's name unless one is given.

    Raises OSError or ValueError where they are not whole.
    """
    report = json.loads((folder / "report.json").read_text())
    text = (folder / f"predictions_{report['part']}.csv").read_bytes().decode("utf-8", "surrogateescape")
    return Cell(row, selection, round, target or report["dataset"], report, list(csv.DictReader(io.StringIO(text))))


def summarise(cells: Iterable[Cell]) -> list[dict]:
    """One dict for each (row, selection, target), in the order they come: rounds, and for each metric its median, mean
    and sample standard deviation over the rounds (nan for one)."""
    rows = []
    for (row, selection, target), group in _grouped(cells, lambda c: (c.row, c.selection, c.target)).items():
        line = {"row": row, "selection": selection, "target": target, "rounds": len(group)}
        for metric in METRICS:
            values = np.array([_number(c.report[metric]) for c in group])
            deviation = values.std(ddof=1) if len(values) > 1 else math.nan
            line |= {f"{metric}_median": np.median(values), f"{metric}_mean": values.mean(), f"{metric}_std": deviation}
        rows.append(line)
    return rows


def by_group(cells: Iterable[Cell], column: str) -> list[dict]:
    """Median over the rounds of SRCC and PLCC within the test pictures that share a value of `column`.

    Args:
      cells: any.
      column: "distortion" or "level". Cells whose pictures have none are left out, and so are groups of fewer than
        three pictures.

    Returns:
      dicts with row, selection, target, `column`, rounds, pictures (median count), srcc, plcc.
    """
    found: dict[tuple, list] = {}
    for cell in cells:
        for value, pictures in _grouped(cell.pictures, lambda p: p[column]).items():
            pred, mos = (np.array([_number(p[name]) for p in pictures]) for name in ("score", "mos"))
            if value in ("", "0") or len(pictures) < 3:
                continue
            sign = 1 if cell.report["higher_is_better"] else -1  # of the labels; more of the score is always better
            with warnings.catch_warnings(action="ignore"):  # constant predictions have no correlation: nan
                both = sign * srcc(pred, mos), sign * plcc(pred, mos)
            found.setdefault((cell.row, cell.selection, cell.target, value), []).append((len(pictures), *both))
    rows = []
    for (row, selection, target, value), values in found.items():
        pictures, of_srcc, of_plcc = np.median(values, axis=0).tolist()
        line = {"row": row, "selection": selection, "target": target, column: value, "rounds": len(values)}
        rows.append(line | {"pictures": round(pictures), "srcc": of_srcc, "plcc": of_plcc})
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


def draw(path: epath.PathLike, cells: Sequence[Cell], title: str) -> None:
    """PNG with the SRCC of every round as a dot and the median as a bar, for each row and selection."""
    groups = _grouped(cells, lambda c: f"{c.row}\n{c.selection}")
    draw_rounds(path, {name: [_number(c.report["srcc"]) for c in group] for name, group in groups.items()}, title)


def _grouped(items, key) -> dict:
    groups: dict = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _number(value) -> float:
    """JSON's null and an empty CSV field are not a number."""
    return math.nan if value in (None, "") else float(value)
