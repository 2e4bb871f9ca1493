"""Finds the images that a command line names."""

import codecs
import collections
import glob
import os
import sys
from collections.abc import Iterator

from jaxiqa.datasets.image_files import IMAGES, Found, is_companion, search
from jaxiqa.errors import DataError, printable

_SHOWN = 8  # endings that the line on files left out names


def find_images(paths: list[str]) -> list[str]:
    """Lists the images that the words of a command line name, each once, in this order.

    A word is a file, whatever its name; a folder, which stands for the images below it, in alphabetical order; a
    pattern with * ? or [ that no file is called, as a shell that does not expand it passes on; @FILE, for the names in
    a text file; or -, for names from standard input. A list has one name in each line, or names separated by NUL.
    Blank lines and comments, which begin with #, are passed over. Relative names start at the current folder, or, if
    nothing is there, at the folder of the list.

    What cannot be read is listed too, because reading it says why: files that do not exist, if others do, and folders
    that cannot be opened. One line on standard error counts the files in folders that are left out.

    Raises:
      DataError: no path exists, there are no images, or a list cannot be read.
    """
    found: dict[str, None] = {}
    left_out: collections.Counter[str] = collections.Counter()
    missing: dict[str, None] = {}
    empty = []
    for path in _expanded(paths):
        if os.path.isdir(path):
            inside = search(path)
            left_out += inside.left_out
            found.update(dict.fromkeys([*inside.unreadable, *inside.images]))
            empty += [path] if not inside.images else []
        else:
            found[path] = None
            missing |= {path: None} if not os.path.exists(path) else {}
    if not found and empty:
        raise _no_image(empty[0])
    if not found:
        source = "standard input" if paths[0] == "-" else repr(paths[0])
        raise DataError(
            f"{source} names no file; give one path in each line, or name a folder or a pattern",
            code="empty",
            key=paths[0],
        )
    if len(missing) == len(found):
        first = next(iter(missing))
        raise DataError(f"{first!r}: no such file or folder", code="not_found", key=first)
    if left_out:
        print(_line_on(left_out), file=sys.stderr)
    return list(found)


def images_in(folder: str) -> list[str]:
    """Lists the images below one folder, all of which are needed, in alphabetical order.

    Raises:
      DataError: the folder does not exist or has no images, or a folder in it cannot be opened.
    """
    if not os.path.isdir(folder):
        raise DataError(f"{folder!r}: no such folder", code="not_found", key=folder)
    found: Found = search(folder)
    if found.unreadable:
        raise DataError(
            f"{found.unreadable[0]!r}: this folder cannot be opened; change its permissions, or move it away",
            code="unreadable",
            key=found.unreadable[0],
        )
    if not found.images:
        raise _no_image(folder)
    return found.images


def _no_image(where: str) -> DataError:
    return DataError(f"{where!r}: no image in it (names ending in {', '.join(IMAGES)})", code="empty", key=where)


def _expanded(words: list[str]) -> Iterator[str]:
    """Yields paths: patterns and lists are replaced by what they stand for."""
    for word in words:
        if word == "-":
            yield from _names(sys.stdin.buffer.read(), "")
        elif os.path.lexists(word):
            yield word
        elif word.startswith("@"):
            yield from _listed(os.path.expanduser(word[1:]))
        elif glob.has_magic(word) and (matches := glob.glob(os.path.expanduser(word))):
            yield from sorted(path for path in matches if not is_companion(os.path.basename(path)))
        else:
            yield word


def _listed(path: str) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise DataError(
            f"@{path}: the list {path!r} cannot be read ({error.strerror}); name a text file with one path in a line",
            code="not_found" if isinstance(error, FileNotFoundError) else "unreadable",
            key=path,
        ) from error
    return _names(data, os.path.dirname(path))


def _names(data: bytes, folder: str) -> Iterator[str]:
    """Yields the paths in a list that lies in `folder`; the encoding is that of file names, or UTF-16 with its mark."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as Windows PowerShell writes lists
        data = os.fsencode(data.decode("utf-16", "surrogateescape"))
    data = data.removeprefix(codecs.BOM_UTF8)
    plain = b"\0" not in data
    for line in data.split(b"\n" if plain else b"\0"):
        name = os.fsdecode(line.removesuffix(b"\r") if plain else line)
        there = os.path.lexists(name)
        if name.strip() and (there or not (plain and name.startswith("#"))):
            beside = os.path.join(folder, name)
            yield beside if not there and os.path.lexists(beside) else name


def _line_on(left_out: collections.Counter[str]) -> str:
    shown = left_out.most_common(_SHOWN)
    kinds = [f"{count:,} {printable(ending) or 'without one'}" for ending, count in shown]
    kinds += [f"{left_out.total() - sum(count for _, count in shown):,} others"] if len(left_out) > _SHOWN else []
    total = left_out.total()
    return f"left out {total:,} file{'s' * (total > 1)} without the ending of an image: {', '.join(kinds)}"


def by_stem(folder: str) -> dict[str, list[str]]:
    """{file name in lower case without extension: paths of the images of that name anywhere below the folder}."""
    found: dict[str, list[str]] = {}
    for path in search(folder).images:
        stem, _ = os.path.splitext(os.path.basename(path).lower())
        found.setdefault(stem, []).append(path)
    return found
