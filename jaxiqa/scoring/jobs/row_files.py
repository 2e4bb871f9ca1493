"""Rows in one file: CSV, JSON with the card before the rows, or JSON Lines. No row stays in memory."""

import contextlib
import csv
import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TextIO

from etils import epath

from jaxiqa.errors import full_disk
from jaxiqa.files import json_text

ENDINGS = (".csv", ".json", ".jsonl")


@contextlib.contextmanager
def writing_rows(path: epath.Path, head: Mapping, columns: Sequence[str]) -> Iterator[Callable[[Mapping], object]]:
    """Yields write(row), for a file whose ending is one of ENDINGS.

    The file appears when all rows are written. If an error ends the block, the rows so far are in FILE.part.

    Args:
      path: the file.
      head: what a .json file begins with; the rows are its list "pictures".
      columns: the columns of a CSV file. A value "" of a row is null in JSON.

    Raises:
      OSError: the file cannot be created.
      DiskFull: the disk is full.
    """
    part = path.with_name(path.name + ".part")
    file = text_file(part)
    begin, write, end = _FORMS[path.suffix]
    with full_disk(part), file:
        began = begin(file, head, columns)
        try:
            yield lambda row: write(began, row)
        except BaseException as error:
            error.add_note(f"the rows so far are in {part}")
            raise
        finally:
            end(began)
    part.replace(path)


def text_file(path: epath.Path) -> TextIO:
    """Creates a file for names of files, which may be any bytes. Each line is written when it is complete."""
    return io.TextIOWrapper(path.open("wb"), "utf-8", "surrogateescape", newline="", line_buffering=True)


def csv_writer(file: TextIO, columns: Sequence[str]) -> csv.DictWriter:
    """Returns a CSV writer, after it has written the header."""
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    return writer


class _Json:
    """The text of json_text({**head, "pictures": rows}, 1), written row by row."""

    def __init__(self, file: TextIO, head: Mapping, columns: Sequence[str]):
        self._file, self._rows = file, 0
        whole = json_text({**head, "pictures": []}, 1)
        file.write(whole[: whole.rindex("]")])

    def write(self, row: Mapping) -> None:
        text = textwrap.indent(json_text(_null(row), 1), "  ")
        self._file.write(f"{',' if self._rows else ''}\n{text}")
        self._rows += 1

    def close(self) -> None:
        self._file.write("\n ]\n}" if self._rows else "]\n}")


class _JsonLines:
    def __init__(self, file: TextIO, head: Mapping, columns: Sequence[str]):
        self._file = file

    def write(self, row: Mapping) -> None:
        self._file.write(json_text(_null(row)) + "\n")


def _null(row: Mapping) -> dict:
    return {name: None if value == "" else value for name, value in row.items()}


_FORMS: dict[str, tuple] = {  # ending: begin(file, head, columns), write(begun, row), end(begun)
    ".csv": (lambda file, _, columns: csv_writer(file, columns), csv.DictWriter.writerow, lambda _: None),
    ".json": (_Json, _Json.write, _Json.close),
    ".jsonl": (_JsonLines, _JsonLines.write, lambda _: None),
}
