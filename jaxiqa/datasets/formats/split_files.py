"""Split files: those that other projects publish, and our own JSON.

| file | form | members |
| --- | --- | --- |
| x.json | written by write_split | ids of the records |
| x.csv or x.csv:COLUMN | pyiqa's meta_info_*.csv: a column whose name has "split" in it | paths |
| x.pkl | pyiqa, LoDa: {round: {"train": [...], "val": [...], "test": [...]}} | row numbers |
| folder with train.npy, val.npy, test.npy | ARNIQA: int64, a row per round, padded with -1 | row numbers |
| folder with R/x_train_clip.txt, x_val_clip.txt, x_test_clip.txt | LIQE: tab-separated lines for round R | paths |

Row numbers begin at 0 and count the owners' list of labels (`Dataset.listed`): LIVE by folder and number, CSIQ as
csiq_label.txt, others in the order of their records, LIVE Challenge without its seven practice images. Paths are
compared by their last parts, without case. Rows of a table (csv) without a record are skipped: practice images and
FLIVE's patches. For LIVE Challenge, pyiqa itself assigns the csv columns to images that are seven rows off; here,
images are matched by name, as intended.

Columns that end in a number are the rounds of one split. Its name has no number: x.csv:ratio802_seed123_split. A table
with one split needs no name.

pyiqa's random splits have two parts, train and val; test is empty or missing. make_split tests on that val.
"""

import collections
import glob
import json
import os
import re
from collections.abc import Iterable

import numpy as np
from etils import epath

from jaxiqa.datasets.checks import Faults
from jaxiqa.datasets.formats import tables
from jaxiqa.datasets.formats.index_pickle import read_index_pickle
from jaxiqa.datasets.formats.meta_csv import read_meta
from jaxiqa.datasets.records import Dataset
from jaxiqa.errors import ConfigError, DataError, full_disk, read_code
from jaxiqa.files import json_text

PARTS = ("train", "val", "test")
_CLIP = "_train_clip.txt"


def read_split(file: str | os.PathLike, dataset: Dataset, round_: int) -> tuple[dict[str, list[int]], str, int | None]:
    """Reads a split file.

    Args:
      file: one of the forms above.
      dataset: the dataset that the file splits.
      round_: which of its splits; 1 for files that hold one.

    Returns:
      Record indices by part, the name of the split, and its seed (None unless the file states it). If the file has only
      two parts, `val` or `test` is empty.

    Raises:
      ConfigError: the file has no such round; or it has several splits, and none or an unknown one is named.
      DataError: the file cannot be read, or does not put every record into exactly one part. It may leave out the
        records that the dataset's official split leaves out.
    """
    file = os.path.expanduser(os.fspath(file))
    table = re.fullmatch(r"(.*\.csv)(?::(.+))?", file, re.DOTALL | re.IGNORECASE)
    path, column = table.groups() if table else (file, None)
    if not os.path.exists(path):
        raise DataError(f"there is no split file or folder {path}", code="not_found", key=path)
    faults = Faults(f"split of {dataset.name}", path)
    words = os.path.abspath(path).split(os.sep)
    name, seed = f"split file {words[-1]}", None
    extension = os.path.splitext(path)[1].lower()
    if os.path.isdir(path):
        name = f"split file {'/'.join(words[-2:])}"  # the folder itself is called "splits" for every dataset
        if os.path.exists(os.path.join(path, "train.npy")):
            parts = _by_number(_read_npy(path, round_), dataset, faults)
        else:
            parts = _by_path(_read_clip(path, round_, faults), dataset, faults)
    elif extension == ".csv":
        rows, column = _read_csv(path, column, round_, faults)
        parts, name = _by_path(rows, dataset, faults, skip=True), f"{name}, column {column}"
    elif extension == ".pkl":
        rounds = read_index_pickle(path)
        _choose(path, rounds, round_)
        parts = _by_number({part: rounds[round_].get(part, []) for part in PARTS}, dataset, faults)
    elif extension == ".json":
        parts, name, seed = _read_json(path, dataset, round_, faults)
    else:
        raise ConfigError(
            f"split file {path} must be a .json, .csv or .pkl, or a folder with train.npy, val.npy and test.npy or "
            f"with *{_CLIP}",
            code="format",
            key=path,
        )
    _check(parts, dataset, faults)
    shared = _references_in_several(parts, dataset)
    if shared and extension != ".json":  # the name of a JSON file says it already
        name += f" ({shared} references in several parts)"
    return parts, name, seed


