"""Label files: CSV as spreadsheets write it, lines of words, MATLAB variables.

Every row of a text comes with its line number.
"""

import codecs
import csv
import io
import os
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import scipy

from jaxiqa.datasets.checks import Faults, Kind, incomplete_rows
from jaxiqa.errors import DataError, nearest, read_code

_SIGNATURES = {b"PK\x03\x04": "an .xlsx workbook or another archive", b"\xd0\xcf\x11\xe0": "an .xls workbook"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d*),\d+([eE][+-]?\d+)?", re.ASCII)  # 3,5 or 1.623,55
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?", re.ASCII)  # 1,623 or 1,623.55


def read_text(path: str) -> str:
    """Returns the text of a UTF-8 file, with or without BOM, or of a UTF-16 file with BOM.

    Raises:
      DataError: the file cannot be read, is a workbook, or has another encoding; the message names the line.
    """
    try:
        with open(path, "rb") as f:
            data = f.read()
    except OSError as e:
        raise DataError(f"{path} cannot be read ({e.strerror})", code=read_code(e), key=path) from e
    for start, what in _SIGNATURES.items():
        if data.startswith(start):
            raise DataError(f"{path} is {what}; save the table as CSV in UTF-8", code="format", key=path)
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise DataError(f"{path}:{line} is not UTF-8; save the file as UTF-8 text", code="format", key=path) from e
    if "\0" in text:
        raise DataError(
            f"{path} has zero bytes, as UTF-16 without a byte order mark; save the file as UTF-8 text",
            code="format",
            key=path,
        )
    return text


def read_csv(path: str, columns: tuple[str, ...], faults: Faults) -> list[tuple[str, dict[str, str]]]:
    """Reads a CSV with a header, in the forms of `read_rows`.

    A heading that differs from one of `columns` in case, spaces, points or hyphens only is taken for it.

    Returns:
      The rows, as ("file:line", {column: stripped text}).

    Raises:
      DataError: as for `read_rows`; one of `columns` is missing or occurs twice, or there are no rows.
    """
    rows = read_rows(path, faults, columns)
    if not rows:
        raise DataError(f"{path} has no rows", code="empty", key=path)
    header = rename(rows[0][1], {c: [h for h in rows[0][1] if plain(h) == plain(c)] for c in columns}, faults)
    return with_header(path, header, rows[1:], columns, faults)


def rename(header: Sequence[str], meant: dict[str, list[str]], faults: Faults) -> list[str]:
    """Returns a header in which each wanted column that it lacks replaces the only heading that means it."""
    renamed = {names[0]: column for column, names in meant.items() if column not in header and len(names) == 1}
    for heading, column in renamed.items():
        faults.say(f"column {heading!r} is read as {column}")
    return [renamed.get(heading, heading) for heading in header]


def with_header(
    path: str, header: Sequence[str], rows: list[tuple[str, list[str]]], columns: Collection[str], faults: Faults
) -> list[tuple[str, dict[str, str]]]:
    """Returns rows of `read_rows` as ("file:line", {column: text}); raises DataError as read_csv does.

    A row whose number of cells differs from the header's is added as a fault, unless only empty cells at its end
    differ.
    """
    _check_header(path, header, columns)
    found, width = [], len(header)
    for where, cells in rows:
        if not any(cells[width:]) and not any(header[len(cells) :]):
            found.append((where, dict(zip(header, [*cells, *[""] * width], strict=False))))
        else:
            faults.add(incomplete_rows(f"exactly {width} cells"), f"{where} has {len(cells)}")
    if not found:
        faults.refuse()
        raise DataError(f"{path} has no rows", code="empty", key=path)
    return found


