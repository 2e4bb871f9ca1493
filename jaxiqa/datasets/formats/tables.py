"""Label files: CSV as spreadsheets write it, lines of words, MATLAB variables.

Every row of a text comes with its line number.
"""

import csv
import io
import os

import numpy as np
import scipy

from jaxiqa.datasets.checks import Faults, Kind, incomplete_rows
from jaxiqa.errors import DataError, nearest


def read_text(path: str) -> str:
    """Returns the text of a UTF-8 file, with or without BOM. Raises DataError with the line that is not UTF-8."""
    try:
        with open(path, "rb") as f:
            data = f.read()
    except OSError as e:
        raise DataError(f"{path} cannot be read ({e.strerror})", code="unreadable", key=path) from e
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise DataError(f"{path}:{line} is not UTF-8; save the file as UTF-8 text", code="format", key=path) from e


def read_csv(path: str, columns: tuple[str, ...], faults: Faults) -> list[tuple[str, dict[str, str]]]:
    """Reads a CSV with a header.

    The delimiter is comma, semicolon or tab: the one with which most of `columns` are in the header. A row whose number
    of cells differs from the header's is added as a fault. Blank lines are skipped.

    Returns:
      The rows, as ("file:line", {column: stripped text}).

    Raises:
      DataError: one of `columns` is missing or occurs twice, a quote is never closed, the text is not UTF-8, or there
        are no rows.
    """
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")

    def columns_found(delimiter):
        cells = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
        return len(set(columns) & set(cells)), len(cells)

    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=columns_found), strict=True)
    header, rows, line = None, [], 1
    try:
        for cells in reader:
            where = f"{os.path.basename(path)}:{line}"
            line = reader.line_num + 1  # a quoted cell may span lines; a row has the number of its first line
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if header is None:
                header = cells
                _check_header(path, header, columns)
            elif len(cells) != len(header):
                faults.add(incomplete_rows(f"exactly {len(header)} cells"), f"{where} has {len(cells)}")
            else:
                rows.append((where, dict(zip(header, cells, strict=True))))
    except csv.Error as e:
        raise DataError(f"{path}:{line}: {e}", code="format", key=path) from e
    if not rows:
        faults.refuse()
        raise DataError(f"{path} has no rows", code="empty", key=path)
    return rows


def _check_header(path: str, header: list[str], columns: tuple[str, ...]) -> None:
    for column in columns:
        if header.count(column) > 1:
            raise DataError(
                f"{path} has the column {column!r} {header.count(column)} times; keep one", code="format", key=path
            )
        if column not in header:
            near = nearest(column, header)
            hint = f'; did you mean "{near}"?' if near else ""
            raise DataError(
                f"{path} has no column {column!r}; it has {', '.join(header)}{hint}", code="missing", key=path
            )


def read_words(path: str, count: int, faults: Faults, separator: str | None = None) -> list[tuple[str, list[str]]]:
    """Returns the lines of `count` words as ("file:line", words). Blank lines are skipped; other lines are faults.

    Words are separated by white space, or by `separator`.
    """
    rows = []
    for line, text in enumerate(read_text(path).splitlines(), 1):
        words, where = [word.strip() for word in text.split(separator)], f"{os.path.basename(path)}:{line}"
        if not text.strip():
            continue
        if len(words) != count:
            faults.add(
                Kind(f"lines without exactly {count} words", fix="correct these lines"), f"{where} has {len(words)}"
            )
        else:
            rows.append((where, words))
    return rows


def read_mat(path: str, *names: str) -> list[np.ndarray]:
    """Returns the variables `names`, each as a 1-D array; a cell array of strings becomes an array of str.

    Raises:
      DataError: the file cannot be read, a variable is missing, or they differ in length.
    """
    try:
        variables = scipy.io.loadmat(path)
    except NotImplementedError as e:
        raise DataError(
            f"{path} is a MATLAB 7.3 file; use the owners' file, which has an older format", code="format", key=path
        ) from e
    except (OSError, ValueError, TypeError, scipy.io.matlab.MatReadError) as e:
        raise DataError(f"{path} cannot be read as a MATLAB file ({e})", code="format", key=path) from e
    there = [name for name in variables if not name.startswith("__")]
    missing = [name for name in names if name not in there]
    if missing:
        raise DataError(
            f"{path} has no variable {', '.join(missing)}; it has {', '.join(there)}", code="missing", key=path
        )
    arrays = [_flat(variables[name]) for name in names]
    if len({len(a) for a in arrays}) > 1:
        sizes = ", ".join(f"{name} {len(a):,}" for name, a in zip(names, arrays, strict=True))
        raise DataError(f"{path} has variables of different lengths: {sizes}", code="mismatch", key=path)
    return arrays


def _flat(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array.ravel()
    return np.array([str(cell.item()) for cell in array.ravel()])
