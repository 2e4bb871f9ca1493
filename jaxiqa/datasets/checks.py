"""What all readers share: they find files, keep records, and list all faults of a folder in one DataError."""

import collections
import dataclasses
import glob
import math
import ntpath
import os
import posixpath
import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any

from jaxiqa.datasets import fact, facts, file_names
from jaxiqa.datasets.image_files import IMAGES, search
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import ConfigError, DataError

SHOWN = 10  # faults of one kind that the message lists

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
      text: description, in the plural.
      check: the check of the doctor that reports it, in one word.
      fix: what to do about it; "" means: get the dataset as its reader's HOW_TO_GET says.
    """

    text: str
    check: str = "names"
    fix: str = ""


@dataclasses.dataclass(frozen=True)
class Fault:
    """All faults of one kind: fields of its Kind, and the files and rows; an entry of DataError.faults."""

    kind: str
    check: str
    fix: str
    where: tuple[str, ...]


def option(**values) -> str:
    """Returns the flags that set options of a dataset, for messages."""
    flags = (shlex.quote(f"--config.dataset.{key}={value}") for key, value in values.items())
    others = (f"--option {shlex.quote(f'{key}={value}')}" for key, value in values.items())
    return f"{' '.join(flags)} (without a config: {' '.join(others)})"


_ROWS = "correct these rows"
_LABELS = "correct these rows or leave them out"
EMPTY_LABELS = Kind("empty labels", "labels", _LABELS)
NON_FINITE_LABELS = Kind("labels that are NaN or infinite", "labels", _LABELS)
DECIMAL_COMMAS = Kind("labels with a comma", "labels", "write all labels with a decimal point and without separators")
PERCENT_SIGNS = Kind("labels with a percent sign", "labels", "write the numbers alone, and set the option score_range")
NO_NUMBERS = Kind("labels that are not a number", "labels", _LABELS)
WRONG_COUNTS = Kind("wrong counts", "counts", "take images and labels of one release, all of them")
SAME_NAMES = Kind("images of one name", fix="remove one of the two")
REPEATED_ROWS = Kind(
    "rows for an image that has one already", fix="keep one row for each image, with the mean of its ratings as label"
)
NO_ROWS = Kind("images without a row", fix="take the owners' list of labels, all of it")
MISSING_IMAGES = Kind(
    "missing images",
    "counts",
    f"unpack the owners' archive over the folder once more; {option(allow_partial=True)} reads the images that exist",
)
MISSING_FILES = Kind(
    MISSING_IMAGES.text, "counts", "correct these paths, which are relative to the folder, or leave these rows out"
)
LOSSY_COPIES = Kind(
    "images that exist only as a copy in a lossy format",
    "counts",
    "take the owners' files, or copies of them without loss (.png): a lossy copy has not the quality that was rated",
)
OUTSIDE_PATHS = Kind("paths that leave the folder or are empty", fix="write paths relative to the folder")
EXTRA_IMAGES = Kind("extra images", fix="move them out of the folder: the owners' list does not name them")


def outside(lo: float, hi: float) -> Kind:
    """The kind of labels that are not within lo..hi."""
    fix = (
        "this is another scale or another column; use the owners' list of labels, or for a dataset with the option "
        f"score_range give the ends of the scale, e.g. {option(score_range='(0, 100)')}"
    )
    return Kind(f"labels outside {lo:g}..{hi:g}", "labels", fix)


def incomplete_rows(what: str) -> Kind:
    """The kind of rows that lack `what`."""
    return Kind(f"rows without {what}", fix=_ROWS)


class Faults:
    """Collects the faults of one dataset folder by kind; `refuse` raises them together."""

    def __init__(self, name: str, folder: str, remedy: str = ""):
        self._title, self._remedy = f"{name} in {folder}", remedy
        self._folder = folder
        self._found: dict[Kind, list[str]] = {}
        self._said: dict[str, None] = {}

    def say(self, how: str) -> None:
        """Keeps how a file was interpreted, for `tell`."""
        self._said[how] = None

    def tell(self) -> None:
        """Prints in one line how files were interpreted, if they were."""
        if self._said:
            print(f"note: {self._title}: {'; '.join(self._said)}")

    def add(self, kind: Kind | str, where: str) -> None:
        """Adds a fault, in the file and row `where`."""
        self._found.setdefault(Kind(kind) if isinstance(kind, str) else kind, []).append(where)

    def add_all(self, kind: Kind | str, where: Iterable[str]) -> None:
        """Adds several faults of one kind."""
        for one in where:
            self.add(kind, one)

    def label(self, text: str, where: str, limits: tuple[float, float]) -> float:
        """Returns the number in `text`. Anything but a finite number within `limits` is added as a fault; then NaN."""
        text = text.strip()
        lo, hi = limits
        if not text:
            self.add(EMPTY_LABELS, where)
        elif text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            self.add(NON_FINITE_LABELS, f"{where} {text!r}")
        elif re.fullmatch(r"[+-]?\d*,\d+", text):
            self.add(DECIMAL_COMMAS, f"{where} {text!r}")
        elif re.fullmatch(r"[+-]?[\d.,]+ ?%", text):
            self.add(PERCENT_SIGNS, f"{where} {text!r}")
        elif not _NUMBER.fullmatch(text):
            self.add(NO_NUMBERS, f"{where} {text!r}")
        elif not lo <= float(text) <= hi:
            self.add(outside(lo, hi), f"{where} {text}")
        else:
            return float(text)
        return math.nan

    def count(self, found: int, expected: int, what: str) -> None:
        """Adds a fault if the number of `what` is not the expected one."""
        if found != expected:
            self.add(WRONG_COUNTS, f"{found:,} {what} instead of {expected:,}")

    def refuse(self) -> None:
        """Raises one DataError if there are faults. It lists the count, the first ten and the fix of each kind."""
        if not self._found:
            return
        lines = [self._title + ": " + ", ".join(f"{len(w):,} {kind.text}" for kind, w in self._found.items())]
        for kind, where in self._found.items():
            more = f", and {len(where) - SHOWN:,} more" if len(where) > SHOWN else ""
            lines.append(f"  {kind.text}: {', '.join(where[:SHOWN])}{more}" + (f" -> {kind.fix}" if kind.fix else ""))
        if self._remedy:
            lines.append(f"  How to get it: {self._remedy}")
        error = DataError("\n".join(lines), code="faults", key=self._folder)
        error.faults = tuple(Fault(k.text, k.check, k.fix, tuple(where)) for k, where in self._found.items())
        raise error


def limits(name: str, score_range) -> tuple[float, float]:
    """Returns the option score_range as (lo, hi). Raises ConfigError unless these are two finite numbers, lo < hi."""
    try:
        lo, hi = map(float, score_range)
    except (TypeError, ValueError):
        lo = hi = math.nan
    if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
        raise ConfigError(
            f"{name}: score_range must be two numbers, lo < hi, not {score_range!r}", code="value", key="score_range"
        )
    return lo, hi


def spread_of(text: str | None, unit: float = 1.0) -> float | None:
    """Returns the standard deviation in `text`, times `unit`; None if it is not a finite number of 0 or more.

    A bad value is not a fault: owners' files have it beside the label, and most users do not need it.
    """
    return float(text) * unit if text and _NUMBER.fullmatch(text.strip()) and 0 <= float(text) < math.inf else None


def shares(texts: Iterable[str | None]) -> tuple[float, ...]:
    """Returns counts or proportions of ratings as proportions; () if one is not a number of 0 or more, or all are 0."""
    found = [spread_of(text) for text in texts]
    numbers = [n for n in found if n is not None]
    total = sum(numbers)
    return tuple(n / total for n in numbers) if total and len(numbers) == len(found) else ()


def leaves(path: str) -> bool:
    """Whether a normalised path leads out of the dataset's folder."""
    return path.split("/")[0] == ".." or posixpath.isabs(path) or bool(ntpath.splitdrive(path)[0]) or path[:1] == "\\"


