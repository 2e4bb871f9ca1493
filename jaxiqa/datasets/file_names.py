"""Which file a name in a table means: names in another case, form, format or folder than on the disk."""

import collections
import os
import posixpath
import unicodedata
import urllib.parse
from collections.abc import Collection, Iterable

# Formats that keep every pixel, so that the labels of an image hold for a copy of it.
LOSSLESS = (".png", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".pbm")
_LOSSY = (".jpg", ".jpeg", ".jp2", ".j2k", ".jpf", ".webp", ".gif", ".avif")
_SAME_FORMAT = ({".jpg", ".jpeg"}, {".jp2", ".j2k", ".jpf"})


def key_of(name: str) -> str:
    """Returns a name as it is compared: without case, with "/" between folders, in one Unicode form (NFC)."""
    return posixpath.normpath(unicodedata.normalize("NFC", name).casefold().replace("\\", "/"))


def stem_of(name: str) -> str:
    """Returns the last part of a name without its ending, as it is compared."""
    return posixpath.splitext(posixpath.basename(key_of(name)))[0]


def is_copy(ending: str, of: str) -> bool:
    """Whether a file with one ending (".png") has the pixels of the file with another one, which it was made from."""
    if of not in LOSSLESS + _LOSSY:  # not the ending of an image, but a part of its name
        return False
    return ending in LOSSLESS or any({ending, of} <= same for same in _SAME_FORMAT)


def in_any_case(folder: str, name: str) -> str:
    """Returns the path below `folder` that differs from `name` in case only; "" if there is none or several."""
    found = ""
    for part in name.split("/"):
        here = os.path.join(folder, found)
        there = [e for e in os.listdir(here) if key_of(e) == key_of(part)] if os.path.isdir(here) else []
        if len(there) != 1:
            return ""
        found = os.path.join(found, there[0])
    return found


class Files:
    """The images of a folder by their names.

    Args:
      names: paths relative to the folder.
    """

    def __init__(self, names: Iterable[str]):
        self._by_key, self._by_stem, self._by_last = (collections.defaultdict(list) for _ in range(3))
        for name in names:
            key = key_of(name)
            self._by_key[key].append(name)
            self._by_stem[posixpath.splitext(key)[0]].append(name)
            self._by_last[stem_of(key)].append(name)

    def find(self, name: str) -> str:
        """Returns the only file that a name can mean; "" if there is none or several.

        The file may have the name in another case or Unicode form, or decoded as in a URL. If none has, it may be a
        lossless copy in another format, or have an ending that the name lacks.
        """
        for key in dict.fromkeys((key_of(name), key_of(urllib.parse.unquote(name)))):
            stem, ending = posixpath.splitext(key)
            copies = [n for n in self._by_stem.get(stem, ()) if is_copy(posixpath.splitext(key_of(n))[1], ending)]
            for found in (self._by_key.get(key), copies, self._by_stem.get(key)):
                if found:
                    return found[0] if len(found) == 1 else ""
        return ""

    def near(self, name: str) -> list[str]:
        """Returns the files with the last part of a name, in any folder and format."""
        return self._by_last.get(stem_of(name), [])

    def find_elsewhere(self, names: Collection[str]) -> dict[str, str]:
        """Returns {name: file} if all names are of another place; {} if this is not certain.

        It is certain in two cases. Either all files are found if one folder replaces another in all names (drive
        letters and absolute paths of another machine). Or the last part of each name is that of exactly one file, and
        no two names share it.
        """
        keys = {name: key_of(name) for name in names}
        first = next(iter(keys.values())).split("/")
        maps = []
        for there in self.near(first[-1]):
            before, parts = first[:-1], key_of(there).split("/")[:-1]
            while parts and before and parts[-1] == before[-1]:
                parts, before = parts[:-1], before[:-1]
            found = self._moved(keys, "".join(f"{p}/" for p in before), "".join(f"{p}/" for p in parts))
            maps += [found] if found and found not in maps else []
        if not maps and all(len(self.near(name)) == 1 for name in keys):
            found = {name: self.near(name)[0] for name in keys}
            if len({*found.values()}) == len(found) and all(fits(name, file) for name, file in found.items()):
                maps = [found]
        return maps[0] if len(maps) == 1 else {}

    def _moved(self, keys: dict[str, str], begin: str, instead: str) -> dict[str, str]:
        found = {}
        for name, key in keys.items():
            file = self.find(instead + key.removeprefix(begin)) if key.startswith(begin) else ""
            if not file:
                return {}
            found[name] = file
        return found


def fits(name: str, file: str) -> bool:
    """Whether a file has the format that a name says, or has its pixels."""
    wanted, there = (posixpath.splitext(key_of(n))[1] for n in (name, file))
    return wanted in ("", there) or is_copy(there, wanted)