def read_rows(path: str, faults: Faults, expected: Collection[str] = ()) -> list[tuple[str, list[str]]]:
    """Returns the lines of a CSV that are not blank, as ("file:line", stripped cells), the header included.

    The delimiter is comma, semicolon or tab. A first line `sep=;` states it. Otherwise it is the one with which the
    first line has most of the `expected` headings. If the line has none of them, words are separated by white space.
    Numbers with decimal commas or with commas between thousands get a decimal point, where a column has only these.

    Raises:
      DataError: a quote is never closed, or as for read_text.
    """
    text = read_text(path)
    lines = text.splitlines()
    number = next((i for i, line in enumerate(lines) if line.strip()), 0)
    first = lines[number] if lines else ""
    if told := re.fullmatch(r'"?sep=(.)"?[,;\t]*', first.strip("\ufeff \r"), re.IGNORECASE):
        delimiter = told[1]
        text = "\n" * (number + 1) + "".join(text.splitlines(keepends=True)[number + 1 :])
    else:
        known = {plain(name) for name in expected}

        def columns_found(delimiter):
            cells = next(csv.reader([first], delimiter=delimiter), [])
            return len(known & {plain(cell) for cell in cells}), len(cells), delimiter == ";" and len(cells) > 1

        delimiter = max(",;\t", key=columns_found)  # between a comma and a semicolon, the comma may be in a number
        if len(expected) > 1 and columns_found(delimiter)[1] == 1 and len(first.split()) > 1:
            delimiter = " "
    reader: Any
    if delimiter == " ":
        reader = _Words(text)
    else:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, line = [], 1
    try:
        for cells in reader:
            where = f"{os.path.basename(path)}:{line}"
            line = reader.line_num + 1  # a quoted cell may span lines; a row has the number of its first line
            cells = [cell.strip() for cell in cells]
            if any(cells):
                rows.append((where, cells))
    except csv.Error as e:
        raise DataError(f"{path}:{line}: {e}", code="format", key=path) from e
    if delimiter != ",":
        named = {";": "semicolons", "\t": "tabs", " ": "white space"}.get(delimiter, repr(delimiter))
        faults.say(f"{os.path.basename(path)} is separated by {named}")
    _write_points(rows, delimiter, faults)
    return rows


class _Words:
    """The words of each line, as csv.reader has cells."""

    def __init__(self, text: str):
        self._lines, self.line_num = iter(text.splitlines()), 0

    def __iter__(self):
        return self

    def __next__(self) -> list[str]:
        words = next(self._lines).split()
        self.line_num += 1
        return words


def plain(heading: str) -> str:
    """Returns a heading as it is compared: without case, spaces, hyphens, points and underscores at its ends."""
    return re.sub(r"[\s_.\-]+", "_", heading.strip().casefold()).strip("_")


def is_number(text: str) -> bool:
    """Whether a text is a number with a decimal point, or without one."""
    return bool(_NUMBER.fullmatch(text))


def _write_points(rows: list[tuple[str, list[str]]], delimiter: str, faults: Faults) -> None:
    """Replaces decimal commas, and removes commas between thousands, in columns where their meaning is certain."""
    for column in range(max((len(cells) for _, cells in rows), default=0)):
        cells = [row for _, row in rows if len(row) > column]
        commas = [row[column] for row in cells[1:] if "," in row[column]]
        if not commas:
            continue
        points = any("." in row[column] and is_number(row[column]) for row in cells[1:])
        if all(map(_GROUPED.fullmatch, commas)) and any("." in text or text.count(",") > 1 for text in commas):
            old, mark = ",", ""
        elif (
            all(map(_DECIMAL_COMMA.fullmatch, commas))
            and not points
            and (delimiter == ";" or not all(map(_GROUPED.fullmatch, commas)))
        ):
            old, mark = ".", "."
        else:
            continue
        for row in cells:
            if _DECIMAL_COMMA.fullmatch(row[column]) or _GROUPED.fullmatch(row[column]):
                row[column] = row[column].replace(old, "").replace(",", mark)
        faults.say("numbers have decimal commas" if mark else "numbers have commas between thousands")


def _check_header(path: str, header: Sequence[str], columns: Collection[str]) -> None:
    for column in columns:
        if header.count(column) > 1:
            raise DataError(
                f"{path} has the column {column!r} {header.count(column)} times; keep one", code="format", key=path
            )
        if column not in header:
            near = nearest(column, header)
            hint = f'; did you mean "{near}"?' if near else ""
            if any(map(is_number, header)):
                hint = f"; the first line must be a header that names the columns, such as {','.join(columns)}"
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
