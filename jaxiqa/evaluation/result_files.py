"""Reads, joins and writes the files of evaluations: predictions (CSV) and the metrics of rounds (JSON or CSV)."""

import contextlib
import csv
import dataclasses
import glob
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

import numpy as np

from jaxiqa.errors import DataError, read_code
from jaxiqa.evaluation.metrics import HEADLINES
from jaxiqa.files import write_bytes

_SHOWN = 5  # number of images that a message lists

COLUMNS = ("path", "score", "native", "se", "mos", "reference", "distortion", "level", "lo", "hi")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Scores of N images by one predictor."""

    file: str  # the file that was read
    paths: list[str]  # N images, as the file names them
    score: np.ndarray  # (N,) nan for images that could not be scored
    mos: np.ndarray  # (N,) opinion scores on the dataset's native scale, nan if there are none
    reference: list[str]  # N names of contents, "" if unknown


def read_predictions(file: str) -> Predictions:
    """Reads a CSV file of jaxiqa evaluate or jaxiqa score: columns path and score, and optionally mos and reference.

    Raises:
      DataError: the file cannot be read, has no rows or lacks a column, a value is not a number, or an image is listed
        twice.
    """
    rows = _read_csv(file, ("path", "score"))
    seen: dict[str, int] = {}
    for line, row in rows:
        if row["path"] in seen:
            raise DataError(
                f"{file}:{line}: {row['path']!r} is listed twice, here and in line {seen[row['path']]}",
                code="format",
                key=file,
            )
        seen[row["path"]] = line
    score, mos = (np.array([_number(file, line, row, name) for line, row in rows]) for name in ("score", "mos"))
    return Predictions(file, list(seen), score, mos, [row.get("reference") or "" for _, row in rows])


def find_rows(paths: Sequence[str], wanted: Sequence[str], where: str, whose: str) -> np.ndarray:
    """Finds each of the `wanted` images in `paths`: its index, (len(wanted),).

    Two paths name the same image if their absolute paths are equal. If no absolute path of the two lists is equal, each
    list is taken relative to the innermost folder that holds all of its images, so that results of two machines can be
    joined.

    Args:
      paths: contains the wanted images, and maybe others.
      wanted: images to find.
      where, whose: names of the two lists, for the message.

    Raises:
      DataError: images are missing; the message lists the first ones.
    """
    for keys in (lambda these: [os.path.abspath(path) for path in these], _below):
        there = {key: row for row, key in enumerate(keys(paths))}
        rows = [there.get(key) for key in keys(wanted)]
        if any(row is not None for row in rows):
            break
    missing = [path for path, row in zip(wanted, rows, strict=True) if row is None]
    if missing:
        raise DataError(
            f"{where} lacks {len(missing):,} of the {len(wanted):,} images of {whose}: {_list(missing)}",
            code="mismatch",
            key=where,
        )
    return np.array(rows)


def join(files: Sequence[Predictions]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Predictions of the same rated images by F predictors.

    Returns:
      (F, N) scores, (N,) opinion scores, and N contents, all in the order of the first file. An image of unknown
      content is a content of its own: its path.

    Raises:
      DataError: a file lacks an image, has no score for it, or has another label for it; the message lists the first
        such images.
    """
    first, scores = files[0], []
    for file in files:
        rows = find_rows(file.paths, first.paths, file.file, first.file)
        if len(file.paths) > len(first.paths):
            find_rows(
                first.paths, file.paths, first.file, file.file
            )  # raises: names the images that the first file lacks
        without = [path for path, mos in zip(file.paths, file.mos, strict=True) if math.isnan(mos)]
        if without:
            raise DataError(
                f"{file.file} has no opinion score (column mos) for {len(without):,} images: {_list(without)}; use "
                "predictions_PART.csv of jaxiqa evaluate",
                code="missing",
                key=file.file,
            )
        unscored = [path for path, score in zip(file.paths, file.score, strict=True) if math.isnan(score)]
        if unscored:
            raise DataError(
                f"{file.file} has no score for {len(unscored):,} images: {_list(unscored)}",
                code="missing",
                key=file.file,
            )
        other = np.flatnonzero(~np.isclose(file.mos[rows], first.mos, rtol=1e-9, atol=1e-9))
        if other.size:
            texts = [f"{first.paths[i]} ({first.mos[i]:g} and {file.mos[rows[i]]:g})" for i in other]
            raise DataError(
                f"{first.file} and {file.file} give {other.size:,} images different opinion scores: {_list(texts)}; "
                "compare predictions of the same version of a dataset",
                code="mismatch",
                key=file.file,
            )
        scores.append(file.score[rows])
    contents = [name or path for name, path in zip(first.reference, first.paths, strict=True)]
    return np.stack(scores), first.mos, contents


