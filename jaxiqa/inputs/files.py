"""The pictures that a command line names."""

import os

from jaxiqa.errors import DataError

EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm", ".pbm", ".jp2",
    ".j2k", ".jpf", ".avif",
)  # fmt: skip


def find_pictures(paths: list[str]) -> list[str]:
    """The files that paths name, folders replaced by the pictures below them in alphabetical order, each file once.

    Raises:
      DataError: a folder without a picture, or no such file.
    """
    found = {}
    for path in paths:
        if os.path.isdir(path):
            inside = [
                os.path.join(folder, name)
                for folder, _, names in os.walk(path)
                for name in names
                if name.lower().endswith(EXTENSIONS)
            ]
            if not inside:
                raise DataError(f"{path!r}: no picture in this folder (names ending in {', '.join(EXTENSIONS)})")
            found.update(dict.fromkeys(sorted(inside)))
        elif os.path.exists(path):
            found[path] = None
        else:
            raise DataError(f"{path!r}: no such file or folder")
    return list(found)
