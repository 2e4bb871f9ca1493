"""Label files: CSV as spreadsheets write it, lines of words, variables of MATLAB.

Every row of a text comes with the line it stands on.
"""

import csv
import io
import os

import numpy as np
import scipy

from jaxiqa.datasets import did_you_mean
from jaxiqa.datasets.checks import Faults
from jaxiqa.errors import DataError


def read_text(path: str) -> str:
    """The text of a UTF-8 file, with or without BOM. Raises DataError with the line that is not UTF-8."""
    try:
        with open(path, "rb") as f:
            data = f.read()
    except OSError as e:
        raise DataError(f"{path}: {e.strerror}") from e
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8; save the file as UTF-8 text") from e


def read_csv(path: str, columns: tuple[str, ...], faults: Faults) -> list[tuple[str, dict[str, str]]]:
    """Rows of a CSV with a header, as ("file:line", {column: text}) with texts stripped; blank lines are skipped.

    The delimiter is the one of comma, semicolon and tab that finds most of `columns` in the header. A row with another
    number of cells than the header becomes a fault.

    Raises:
      DataError: a column of `columns` is missing or there twice, a quote is never closed, the text is not UTF-8, or
        there is no row.
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
            line = reader.line_num + 1  # a quoted cell may span lines: a row is named by the line it begins on
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if header is None:
                header = cells
                _check_header(path, header, columns)
            elif len(cells) != len(header):
                faults.add(f"rows without exactly {len(header)} cells", f"{where} has {len(cells)}")
            else:
                rows.append((where, dict(zip(header, cells, strict=True))))
    except csv.Error as e:
        raise DataError(f"{path}:{line}: {e}") from e
    if not rows:
        faults.refuse()
        raise DataError(f"{path}: no rows")
    return rows


def _check_header(path: str, header: list[str], columns: tuple[str, ...]) -> None:
    for column in columns:
        if header.count(column) > 1:
            raise DataError(f"{path}: the column {column!r} is there {header.count(column)} times")
        if column not in header:
            near = did_you_mean(column, header)
            raise DataError(f"{path} has no column {column!r}; it has {', '.join(header)}{near}")


def read_words(path: str, count: int, faults: Faults, separator: str | None = None) -> list[tuple[str, list[str]]]:
    """Lines of `count` words as ("file:line", words). Blank lines are skipped, any other line becomes a fault.

    Words are what blanks separate, or what `separator` does.
    """
    rows = []
    for line, text in enumerate(read_text(path).splitlines(), 1):
        words, where = [word.strip() for word in text.split(separator)], f"{os.path.basename(path)}:{line}"
        if not text.strip():
            continue
        if len(words) != count:
            faults.add(f"lines without exactly {count} words", f"{where} has {len(words)}")
        else:
            rows.append((where, words))
    return rows


def read_mat(path: str, *names: str) -> list[np.ndarray]:
    """The variables `names`, each as a 1-D array; a cell array of strings becomes an array of str.

    Raises:
      DataError: the file cannot be read, a variable is missing, or they differ in length.
    """
    try:
        variables = scipy.io.loadmat(path)
    except NotImplementedError as e:
        raise DataError(f"{path}: a MATLAB 7.3 file; the owners' file is an older format") from e
    except (OSError, ValueError, TypeError, scipy.io.matlab.MatReadError) as e:
        raise DataError(f"{path}: cannot be read as a MATLAB file ({e})") from e
    there = [name for name in variables if not name.startswith("__")]
    missing = [name for name in names if name not in there]
    if missing:
        raise DataError(f"{path} has no variable {', '.join(missing)}; it has {', '.join(there)}")
    arrays = [_flat(variables[name]) for name in names]
    if len({len(a) for a in arrays}) > 1:
        sizes = ", ".join(f"{name} {len(a):,}" for name, a in zip(names, arrays, strict=True))
        raise DataError(f"{os.path.basename(path)}: variables of different length: {sizes}")
    return arrays


def _flat(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array.ravel()
    return np.array([str(cell.item()) for cell in array.ravel()])
