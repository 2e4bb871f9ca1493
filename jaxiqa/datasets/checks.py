"""What every reader shares: finding files, keeping records, and listing all that is wrong at once, in one DataError."""

import glob
import math
import ntpath
import os
import posixpath
import re
from collections.abc import Callable, Iterable
from typing import Any

from jaxiqa.datasets import fact, facts
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import ConfigError, DataError

SHOWN = 10  # faults of one kind that are written out
PICTURES = (  # what inputs/decode.py reads
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm", ".pbm", ".jp2",
    ".j2k", ".jpf", ".avif",
)  # fmt: skip

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Faults:
    """Collects the faults of one dataset folder by kind; `refuse` raises them together."""

    def __init__(self, name: str, folder: str, remedy: str = ""):
        self._title, self._remedy = f"{name} in {folder}", remedy
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, where: str) -> None:
        self._found.setdefault(kind, []).append(where)

    def add_all(self, kind: str, where: Iterable[str]) -> None:
        for one in where:
            self.add(kind, one)

    def label(self, text: str, where: str, limits: tuple[float, float]) -> float:
        """The number in `text`; what is no finite number within `limits` becomes a fault and NaN."""
        text = text.strip()
        lo, hi = limits
        if not text:
            self.add("empty labels", where)
        elif text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            self.add("labels that are NaN or infinite", f"{where} {text!r}")
        elif re.fullmatch(r"[+-]?\d*,\d+", text):
            self.add("labels with a decimal comma (write a point)", f"{where} {text!r}")
        elif not _NUMBER.fullmatch(text):
            self.add("labels that are no number", f"{where} {text!r}")
        elif not lo <= float(text) <= hi:
            self.add(f"labels outside {lo:g}..{hi:g}", f"{where} {text}")
        else:
            return float(text)
        return math.nan

    def count(self, found: int, expected: int, what: str) -> None:
        """A number of `what` that is not the dataset's."""
        if found != expected:
            self.add("wrong counts", f"{found:,} {what} instead of {expected:,}")

    def refuse(self) -> None:
        """Raises one DataError with every fault: the count and the first ten of each kind."""
        if not self._found:
            return
        lines = [self._title + ": " + ", ".join(f"{len(w):,} {kind}" for kind, w in self._found.items())]
        for kind, where in self._found.items():
            more = f", and {len(where) - SHOWN:,} more" if len(where) > SHOWN else ""
            lines.append(f"  {kind}: {', '.join(where[:SHOWN])}{more}")
        if self._remedy:
            lines.append(f"  How to get it: {self._remedy}")
        raise DataError("\n".join(lines))


def limits(name: str, score_range) -> tuple[float, float]:
    """(lo, hi) of a dataset whose scale is an option. Raises ConfigError where it is none."""
    try:
        lo, hi = map(float, score_range)
    except (TypeError, ValueError):
        lo = hi = math.nan
    if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
        raise ConfigError(f"{name}: score_range must be two numbers, lo < hi, not {score_range!r}")
    return lo, hi


def leaves(path: str) -> bool:
    """Whether a normalised path in a table leads out of the dataset's folder."""
    return path.split("/")[0] == ".." or posixpath.isabs(path) or bool(ntpath.splitdrive(path)[0]) or path[:1] == "\\"


def pictures_below(folder: str | os.PathLike) -> list[str]:
    """Paths of the images anywhere below a folder, sorted."""
    return sorted(os.path.join(d, f) for d, _, fs in os.walk(folder) for f in fs if f.lower().endswith(PICTURES))


def recognised(folder: str | os.PathLike) -> list[str]:
    """Keys of the datasets that a folder may hold, by the label files in it."""

    def has(marker):
        return glob.glob(os.path.join(glob.escape(os.fspath(folder)), marker))

    found = [key for key, markers in facts("MARKERS").items() if any(map(has, markers)) and fact(key, "holds")(folder)]
    return [key for key in found if not fact(key, "ANYONES")] or found


