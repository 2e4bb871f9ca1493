"""The pictures that a command line names."""

import os

from jaxiqa.datasets.checks import PICTURES, pictures_below
from jaxiqa.errors import DataError


def find_pictures(paths: list[str]) -> list[str]:
    """The files that paths name, folders replaced by the pictures below them in alphabetical order, each file once.

    Raises:
      DataError: a folder without a picture, or no such file.
    """
    found = {}
    for path in paths:
        if os.path.isdir(path):
            inside = pictures_below(path)
            if not inside:
                raise DataError(f"{path!r}: no picture in this folder (names ending in {', '.join(PICTURES)})")
            found.update(dict.fromkeys(inside))
        elif os.path.exists(path):
            found[path] = None
        else:
            raise DataError(f"{path!r}: no such file or folder")
    return list(found)


def by_stem(folder: str) -> dict[str, list[str]]:
    """{name in lower case without its ending: pictures of that name anywhere below the folder}."""
    found: dict[str, list[str]] = {}
    for path in pictures_below(folder):
        stem, _ = os.path.splitext(os.path.basename(path).lower())
        found.setdefault(stem, []).append(path)
    return found
