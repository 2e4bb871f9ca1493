"""Checks that every reader shares: all that is wrong with a dataset is listed at once, in one DataError."""

import math
import ntpath
import os
import posixpath
import re
from collections.abc import Iterable, Sequence

from jaxiqa.errors import ConfigError, DataError

SHOWN = 10  # faults of one kind that are written out
PICTURES = (  # what inputs/decode.py reads
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm", ".pbm", ".jp2",
    ".j2k", ".jpf", ".avif",
)  # fmt: skip

# A label file that only this dataset has tells which folder one was given by mistake.
MARKERS = {
    "dmos.csv": "kadid10k",
    "koniq10k_distributions_sets.csv": "koniq10k",
    "koniq10k_scores_and_distributions.csv": "koniq10k",
    "mos_with_names.txt": "tid2013 or tid2008",
    "csiq.DMOS.xlsx": "csiq",
    "csiq_label.txt": "csiq",
    "Data/AllMOS_release.mat": "livec",
    "refnames_all.mat": "live",
    "Part 1/Imagelists.mat": "livemd",
    "Annotations/MOS and Image attribute scores.xlsx": "spaq",
    "labels_image.csv": "flive",
    "DatabaseGrades.xlsx": "bid",
    "CID2013 data - version 12112014.xlsx": "cid2013",
    "Train_Label": "pipal",
    "kadis700k_ref_imgs.csv": "kadis700k",
    "saqt.json": "saqt",
}

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Faults:
    """Collects the faults of one dataset folder by kind; `refuse` raises them together."""

    def __init__(self, name: str, folder: str, how_to_get: str = ""):
        self._title, self._how_to_get = f"{name} in {folder}", how_to_get
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

    def compare(self, names: Iterable[str], pictures: dict[str, str], extra_allowed: Iterable[str] = ()) -> None:
        """Pictures that `names` asks for and are not there, and pictures that neither it nor `extra_allowed` knows."""
        names = list(names)
        self.add_all("missing pictures", (n for n in names if n.lower() not in pictures))
        known = {n.lower() for n in names} | {n.lower() for n in extra_allowed}
        self.add_all("extra pictures", (path for n, path in pictures.items() if n not in known))

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
        if self._how_to_get:
            lines.append(f"  How to get it: {self._how_to_get}")
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


def open_folder(name: str, data_dir, how_to_get: str) -> str:
    """`data_dir` as a str with ~ expanded. Raises ConfigError where it is empty, DataError where it is no folder."""
    if not os.fspath(data_dir):
        raise ConfigError(f"{name} needs --data_dir or --config.dataset.data_dir. How to get it: {how_to_get}")
    folder = os.path.expanduser(os.fspath(data_dir))
    if not os.path.isdir(folder):
        raise DataError(f"{name}: there is no folder {folder}. How to get it: {how_to_get}")
    return folder


def find_one(name: str, folder: str, candidates: tuple[str, ...], how_to_get: str) -> str:
    """The first of `candidates` (files or folders) that is in `folder`; else a DataError that says what was given."""
    for candidate in candidates:
        if os.path.exists(os.path.join(folder, candidate)):
            return candidate
    hint = ""
    inner = [d for d in sorted(os.listdir(folder)) if os.path.exists(os.path.join(folder, d, candidates[0]))]
    others = [key for marker, key in MARKERS.items() if os.path.exists(os.path.join(folder, marker))]
    if inner:
        hint = f"; did you mean {os.path.join(folder, inner[0])}?"
    elif others and name not in others[0]:
        hint = f"; this looks like {others[0]}"
    raise DataError(f"{name}: {folder} has no {' or '.join(candidates)}{hint}. How to get it: {how_to_get}")


def list_pictures(folder: str, inside: Sequence[str], faults: Faults) -> dict[str, str]:
    """Pictures directly in the folders `inside`, as {lower-case file name: path relative to `folder`}.

    Names are compared without case, because archives of the same dataset differ in it; two files of one name are a
    fault. Hidden files and files that are no pictures (Thumbs.db, readme) are left out.
    """
    found: dict[str, str] = {}
    for directory in inside:
        for file in sorted(os.listdir(os.path.join(folder, directory))):
            if file.startswith(".") or not file.lower().endswith(PICTURES):
                continue
            path = os.path.join(directory, file)
            if file.lower() in found:
                faults.add("pictures of one name", f"{found[file.lower()]} and {path}")
            found[file.lower()] = path
    return found