def write_split(path: str | os.PathLike, split, dataset: Dataset, data: str = "") -> None:
    """Writes a split of make_split as JSON: the ids of the records in each part, and how they were chosen.

    `data` is the fingerprint of the files (file_sizes.py), for refuse_other_data.

    Raises:
      ConfigError: the file cannot be written.
    """
    about = {"dataset": dataset.name, "name": split.name, "seed": split.seed, "round": split.round}
    about |= {"selection": split.selection, "fingerprint": split.fingerprint, "data": data}
    try:
        with full_disk(path):
            epath.Path(path).write_text(json_text(about | _ids(split, dataset), 1) + "\n")
    except OSError as e:
        raise ConfigError(
            f"{os.fspath(path)} cannot be written ({e.strerror}); name another file", code="unwritable", key=path
        ) from e


def refuse_other_data(path: str | os.PathLike, split, dataset: Dataset, data: str) -> None:
    """Raises ConfigError if the split file of a resumed run has another fingerprint than the data has now.

    Args:
      path: the split file; a missing or incomplete one is not checked.
      split: the split that the data has now.
      dataset: its dataset.
      data: fingerprint of the files (file_sizes.py).
    """
    before = read_own(path).get("data")
    if before and before != data:
        raise ConfigError(
            f"{path}: the dataset has changed since this run began ({what_changed(path, split, dataset)}; fingerprint "
            f"{before} then, {data} now), so its split may put other images into the test; restore the dataset, or use "
            "another --workdir",
            code="changed",
            key=path,
        )


def what_changed(path: str | os.PathLike, split, dataset: Dataset) -> str:
    """Returns how the images of a split differ from those in a split file of write_split, in words."""
    then, now = ({i for part in PARTS for i in ids.get(part, ())} for ids in (read_own(path), _ids(split, dataset)))
    words = [
        f"{len(names):,} images {what}, such as {min(names)}"
        for what, names in (("are new", now - then), ("are gone", then - now))
        if names
    ]
    return "; ".join(words) or "the images are the same, their labels, files or parts are not"


