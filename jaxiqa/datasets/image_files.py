"""Image files in folders: which names count, and all of them below a folder."""

import collections
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

IMAGES = (  # what inputs/decode.py reads
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
    ".ppm", ".pgm", ".pnm", ".pbm", ".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".j2c", ".avif", ".avifs", ".heic", ".heif",
    ".hif", ".jxl",
)  # fmt: skip
_SYSTEM_FILES = (".ds_store", "thumbs.db", "desktop.ini")


class Found(NamedTuple):
    """What is below a folder."""

    images: list[str]  # paths, sorted
    left_out: collections.Counter[str]  # numbers of other files by ending in lower case; companions are not counted
    unreadable: list[str]  # folders that could not be listed


def is_companion(name: str) -> bool:
    """Whether a file or folder is what macOS puts beside the images of other file systems: ._NAME, __MACOSX."""
    return name.startswith("._") or name == "__MACOSX"


def search(folder: str | os.PathLike) -> Found:
    """Finds all images below a folder; see walk."""
    left_out: collections.Counter[str] = collections.Counter()
    folders, unreadable = folders_below(folder)
    return Found(list(walk(os.fspath(folder), folders, left_out)), left_out, unreadable)


def folders_below(folder: str | os.PathLike) -> tuple[set[str], list[str]]:
    """The folder and all folders below it that can be listed, and those that cannot.

    A linked folder is searched too, but each folder only once, under its own path if that is below `folder`. A link to
    a folder above is passed over. So loops of links end.
    """
    inside: set[str] = set()
    unreadable: list[str] = []
    folders: list[str] = [os.fspath(folder)]
    links: list[str] = []
    seen = {(above.st_dev, above.st_ino) for above in map(os.stat, pathlib.Path(folder).resolve().parents)}
    while folders or links:
        path = folders.pop() if folders else links.pop(0)
        try:
            status = os.stat(path)
            if (here := (status.st_dev, status.st_ino)) in seen:
                continue
            seen.add(here)
            with os.scandir(path) as entries:
                below = sorted((e for e in entries if not is_companion(e.name) and _is_folder(e)), key=lambda e: e.name)
        except OSError:
            unreadable.append(path)
            continue
        inside.add(path)
        for entry in below:
            (links if entry.is_symlink() else folders).append(entry.path)
    return inside, unreadable


def walk(folder: str, inside: set[str], left_out: collections.Counter[str]) -> Iterator[str]:
    """Yields the images in a folder and in the folders `inside` below it, by their names, in the order of their paths.

    The names of one folder at a time are in memory. Other files are counted in `left_out`, by their endings.
    """
    try:
        with os.scandir(folder) as entries:
            found = [(f"{e.name}/" if _is_folder(e) else e.name, e.path) for e in entries if not is_companion(e.name)]
    except OSError:
        return  # it was there a moment ago
    for name, path in sorted(found):  # a folder is where its images are in the order of whole paths
        if name.endswith("/"):
            if path in inside:
                yield from walk(path, inside, left_out)
        elif name.lower().endswith(IMAGES):
            yield path
        elif name.lower() not in _SYSTEM_FILES:
            left_out[os.path.splitext(name)[1].lower()] += 1


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