def home_of(name: str, folder: str) -> str:
    """Returns the folder of a dataset: `folder`, or the only folder in it, one or two levels down, that has a marker.

    If `folder` itself has a marker, or if the dataset is a user's own (ANYONES), `folder` is returned.
    """
    markers = () if fact(name, "ANYONES") else fact(name, "MARKERS")
    for level in ("", "*", os.path.join("*", "*")):
        here = os.path.join(glob.escape(folder), level) if level else glob.escape(folder)
        files = {file: marker for marker in markers for file in glob.glob(os.path.join(here, marker))}
        found = {file.removesuffix(os.sep + marker) for file, marker in files.items()}
        if level:
            found = {place for place in found if fact(name, "holds")(place)}
        if found:
            return found.pop() if level and len(found) == 1 else folder
    return folder


def recognised(folder: str | os.PathLike) -> list[str]:
    """Keys of the datasets that a folder may hold, by the label files in it."""

    def has(marker):
        return glob.glob(os.path.join(glob.escape(os.fspath(folder)), marker))

    found = [key for key, markers in facts("MARKERS").items() if any(map(has, markers)) and fact(key, "holds")(folder)]
    return [key for key in found if not fact(key, "ANYONES")] or found


class Reading(Faults):
    """What a reader has found so far: images, records, and faults of a folder.

    Attributes:
      folder: data_dir as a str, with ~ expanded.
      images: {lower-case name: path relative to `folder`}; `list_images` adds to it.
      records: {name: Record}; `record` and `record_file` add to it.
    """

    def __init__(self, name: str, data_dir, how_to_get: str, partial: bool = False, remedy: str | None = None):
        """Checks that the folder exists.

        Args:
          name: key of the dataset.
          data_dir: the folder.
          how_to_get: how to get the dataset, for messages.
          partial: True leaves out rows without an image, False refuses them.
          remedy: replaces how_to_get in the message of `refuse`.

        Raises:
          ConfigError: data_dir is empty.
          DataError: data_dir is not a folder.
        """
        self.folder = os.path.expanduser(os.fspath(data_dir))
        if not self.folder:
            raise ConfigError(
                f"{name} needs --data_dir or --config.dataset.data_dir. How to get it: {how_to_get}",
                code="missing",
                key="data_dir",
            )
        if not os.path.isdir(self.folder):
            raise DataError(
                f"{name}: there is no folder {self.folder}; name the folder of the dataset by --data_dir or "
                f"--config.dataset.data_dir. How to get it: {how_to_get}",
                code="not_found",
                key=self.folder,
            )
        given, self.folder = self.folder, home_of(name, self.folder)
        super().__init__(name, self.folder, how_to_get if remedy is None else remedy)
        if self.folder != given:
            self.say(f"its files are in this folder, not in {given}")
        self._name, self._how_to_get, self._partial = name, how_to_get, partial
        self.images: dict[str, str] = {}
        self.records: dict[str, Record] = {}
        self._by_stem: dict[str, list[str]] = {}  # names in `images` without their endings
        self._copies: collections.Counter[tuple[str, str]] = collections.Counter()  # endings: of a copy, of its name
        self._lossy: dict[str, str] = {}
        self._first_row: dict[str, str] = {}  # filled by record_file
        self._files: dict[str, str] = {}  # filled by locate: the files that names mean
        self._near: dict[str, str] = {}  # and what there is like other names

    def path(self, *parts: str) -> str:
        """Returns a path in the folder."""
        return os.path.join(self.folder, *parts)

    def has(self, *parts: str) -> bool:
        """Whether the folder has this file or folder."""
        return os.path.exists(self.path(*parts))

    def find(self, *candidates: str, hint: str = "") -> str:
        """Returns the first of `candidates` (files or folders) that exists, in any case, or in one other folder.

        Raises:
          DataError: none exists. The message says if the folder has another dataset, and adds `hint`.
        """
        for candidate in candidates:
            if self.has(candidate):
                return candidate
        below = [] if fact(self._name, "ANYONES") else [d.name for d in os.scandir(self.folder) if d.is_dir()]
        for places in ([""], [d for d in below if not {*recognised(self.path(d))} - {self._name}]):
            found = {
                os.path.join(place, there): candidate
                for candidate in candidates
                for place in places
                if (there := file_names.in_any_case(self.path(place), candidate))
            }
            if len(found) == 1:
                ((there, candidate),) = found.items()
                self.say(f"{there} for {candidate}")
                return there
        seen = ""
        inner = [d for d in sorted(os.listdir(self.folder)) if self.has(d, candidates[0])]
        others = [key for key in recognised(self.folder) if not fact(key, "ANYONES")]
        if inner:
            seen = f"; did you mean {self.path(inner[0])}?"
        elif others and self._name not in others:
            seen = f"; this looks like {' or '.join(others)}"
        raise DataError(
            f"{self._name}: {self.folder} has no {' or '.join(candidates)}{seen}. How to get it: "
            f"{self._how_to_get}{hint}",
            code="not_found",
            key=self.path(candidates[0]),
        )

    def list_images(self, *inside: str, prefix: str = "") -> None:
        """Adds the images directly in these folders to `images`, each named `prefix` + its file name.

        Folders that do not exist, hidden files, and files that are not images (Thumbs.db, readme) are left out. Names
        are compared without case, because archives of the same dataset differ in case. Two files of one name are a
        fault.
        """
        for folder in inside:
            directory = folder if os.path.isdir(self.path(folder)) else file_names.in_any_case(self.folder, folder)
            if not os.path.isdir(self.path(directory)) or (folder and not directory):
                continue
            for file in sorted(os.listdir(self.path(directory))):
                if file.startswith(".") or not file.lower().endswith(IMAGES):
                    continue
                name, path = f"{prefix}{file}".lower(), os.path.join(directory, file)
                if name in self.images:
                    self.add(SAME_NAMES, f"{self.images[name]} and {path}")
                else:
                    self._by_stem.setdefault(os.path.splitext(name)[0], []).append(name)
                self.images[name] = path

    def image(self, name: str) -> str:
        """Returns the path in the folder of an image, named in any case; "" if it does not exist.

        If the only file of this name has another format without loss, it is the image, and `images` has it under `name`
        from now on.
        """
        name = name.lower()
        if name not in self.images:
            stem, ending = os.path.splitext(name)
            for other in self._by_stem.get(stem, ()):
                there = os.path.splitext(other)[1]
                if not file_names.is_copy(there, ending):
                    self._lossy[name] = self.images[other]
                elif other in self.images:
                    self._copies[there, ending] += 1
                    self.images[name] = self.images.pop(other)
                    break
        return self.images.get(name, "")

    def record(self, name: str, mos: float, where: str, *known, written: str = "", **spread) -> None:
        """Keeps the row of an image; a second one is a fault.

        Args:
          name: name of the image, in any case.
          mos: its label.
          where: file and row.
          *known: reference, distortion and level of the record.
          written: the name as the row has it, if this is not `name`.
          **spread: std and histogram of the record.
        """
        if name in self.records:
            self.add(REPEATED_ROWS, f"{where} {written or name}")
        self.records[name] = Record(self.path(self.image(name)), mos, str(name), *known, **spread)

    def locate(self, written: Iterable[str], inside: str = "") -> None:
        """Finds the files that a table names, for record_file: as they are written, or else what they can only mean.

        Args:
          written: the paths in the table, relative to the folder or to `inside` in it.
          inside: a folder in the folder.
        """
        home = self.path(inside)
        written = list(dict.fromkeys(written))
        for name in written:
            path = posixpath.normpath(name)
            if posixpath.isabs(path):
                path = os.path.relpath(path, os.path.abspath(home))
            if name and not leaves(path) and os.path.isfile(os.path.join(home, path)):
                self._files[name] = path
        rest = [name for name in written if name and name not in self._files]
        if not rest:
            return
        there = (os.path.relpath(path, home) for path in search(home).images)
        files = file_names.Files(there)
        found = {name: file for name in rest if (file := files.find(name))}
        if not found and len(rest) == len(written):
            found = files.find_elsewhere(rest)
        if found:
            name, file = next(iter(found.items()))
            self.say(
                f"{len(found):,} of {len(written):,} names are read as files of the folder, such as {name} as {file}"
            )
        self._files |= found
        for name in rest:
            if name not in found and (near := files.near(name)):
                lossy = "" if file_names.fits(name, near[0]) else ", in a lossy format"
                self._near[name] = f" (there is {near[0]}{lossy})"

    def record_file(self, written: str, mos: float, where: str, *known, inside: str = "", **spread) -> None:
        """Keeps a row of a table that names each image by its path, after `locate`; `inside` as there."""
        name = self._files.get(written) or posixpath.normpath(written)
        if leaves(name) or not written:
            self.add(OUTSIDE_PATHS, f"{where} {written!r}")
            return
        if name in self.records:
            self.add(REPEATED_ROWS, f"{where} {name} (as {self._first_row[name]})")
        elif written not in self._files:
            self.add(MISSING_FILES, f"{where} {name}{self._near.get(written, '')}")
        self._first_row.setdefault(name, where)
        self.records[name] = Record(self.path(inside, name), mos, name, *known, **spread)

    def complete(self, count: int = 0, expected: Iterable[str] = (), extra_allowed: Iterable[str] = ()) -> None:
        """Adds a fault for every row without an image and every image without a row; if partial, leaves out such rows.

        Args:
          count: the expected number of rows; 0 if the caller counts them.
          expected: the names that must have a row, if they are known.
          extra_allowed: images that need no row.

        Raises:
          DataError: partial, and no row has an image.
        """
        expected, extra_allowed = list(expected) or list(self.records), list(extra_allowed)
        for name in extra_allowed:
            self.image(name)
        missing = [name for name in expected if not self.image(name)]
        if self._copies:
            copies = (f"{n:,} images are {there} for {listed}" for (there, listed), n in self._copies.items())
            self.say(f"{', '.join(copies)} (the same pixels)")
        lossy = [f"{self._lossy[name.lower()]} for {name}" for name in missing if name.lower() in self._lossy]
        if self._partial:
            kept = {name: r for name, r in self.records.items() if name.lower() in self.images}
            if self.records and not kept:
                self.add_all(LOSSY_COPIES, lossy)
                self.refuse()
                raise DataError(
                    f"{self._name}: none of the {len(self.records):,} rows of the labels has an image among the "
                    f"{len(self.images):,} images in {self.folder}. How to get it: {self._how_to_get}",
                    code="empty",
                    key=self.folder,
                )
            if left := len(self.records) - len(kept):
                self.say(f"{left:,} of {len(self.records):,} rows have no image and are left out")
            self.records = kept
            return
        self.add_all(NO_ROWS, (name for name in expected if name not in self.records))
        self.add_all(LOSSY_COPIES, lossy)
        self.add_all(MISSING_IMAGES, (name for name in missing if name.lower() not in self._lossy))
        known = {name.lower() for name in (*expected, *extra_allowed)}
        known_files = {*self._lossy.values()}
        extra = (path for name, path in self.images.items() if name not in known and path not in known_files)
        self.add_all(EXTRA_IMAGES, extra)
        if count:
            self.count(len(self.records), count, "rows")

    def sort(self, key: Callable[[Record], Any], reverse: bool = False) -> None:
        """Sorts the records by `key`; the order of equal ones stays."""
        self.records = {r.id: r for r in sorted(self.records.values(), key=key, reverse=reverse)}

    def dataset(self, score_range: tuple[float, float], higher_is_better: bool, **more) -> Dataset:
        """Returns the Dataset of all records, with `more` of its fields. Raises DataError if there are faults."""
        self.refuse()
        self.tell()
        return Dataset(self._name, [*self.records.values()], score_range, higher_is_better, **more)