def read_own(path: str | os.PathLike) -> dict:
    """Returns the content of a split file of write_split; {} if a killed run did not complete it."""
    try:
        content = json.loads(epath.Path(path).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _ids(split, dataset: Dataset) -> dict[str, list[str]]:
    legacy = split.selection == "legacy"  # val is the test part
    members = {"train": split.train, "val": [] if legacy else split.val, "test": split.test}
    return {part: [dataset.records[i].id for i in indices] for part, indices in members.items()}


# ---- The forms: each returns row numbers or paths by part ------------------------------------------------------------


def _read_json(
    path: str, dataset: Dataset, round_: int, faults: Faults
) -> tuple[dict[str, list[int]], str, int | None]:
    try:
        content = json.loads(tables.read_text(path))
        name, seed, own, number = (content[key] for key in ("name", "seed", "dataset", "round"))
        ids = {part: [str(i) for i in content[part]] for part in PARTS}
    except (ValueError, KeyError, TypeError) as e:
        raise DataError(f"{path} is not a split that jaxiqa wrote ({e})", code="format", key=path) from e
    if own != dataset.name:
        raise ConfigError(f"{path} is a split of {own}, not of {dataset.name}", code="mismatch", key=path)
    _choose(path, [number], round_)
    index = {r.id: i for i, r in enumerate(dataset.records)}
    faults.add_all(
        "ids that are not in the dataset", (i for members in ids.values() for i in members if i not in index)
    )
    return {part: [index[i] for i in members if i in index] for part, members in ids.items()}, name, seed


def _read_csv(
    path: str, family: str | None, round_: int, faults: Faults
) -> tuple[dict[str, list[tuple[str, str]]], str]:
    """Paths by part, from the column for `round_`. Rounds of one split end in a number: ratio802_seed123_split_01."""
    meta = read_meta(path, faults)
    families: dict[str, dict[int, str]] = {}
    for column in meta.splits:
        stem = column.rstrip("0123456789")
        number = column[len(stem) :]
        families.setdefault(stem.removesuffix("_") if number else column, {})[int(number or 1)] = column
    if not families:
        raise DataError(f"{path} has no column with 'split' in its name", code="missing", key=path)
    family = family or (next(iter(families)) if len(families) == 1 else "")
    if family not in families:
        choices = ", ".join(f"{os.path.basename(path)}:{name}" for name in families)
        raise ConfigError(
            f"split file {path} has several splits; name one of them: {choices}",
            code="unknown" if family else "missing",
            key=path,
        )
    _choose(path, families[family], round_)
    column = families[family][round_]
    found: dict[str, list[tuple[str, str]]] = {part: [] for part in (*PARTS, "")}
    for (where, row), part in zip(meta.rows, meta.parts(column, faults), strict=True):
        found[part].append((where, row[meta.image]))
    return {part: found[part] for part in PARTS}, column


def _read_npy(folder: str, round_: int) -> dict[str, list[int]]:
    parts = {}
    for part in PARTS:
        path = os.path.join(folder, f"{part}.npy")
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as e:
            raise DataError(
                f"{path} cannot be read as a NumPy array of integers ({e})",
                code=read_code(e) if isinstance(e, OSError) else "format",
                key=path,
            ) from e
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu" or array.ndim not in (1, 2):
            raise DataError(f"{path} must hold integers, one row for each round", code="format", key=path)
        rows = np.atleast_2d(array)
        _choose(path, range(1, len(rows) + 1), round_)
        parts[part] = [int(i) for i in rows[round_ - 1] if i != -1]
    return parts


def _read_clip(folder: str, round_: int, faults: Faults) -> dict[str, list[tuple[str, str]]]:
    home = os.path.join(folder, str(round_))
    if not os.path.isdir(home):
        _choose(folder, [int(d) for d in os.listdir(folder) if d.isdecimal()] or [1], round_)
        home = folder
    found = sorted(glob.glob(os.path.join(glob.escape(home), f"*{_CLIP}")))
    if len(found) != 1:
        raise DataError(
            f"{home} has {len(found)} files *{_CLIP} instead of one, and no train.npy", code="format", key=home
        )
    parts = {}
    for part in PARTS:
        lines = tables.read_words(found[0].removesuffix(_CLIP) + f"_{part}_clip.txt", 6, faults, "\t")
        parts[part] = [(where, words[0]) for where, words in lines]
    return parts


def _choose(path: str, rounds: Iterable[int], round_: int) -> None:
    rounds = sorted(rounds)
    if round_ not in rounds:
        raise ConfigError(
            f"{path} has no round {round_}; it has {', '.join(map(str, rounds))}", code="not_found", key=path
        )


# ---- From row numbers and paths to records ---------------------------------------------------------------------------


def _by_number(numbers: dict[str, list[int]], dataset: Dataset, faults: Faults) -> dict[str, list[int]]:
    index = {r.id: i for i, r in enumerate(dataset.records)}
    order = list(index.values()) if dataset.listed is None else [index[i] for i in dataset.listed]
    outside = sorted({n for rows in numbers.values() for n in rows if not 0 <= n < len(order)})
    faults.add_all(f"row numbers outside 0..{len(order) - 1} (are all images there?)", map(str, outside))
    return {part: [order[n] for n in rows if 0 <= n < len(order)] for part, rows in numbers.items()}


def _by_path(
    names: dict[str, list[tuple[str, str]]], dataset: Dataset, faults: Faults, skip: bool = False
) -> dict[str, list[int]]:
    index = {r.id.lower(): i for i, r in enumerate(dataset.records)}
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for part, rows in names.items():
        for where, name in rows:
            words = name.lower().replace("\\", "/").split("/")
            ends = ("/".join(words[start:]) for start in range(len(words)))
            found = next((index[end] for end in ends if end in index), None)
            if found is not None:
                parts[part].append(found)
            elif not skip:
                faults.add("images that are not in the dataset", f"{where} {name}")
    return parts


def _check(parts: dict[str, list[int]], dataset: Dataset, faults: Faults) -> None:
    count = collections.Counter(i for members in parts.values() for i in members)
    trained = {r.id for r in dataset.records if r.reference in dataset.train_only}
    official = dataset.official_split
    placed = range(len(dataset)) if official is None else sorted(i for members in official.values() for i in members)
    faults.add_all(
        "images that are more than once in its parts", (dataset.records[i].id for i, n in count.items() if n > 1)
    )
    faults.add_all("images that are in no part", (dataset.records[i].id for i in placed if i not in count))
    kept = (dataset.records[i].id for i in (*parts["val"], *parts["test"]))
    faults.add_all("images for training only in val or test", (i for i in kept if i in trained))
    if not parts["train"] or not (parts["val"] or parts["test"]):
        faults.add("empty parts", ", ".join(part for part in PARTS if not parts[part]))
    faults.refuse()


def _references_in_several(parts: dict[str, list[int]], dataset: Dataset) -> int:
    seen = collections.Counter(r for p in parts.values() for r in {dataset.records[i].reference for i in p} if r)
    return sum(n > 1 for n in seen.values())
