"""What evaluations have written, read back and joined: predictions (CSV) and the numbers of rounds (JSON or CSV)."""

import contextlib
import csv
import dataclasses
import glob
import json
import math
import os
from collections.abc import Iterator, Sequence
from typing import TextIO

import numpy as np

from jaxiqa.errors import DataError

_SHOWN = 5  # pictures that a message lists


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Scores of N pictures by one predictor."""

    file: str  # where they were read
    paths: list[str]  # N pictures, as they are written there
    score: np.ndarray  # (N,) nan for pictures that could not be scored
    mos: np.ndarray  # (N,) opinion scores on the dataset's native scale, nan where there are none
    reference: list[str]  # N names of contents, "" where unknown


def read_predictions(file: str) -> Predictions:
    """A CSV with the columns path and score, and mos and reference where there are any (as evaluate and score write).

    Raises:
      DataError: no such file, a column is missing, a value is no number, a picture is there twice, or there is no row.
    """
    rows = _read_csv(file, ("path", "score"))
    seen = {}
    for line, row in rows:
        if row["path"] in seen:
            raise DataError(f"{file}:{line}: {row['path']!r} has a row already (line {seen[row['path']]})")
        seen[row["path"]] = line
    score, mos = (np.array([_number(file, line, row, name) for line, row in rows]) for name in ("score", "mos"))
    return Predictions(file, list(seen), score, mos, [row.get("reference") or "" for _, row in rows])


def find_rows(paths: Sequence[str], wanted: Sequence[str], where: str, whose: str) -> np.ndarray:
    """The place of each of the `wanted` pictures among `paths`, (len(wanted),).

    Pictures are the same where their absolute paths are. Where not one is, they are the same at the same place below
    the folder that holds all pictures of a list, so that results from two machines can be joined.

    Args:
      paths: has them, and maybe more.
      wanted: pictures.
      where, whose: the names of the two lists, for the message.

    Raises:
      DataError: some are missing; the first of them are listed.
    """
    for keys in (lambda these: [os.path.abspath(path) for path in these], _below):
        there = {key: row for row, key in enumerate(keys(paths))}
        rows = [there.get(key) for key in keys(wanted)]
        if any(row is not None for row in rows):
            break
    missing = [path for path, row in zip(wanted, rows, strict=True) if row is None]
    if missing:
        raise DataError(f"{where} lacks {len(missing):,} of the {len(wanted):,} pictures of {whose}: {_list(missing)}")
    return np.array(rows)


def join(files: Sequence[Predictions]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Predictions of the same rated pictures by F predictors.

    Returns:
      (F, N) scores, (N,) opinion scores, and N contents ("" becomes the picture's path, a content of its own), all in
      the order of the first file.

    Raises:
      DataError: a picture that one file lacks, has no score for or gives another label; the first ones are listed.
    """
    first, scores = files[0], []
    for file in files:
        rows = find_rows(file.paths, first.paths, file.file, first.file)
        if len(file.paths) > len(first.paths):
            find_rows(first.paths, file.paths, first.file, file.file)  # names what the first one lacks
        without = [path for path, mos in zip(file.paths, file.mos, strict=True) if math.isnan(mos)]
        if without:
            raise DataError(
                f"{file.file} has no opinion score (column mos) for {len(without):,} pictures: {_list(without)}; take "
                "predictions_PART.csv of jaxiqa.evaluate"
            )
        unscored = [path for path, score in zip(file.paths, file.score, strict=True) if math.isnan(score)]
        if unscored:
            raise DataError(f"{file.file} has no score for {len(unscored):,} pictures: {_list(unscored)}")
        other = np.flatnonzero(~np.isclose(file.mos[rows], first.mos, rtol=1e-9, atol=1e-9))
        if other.size:
            texts = [f"{first.paths[i]} ({first.mos[i]:g} and {file.mos[rows[i]]:g})" for i in other]
            raise DataError(
                f"{first.file} and {file.file} give {other.size:,} pictures different opinion scores: {_list(texts)}; "
                "compare predictions of the same version of a dataset"
            )
        scores.append(file.score[rows])
    contents = [name or path for name, path in zip(first.reference, first.paths, strict=True)]
    return np.stack(scores), first.mos, contents


def read_rounds(patterns: Sequence[str]) -> dict[tuple, dict[str, float]]:
    """srcc and plcc of each round of a protocol.

    Args:
      patterns: files, or patterns such as "run/round*/report.json": a report.json of evaluate or train is one round,
        named by its dataset, part and split; a CSV with the columns round, srcc and plcc has a round in each row.

    Returns:
      {what names the round: {"srcc": ..., "plcc": ...}}.

    Raises:
      DataError: no file, not a report, or one round twice.
    """
    rounds = {}
    for file in [file for pattern in patterns for file in sorted(glob.glob(pattern)) or [pattern]]:
        if file.endswith(".csv"):
            rows = [(f"{file}:{line}", ("round", row["round"]), row) for line, row in _read_csv(file, ("round",))]
        else:
            report = _read_json(file)
            rows = [(file, tuple(str(report.get(k)) for k in ("dataset", "part", "split_fingerprint")), report)]
        for where, name, row in rows:
            if name in rounds:
                raise DataError(f"{where} is the same round as another file ({' '.join(name)}); give each round once")
            try:
                rounds[name] = {metric: float(row[metric]) for metric in ("srcc", "plcc")}
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{where} has no srcc and plcc; give report.json files of jaxiqa.evaluate") from error
    return rounds


def _read_csv(file: str, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """(line, row) of a CSV that has these columns."""
    with _reading(file, "CSV", errors="surrogateescape", newline="") as text:
        reader = csv.DictReader(text)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            has = ", ".join(reader.fieldnames or ["nothing"])
            raise DataError(f"{file} has no column {missing[0]!r}; it has {has}")
        rows = [(reader.line_num, row) for row in reader]
    if not rows:
        raise DataError(f"{file} has no rows")
    return rows


def _read_json(file: str) -> dict:
    with _reading(file, "JSON", "; give report.json files of jaxiqa.evaluate") as text:
        report = json.load(text)
    if not isinstance(report, dict):
        raise DataError(f"{file} is no report.json of jaxiqa.evaluate")
    return report


@contextlib.contextmanager
def _reading(file: str, form: str, advice: str = "", **how) -> Iterator[TextIO]:
    try:
        with open(file, encoding="utf-8", **how) as text:
            yield text
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from error
    except (csv.Error, ValueError) as error:
        raise DataError(f"{file} is no {form} ({error}){advice}") from error


def _number(file: str, line: int, row: dict, column: str) -> float:
    text = row.get(column) or "nan"
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{file}:{line}: {column} {text!r} is no number") from None


def _below(paths: Sequence[str]) -> list[str]:
    """Paths below the innermost folder that holds all of them."""
    paths = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, common) for path in paths]


def _list(names: Sequence[str]) -> str:
    more = f", and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
