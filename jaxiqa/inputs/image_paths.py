"""Finds the images that a command line names."""

import codecs
import collections
import glob
import io
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

from jaxiqa.datasets import prepared
from jaxiqa.datasets.image_files import IMAGES, Found, folders_below, is_companion, search, walk
from jaxiqa.errors import DataError, printable, read_code
from jaxiqa.inputs import remote

TABLES = (".parquet", ".arrow", ".feather", ".tar", ".tar.gz", ".tgz")  # files that hold many images, which jobs read
_REMEMBERED = 1_000_000  # names that are compared with later ones
_PART = 2**20  # bytes of a list that are read at a time
_SHOWN = 8  # endings that the line on files left out names


def find_images(words: list[str]) -> list[str]:
    """Lists what iter_images yields; raises the same errors."""
    return list(iter_images(words))


def iter_images(words: list[str]) -> Iterator[str]:
    """Yields the images that the words of a command line name, each once, in this order.

    A word is a file, whatever its name; a folder, which stands for the images below it, in alphabetical order; a
    pattern with *, ? or [ if no file has this name (a shell that does not expand patterns passes it on); @FILE, for the
    names in a text file; or -, for names from standard input. A list has one name in each line, or names separated by
    NUL. Blank lines and comments, which begin with #, are passed over. Relative names start at the current folder, or,
    if nothing is there, at the folder of the list. Addresses (inputs/remote.py) are taken as they are, but one that
    ends with / stands for the images below it, and one with * ? or [ for the files that match.

    What cannot be read is yielded too, because reading it says why: files that do not exist, if others do, and folders
    that cannot be opened. At the end, one line on standard error counts the files in folders that are left out.

    The memory that this takes does not grow with the number of images, but with that of the names in the largest folder
    and of the matches of a pattern. Names are compared with the first million, so beyond them a name may come twice.

    Raises:
      DataError: no path exists, there are no images, or a list cannot be read.
    """
    left_out: collections.Counter[str] = collections.Counter()
    seen: set[str] = set()
    missing: list[str] = []  # until something exists
    empty, exists = "", False
    for path, is_there in _each(words, left_out):
        if is_there is None:
            empty = empty or path
            continue
        if path in seen:
            continue
        if len(seen) < _REMEMBERED:
            seen.add(path)
        if is_there and not exists:
            exists = True
            yield from missing
            missing = []
        if is_there or exists:
            yield path
        else:
            missing.append(path)
    if not exists and not missing:
        if empty:
            raise _no_image(empty)
        source = "standard input" if words[0] == "-" else repr(words[0])
        raise DataError(
            f"{source} names no file; give one path in each line, or name a folder or a pattern",
            code="empty",
            key=words[0],
        )
    if not exists:
        raise DataError(f"{missing[0]!r}: no such file or folder", code="not_found", key=missing[0])
    if left_out:
        print(_line_on(left_out), file=sys.stderr)


def _each(words: list[str], left_out: collections.Counter[str]) -> Iterator[tuple[str, bool | None]]:
    """Yields (path, whether it exists), and (folder, None) for a folder without an image."""
    for path in _expanded(words):
        if remote.is_address(path) and not prepared.is_address(path):
            yield path, True
        elif os.path.isdir(path):
            inside, unreadable = folders_below(path)
            yield from ((folder, True) for folder in unreadable)
            images = walk(path, inside, left_out)
            first = next(images, None)
            yield (path, None) if first is None else (first, True)
            yield from ((image, True) for image in images)
        else:
            yield path, os.path.exists(path)


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
            yield from _names(sys.stdin.buffer, "")
        elif os.path.lexists(word):
            yield word
        elif remote.is_address(word):
            yield from _addresses(word)
        elif word.startswith("@"):
            yield from _listed(os.path.expanduser(word[1:]))
        elif glob.has_magic(word) and (matches := glob.glob(os.path.expanduser(word))):
            yield from sorted(path for path in matches if not is_companion(os.path.basename(path)))
        else:
            yield word


def _addresses(word: str) -> Iterator[str]:
    """The addresses that an address with a pattern, or that of a folder, stands for; else the address itself."""
    if word.endswith("/") or (glob.has_magic(word) and not word.startswith(("http://", "https://"))):
        files, path = remote.file_system(word)
        try:
            found = sorted(files.find(path) if word.endswith("/") else files.glob(path))
        except Exception as error:  # every protocol has its own
            raise DataError(
                f"{word!r} cannot be listed ({' '.join(str(error).split())[:200]}); check the address and the network",
                code=read_code(error),
                key=word,
            ) from error
        keep = (*IMAGES, *TABLES) if word.endswith("/") else ("",)
        images = [files.unstrip_protocol(name) for name in found if name.lower().endswith(keep)]
        if not images:
            raise _no_image(word)
        yield from images
    else:
        yield word


def _listed(path: str) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            yield from _names(file, os.path.dirname(path))
    except OSError as error:
        raise DataError(
            f"@{path}: the list {path!r} cannot be read ({error.strerror}); name a text file with one path in a line",
            code="not_found" if isinstance(error, FileNotFoundError) else "unreadable",
            key=path,
        ) from error


def _names(file: BinaryIO, folder: str) -> Iterator[str]:
    """Yields the paths in a list that lies in `folder`; the encoding is that of file names, or UTF-16 with its mark."""
    start = file.read(_PART)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as Windows PowerShell writes lists
        text = (start + file.read()).decode("utf-16", "surrogateescape")
        start, file = os.fsencode(text), io.BytesIO()
    start = start.removeprefix(codecs.BOM_UTF8)
    plain = b"\0" not in start
    for line in _lines(start, file, b"\n" if plain else b"\0"):
        name = os.fsdecode(line.removesuffix(b"\r") if plain else line)
        there = os.path.lexists(name)
        if name.strip() and (there or not (plain and name.startswith("#"))):
            beside = os.path.join(folder, name)
            yield beside if not there and os.path.lexists(beside) else name


def _lines(start: bytes, file: BinaryIO, end: bytes) -> Iterator[bytes]:
    """The lines of `start` and of what follows in the file; a part of the file at a time is in memory."""
    rest = start
    while part := file.read(_PART):
        *lines, rest = (rest + part).split(end)
        yield from lines
    yield from rest.split(end)


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
