"""Finds the images that a command line names."""

import os

from jaxiqa.datasets.checks import IMAGES, images_below
from jaxiqa.errors import DataError


def find_images(paths: list[str]) -> list[str]:
    """Lists files; a folder stands for the images below it, in alphabetical order. Each file is listed once.

    Raises:
      DataError: a folder has no images, or a path does not exist.
    """
    found = {}
    for path in paths:
        if os.path.isdir(path):
            inside = images_below(path)
            if not inside:
                raise DataError(
                    f"{path!r}: no image in this folder (names ending in {', '.join(IMAGES)})", code="empty", key=path
                )
            found.update(dict.fromkeys(inside))
        elif os.path.exists(path):
            found[path] = None
        else:
            raise DataError(f"{path!r}: no such file or folder", code="not_found", key=path)
    return list(found)


def by_stem(folder: str) -> dict[str, list[str]]:
    """{file name in lower case without extension: paths of the images of that name anywhere below the folder}."""
    found: dict[str, list[str]] = {}
    for path in images_below(folder):
        stem, _ = os.path.splitext(os.path.basename(path).lower())
        found.setdefault(stem, []).append(path)
    return found
