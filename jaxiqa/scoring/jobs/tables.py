"""Files that hold many images: Parquet, Arrow (also of Hugging Face datasets), and tar archives as WebDataset has them.

pyarrow is imported when it is needed: scoring a folder does not need it.
"""

import contextlib
import os
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from jaxiqa.datasets.image_files import IMAGES, is_companion
from jaxiqa.errors import ConfigError, DataError, printable
from jaxiqa.inputs import remote

_PARQUET, _ARROW = (".parquet",), (".arrow", ".feather")
_PATHS = ("path", "image_path", "file", "filename", "file_name", "uri", "url", "image_url")  # columns of paths
_NAMES = (*_PATHS, "name", "key", "__key__", "id")  # columns that name a row
_ROWS = 64  # rows that are in memory at a time


def need_pyarrow() -> None:
    """Raises ConfigError if pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            'Parquet and Arrow need the extra [jobs]: run python -m pip install "jaxiqa[jobs]"',
            code="package",
            key="pyarrow",
        ) from error


def parts(table: str, size: int, column: str | None) -> Iterator[tuple[int, int]]:
    """Yields (first row, number of rows) of the parts of a table; (0, 0) for a table that is one part.

    Args:
      table: path or address.
      size: number of rows in a part.
      column: column of images; None to find it.

    Raises:
      DataError: a Parquet file can be read, but has no column of images.
      ConfigError: pyarrow is not installed.
    """
    if not table.lower().endswith(_PARQUET):
        yield 0, 0
        return
    need_pyarrow()
    import pyarrow.parquet

    try:
        with _opened(table) as file:
            about = pyarrow.parquet.ParquetFile(file)
            _columns(table, about.schema_arrow, column)
            count = about.metadata.num_rows
    except (OSError, pyarrow.ArrowException):
        count = 0  # its only row says why it cannot be read
    if not count:
        yield 0, 0
    for first in range(0, count, size):
        yield first, min(size, count - first)


def rows(table: str, column: str | None, first: int, count: int) -> Iterator[tuple[str, Any]]:
    """Yields (name, image) of the rows [first, first + count) of a table; of all rows if count is 0.

    A table that cannot be read, or not to its end, yields its own name with the DataError that says why.

    Args:
      table, column: as for parts.
    """
    try:
        yield from _rows(table, column, first, count)
    except DataError as error:
        yield table, error
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:  # those of pyarrow are OSErrors or ValueErrors
        why = " ".join(str(error).split())[:200] or type(error).__name__
        what = f"cannot read {printable(table)} to its end ({why})"
        yield table, DataError(f"{what}; put an intact copy in its place, or leave it out", code="damaged", key=table)


def _rows(table: str, column: str | None, first: int, count: int) -> Iterator[tuple[str, Any]]:
    with _opened(table) as file:
        name = table.lower()
        if name.endswith((*_PARQUET, *_ARROW)):
            need_pyarrow()
            found = _of_parquet(file, first, count) if name.endswith(_PARQUET) else _of_arrow(file)
            yield from _of_batches(table, found, column)
        else:
            yield from _of_tar(table, file)


def _opened(table: str) -> contextlib.AbstractContextManager[Any]:
    if remote.is_address(table):
        files, path = remote.file_system(table)
        return files.open(path, "rb")
    return open(table, "rb")


def _of_tar(table: str, file: BinaryIO) -> Iterator[tuple[str, Any]]:
    seen = 0
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            base = os.path.basename(member.name)
            if member.isfile() and member.name.lower().endswith(IMAGES) and not is_companion(base):
                data = archive.extractfile(member)
                seen += 1
                yield f"{table}/{member.name}", data.read() if data else b""
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every header
    if not seen:
        raise DataError(f"{printable(table)} holds no image (names ending in {', '.join(IMAGES)})", code="empty")


def _of_parquet(file: BinaryIO, first: int, count: int) -> Iterator[tuple[Any, Any]]:
    """Yields (schema, batches) of each row group; batches(columns) yields (number of its first row, record batch)."""
    import pyarrow.parquet

    about = pyarrow.parquet.ParquetFile(file)
    count = count or about.metadata.num_rows
    at = 0
    for group in range(about.num_row_groups):
        size = about.metadata.row_group(group).num_rows
        if at < first + count and at + size > first:
            start = at

            def batches(columns, group=group, start=start):
                here = start
                for batch in about.iter_batches(_ROWS, [group], columns):
                    low, high = max(first - here, 0), min(first + count - here, batch.num_rows)
                    if low < high:
                        yield here + low, batch.slice(low, high - low)
                    here += batch.num_rows

            yield about.schema_arrow, batches
        at += size


def _of_arrow(file: BinaryIO) -> Iterator[tuple[Any, Any]]:
    """Yields what _of_parquet yields, once, for the whole file."""
    import pyarrow.ipc

    try:
        opened = pyarrow.ipc.open_file(file)
        stored = (opened.get_batch(i) for i in range(opened.num_record_batches))
    except pyarrow.ArrowInvalid:  # a stream, as Hugging Face datasets are
        file.seek(0)
        opened = pyarrow.ipc.open_stream(file)
        stored = iter(opened)

    def batches(columns):
        at = 0
        for batch in stored:
            yield at, batch.select(columns)
            at += batch.num_rows

    yield opened.schema, batches


def _of_batches(table: str, found: Iterator[tuple[Any, Any]], column: str | None) -> Iterator[tuple[str, Any]]:
    for schema, batches in found:
        image, name = _columns(table, schema, column)
        is_path = not _holds_bytes(schema.field(image).type)
        for at, batch in batches(list(dict.fromkeys([image, *([name] if name else [])]))):
            names = batch.column(name) if name else None
            for i, value in enumerate(batch.column(image)):
                value = value.as_py()
                said = names[i].as_py() if names is not None else None
                if isinstance(value, dict):  # as Hugging Face datasets hold an image
                    said = said or value.get("path")
                    value = value.get("bytes") or value.get("path")
                if is_path and value is not None:
                    value = _beside(table, str(value))
                    said = value if image == name else said
                yield f"{table}#{at + i}" if said is None else str(said), value


def _beside(table: str, path: str) -> str:
    """A path of a table: from the current folder or, if nothing is there, from the folder of the table."""
    if remote.is_address(path) or os.path.isabs(path) or os.path.lexists(path):
        return path
    there = (
        f"{table.rpartition('/')[0]}/{path}" if remote.is_address(table) else os.path.join(os.path.dirname(table), path)
    )
    return there if remote.is_address(table) or os.path.lexists(there) else path


def _holds_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _columns(table: str, schema: Any, column: str | None) -> tuple[str, str | None]:
    """The column of images, and the one that names the rows, if there is one."""
    of_bytes = [field.name for field in schema if _holds_bytes(field.type)]
    of_paths = [name for name in _PATHS if name in schema.names]
    name = next((name for name in _NAMES if name in schema.names and name not in of_bytes), None)
    if column is not None:
        if column not in schema.names:
            raise DataError(
                f"{printable(table)} has no column {column!r}; it has {', '.join(schema.names)}",
                code="missing",
                key="--column",
            )
        return column, name if column in of_bytes else column
    if len(of_bytes) == 1 or (not of_bytes and of_paths):
        return (of_bytes or of_paths)[0], name
    raise DataError(
        f"{printable(table)}: which column holds the images? Name one by --column; it has {', '.join(schema.names)}",
        code="missing",
        key="--column",
    )