def read_rounds(patterns: Sequence[str]) -> dict[tuple, dict[str, float]]:
    """Reads the headline metrics (srcc, plcc) of each round of a protocol.

    Args:
      patterns: files, or patterns such as "run/round*/report.json". A report.json of evaluate or train is one round,
        identified by its dataset, part and split. A CSV file with the columns round, srcc and plcc has one round in
        each row.

    Returns:
      {identity of the round: {"srcc": ..., "plcc": ...}}.

    Raises:
      DataError: a file cannot be read, is not a report, or has a round that another file has too.
    """
    rounds = {}
    for file in [file for pattern in patterns for file in sorted(glob.glob(pattern)) or [pattern]]:
        if file.endswith(".csv"):
            numbered = _read_csv(file, ("round",))
            rows: list[tuple[str, tuple, Mapping]] = [
                (f"{file}:{n}", ("round", row["round"]), row) for n, row in numbered
            ]
        else:
            report = _read_json(file)
            rows = [(file, tuple(str(report.get(k)) for k in ("dataset", "part", "split_fingerprint")), report)]
        for where, name, row in rows:
            if name in rounds:
                raise DataError(
                    f"{where} is the same round as another file ({' '.join(name)}); give each round once",
                    code="conflict",
                    key=file,
                )
            try:
                rounds[name] = {metric: float(row[metric]) for metric in HEADLINES}
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{where} has no {' and '.join(HEADLINES)}; give report.json files of jaxiqa evaluate",
                    code="format",
                    key=file,
                ) from error
    return rounds


def _read_csv(file: str, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """(line, row) for each row of a CSV file, which must have these columns."""
    with _reading(file, "CSV", errors="surrogateescape", newline="") as text:
        reader = csv.DictReader(text)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            has = ", ".join(reader.fieldnames or ["nothing"])
            raise DataError(f"{file} has no column {missing[0]!r}; it has {has}", code="missing", key=file)
        rows = [(reader.line_num, row) for row in reader]
    if not rows:
        raise DataError(f"{file} has no rows", code="empty", key=file)
    return rows


def _read_json(file: str) -> dict:
    with _reading(file, "JSON", "; give report.json files of jaxiqa evaluate") as text:
        report = json.load(text)
    if not isinstance(report, dict):
        raise DataError(f"{file} is not a report.json of jaxiqa evaluate", code="format", key=file)
    return report


@contextlib.contextmanager
def _reading(file: str, form: str, advice: str = "", **how) -> Iterator[TextIO]:
    try:
        with open(file, encoding="utf-8", **how) as text:
            yield text
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})", code=read_code(error), key=file) from error
    except (csv.Error, ValueError) as error:
        raise DataError(f"{file} is not a {form} file ({error}){advice}", code="format", key=file) from error


def _number(file: str, line: int, row: dict, column: str) -> float:
    text = row.get(column) or "nan"
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{file}:{line}: {column} {text!r} is not a number", code="format", key=file) from None


def _below(paths: Sequence[str]) -> list[str]:
    """The paths relative to the innermost folder that holds all of them."""
    paths = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, common) for path in paths]


def _list(names: Sequence[str]) -> str:
    more = f", and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def write_predictions(path, rows: Sequence[Mapping]):
    """Writes a CSV file, one line per image, with the header `path,score,native,se,mos,reference,...` (COLUMNS).

    A missing key leaves its cell empty; any other key raises ValueError. File names may be any bytes: read the file as
    UTF-8 with errors="surrogateescape".
    """
    write_bytes(path, to_csv(rows, COLUMNS).encode("utf-8", "surrogateescape"))


def to_csv(rows: Sequence[Mapping], columns: Sequence[str] = ()) -> str:
    """Dicts as CSV text with a header, by default the keys of the first dict; any other key raises ValueError."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns or [key for row in rows[:1] for key in row], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
