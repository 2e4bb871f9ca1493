"""What the name of an image in a result says."""

import os
import re

_ROW = re.compile(r"(.*\.(?:parquet|arrow|feather))#\d+", re.I | re.S)  # a row of a table that has no names


def folder_of(name: str) -> str:
    """The folder, the archive or the table that an image is in; "." for a name without a folder."""
    found = _ROW.fullmatch(name)
    return found[1] if found else os.path.dirname(name) or "."
