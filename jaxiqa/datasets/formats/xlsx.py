"""One sheet of an .xlsx workbook as text, read with the standard library alone."""

import os
import posixpath
import zipfile
from xml.etree import ElementTree

from jaxiqa.errors import DataError

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_REL = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"


def read_sheet(path: str, sheet: str, columns: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    """Returns the rows below the first row that has all of `columns`, as ("file:row", {column: text}).

    Rows that are empty in `columns` are skipped. `sheet` and texts are as in read_cells.

    Raises:
      DataError: the file is not a workbook, or it has no such sheet or columns.
    """
    rows, header = [], None
    for where, cells in read_cells(path, sheet):
        if header is None:
            if set(columns) <= set(cells.values()):
                header = {text: letter for letter, text in cells.items() if text in columns}
            continue
        values = {column: cells.get(letter, "") for column, letter in header.items()}
        if any(values.values()):
            rows.append((where, values))
    if header is None:
        named = f"sheet {sheet}" if sheet else "its first sheet"
        raise DataError(f"{path}: {named} has no row with the columns {', '.join(columns)}", code="missing", key=path)
    return rows


def read_cells(path: str, sheet: str = "") -> list[tuple[str, dict[str, str]]]:
    """Returns the rows of a sheet ("" for the first one), as ("file:row", {letter of the column: text}).

    Numbers are returned as the text that the file stores ("0.062").

    Raises:
      DataError: the file is not a workbook, or it has no such sheet.
    """
    try:
        with zipfile.ZipFile(path) as z:
            strings = _shared_strings(z)
            root = ElementTree.fromstring(z.read(_sheet_path(z, path, sheet)))
    except (OSError, zipfile.BadZipFile, ElementTree.ParseError, KeyError) as e:
        raise DataError(f"{path} cannot be read as an .xlsx workbook ({e})", code="format", key=path) from e
    rows = []
    for row in root.iter(f"{_MAIN}row"):
        cells = {c.get("r", "").rstrip("0123456789"): _text(c, strings) for c in row.iter(f"{_MAIN}c")}
        rows.append((f"{os.path.basename(path)}:{row.get('r')}", cells))
    return rows


def _sheet_path(z: zipfile.ZipFile, path: str, sheet: str) -> str:
    workbook = ElementTree.fromstring(z.read("xl/workbook.xml"))
    sheets = {s.get("name", ""): s.get(f"{_REL}id", "") for s in workbook.iter(f"{_MAIN}sheet")}
    sheet = sheet or next(iter(sheets), "")
    if sheet not in sheets:
        raise DataError(f"{path} has no sheet {sheet!r}; it has {', '.join(sheets)}", code="not_found", key=path)
    targets = {
        r.get("Id", ""): r.get("Target", "") for r in ElementTree.fromstring(z.read("xl/_rels/workbook.xml.rels"))
    }
    return posixpath.join("xl", targets[sheets[sheet]]).lstrip("/")


def _shared_strings(z: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in z.namelist():
        return []
    root = ElementTree.fromstring(z.read("xl/sharedStrings.xml"))
    return ["".join(t.text or "" for t in si.iter(f"{_MAIN}t")) for si in root.iter(f"{_MAIN}si")]


def _text(cell: ElementTree.Element, strings: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return "".join(t.text or "" for t in cell.iter(f"{_MAIN}t")).strip()
    value = cell.findtext(f"{_MAIN}v") or ""
    return strings[int(value)].strip() if cell.get("t") == "s" else value.strip()