class Reading(Faults):
    """A reader at work: its folder, the images and records found there, and all faults that it meets.

    Attributes:
      folder: data_dir as a str, with ~ expanded.
      pictures: {lower-case name: path relative to `folder`}, of `list_pictures`.
      records: {name: Record}, of `record`.
    """

    def __init__(self, name: str, data_dir, how_to_get: str, partial: bool = False, remedy: str | None = None):
        """Opens the folder.

        Args:
          partial: whether rows without an image are left out instead of refused.
          remedy: what `refuse` says in place of how_to_get.

        Raises:
          ConfigError: data_dir is empty. DataError: it is not a folder.
        """
        self.folder = os.path.expanduser(os.fspath(data_dir))
        if not self.folder:
            raise ConfigError(f"{name} needs --data_dir or --config.dataset.data_dir. How to get it: {how_to_get}")
        if not os.path.isdir(self.folder):
            raise DataError(f"{name}: there is no folder {self.folder}. How to get it: {how_to_get}")
        super().__init__(name, self.folder, how_to_get if remedy is None else remedy)
        self._name, self._how_to_get, self._partial = name, how_to_get, partial
        self.pictures: dict[str, str] = {}
        self.records: dict[str, Record] = {}
        self._first_row: dict[str, str] = {}  # of record_file

    def path(self, *parts: str) -> str:
        """A path in the folder."""
        return os.path.join(self.folder, *parts)

    def has(self, *parts: str) -> bool:
        """Whether the folder has this file or folder."""
        return os.path.exists(self.path(*parts))

    def find(self, *candidates: str, hint: str = "") -> str:
        """The first of `candidates` (files or folders) that is there; else a DataError that says what was given."""
        for candidate in candidates:
            if self.has(candidate):
                return candidate
        seen = ""
        inner = [d for d in sorted(os.listdir(self.folder)) if self.has(d, candidates[0])]
        others = [key for key in recognised(self.folder) if not fact(key, "ANYONES")]
        if inner:
            seen = f"; did you mean {self.path(inner[0])}?"
        elif others and self._name not in others:
            seen = f"; this looks like {' or '.join(others)}"
        raise DataError(
            f"{self._name}: {self.folder} has no {' or '.join(candidates)}{seen}. How to get it: "
            f"{self._how_to_get}{hint}"
        )

    def list_pictures(self, *inside: str, prefix: str = "") -> None:
        """Adds the images directly in those folders that are there to `pictures`, each named `prefix` + its file name.

        Names are compared without case, because archives of the same dataset differ in it; two files of one name are a
        fault. Hidden files and files that are not images (Thumbs.db, readme) are left out.
        """
        for directory in filter(lambda d: os.path.isdir(self.path(d)), inside):
            for file in sorted(os.listdir(self.path(directory))):
                if file.startswith(".") or not file.lower().endswith(PICTURES):
                    continue
                name, path = f"{prefix}{file}".lower(), os.path.join(directory, file)
                if name in self.pictures:
                    self.add("pictures of one name", f"{self.pictures[name]} and {path}")
                self.pictures[name] = path

    def record(self, name: str, mos: float, where: str, *known, written: str = "") -> None:
        """Keeps the row of an image; a second one is a fault.

        Args:
          name: of the image, in any case.
          mos: its label.
          where: the row is.
          *known: the record's reference, distortion and level.
          written: what the row calls the image, if it is not `name`.
        """
        if name in self.records:
            self.add("rows for a picture that has one already", f"{where} {written or name}")
        self.records[name] = Record(self.path(self.pictures.get(name.lower(), "")), mos, str(name), *known)

    def record_file(self, written: str, mos: float, where: str, *known, inside: str = "") -> None:
        """Keeps a row of somebody's own table, which names a file by its path below the folder or `inside` it."""
        name = posixpath.normpath(written)
        if leaves(name) or not written:
            self.add("paths that leave the folder or are empty", f"{where} {written!r}")
            return
        if name in self.records:
            self.add("rows for a picture that has one already", f"{where} {name} (as {self._first_row[name]})")
        elif not os.path.isfile(self.path(inside, name)):
            self.add("missing pictures", f"{where} {name}")
        self._first_row.setdefault(name, where)
        self.records[name] = Record(self.path(inside, name), mos, name, *known)

    def complete(self, count: int = 0, expected: Iterable[str] = (), extra_allowed: Iterable[str] = ()) -> None:
        """Every row is to have its image, and every image its row; if the reading is partial, other rows are left out.

        Args:
          count: how many rows there are to be; 0 if others count them.
          expected: the names that are to have rows, if these are known.
          extra_allowed: images that have no row.
        """
        if self._partial:
            self.records = {name: r for name, r in self.records.items() if name.lower() in self.pictures}
            return
        expected = list(expected) or list(self.records)
        self.add_all("pictures without a row", (name for name in expected if name not in self.records))
        self.add_all("missing pictures", (name for name in expected if name.lower() not in self.pictures))
        known = {name.lower() for name in (*expected, *extra_allowed)}
        self.add_all("extra pictures", (path for name, path in self.pictures.items() if name not in known))
        if count:
            self.count(len(self.records), count, "rows")

    def sort(self, key: Callable[[Record], Any], reverse: bool = False) -> None:
        """Puts the records into the order of `key`; equal ones stay as they are."""
        self.records = {r.id: r for r in sorted(self.records.values(), key=key, reverse=reverse)}

    def dataset(self, score_range: tuple[float, float], higher_is_better: bool, **more) -> Dataset:
        """All records and `more` fields of a Dataset. Raises DataError with all faults, if there are any."""
        self.refuse()
        return Dataset(self._name, [*self.records.values()], score_range, higher_is_better, **more)
