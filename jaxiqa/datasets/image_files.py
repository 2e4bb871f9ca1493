"""Image files in folders: which names count, and all of them below a folder."""

import collections
import os
import pathlib
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
    """Finds all images below a folder, by their names.

    A linked folder is searched too, but each folder only once, under its own path if that is below `folder`. A link to
    a folder above is passed over. So loops of links end.
    """
    found = Found([], collections.Counter(), [])
    folders: list[str] = [os.fspath(folder)]
    links: list[str] = []
    seen = {(above.st_dev, above.st_ino) for above in map(os.stat, pathlib.Path(folder).resolve().parents)}
    while folders or links:
        inside = folders.pop() if folders else links.pop(0)
        try:
            status = os.stat(inside)
            if (here := (status.st_dev, status.st_ino)) in seen:
                continue
            seen.add(here)
            entries = sorted(os.scandir(inside), key=lambda entry: entry.name)
        except OSError:
            found.unreadable.append(inside)
            continue
        for entry in entries:
            if is_companion(entry.name):
                continue
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(entry.path)
            elif entry.name.lower().endswith(IMAGES):
                found.images.append(entry.path)
            elif entry.name.lower() not in _SYSTEM_FILES:
                found.left_out[os.path.splitext(entry.name)[1].lower()] += 1
    found.images.sort()
    return found


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
