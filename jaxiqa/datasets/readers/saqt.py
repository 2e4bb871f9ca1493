"""SAQT: a pool of pristine images to distort, with labels transferred from a rated dataset's most similar images.

`jaxiqa transfer` writes the files that are read here: sources.csv (images of the pool, the sources, and the
reference that each is matched to), reference_labels.csv (the rated dataset's scores by reference, type and level) and
saqt.json. Nobody rated these images. An epoch has every source once, at one drawn type and level (ASSUMED: an epoch of
the public code has all 125 versions of each).
"""

import contextlib
import json
import operator
import os
import posixpath
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxiqa.datasets import checks
from jaxiqa.datasets.formats import tables
from jaxiqa.datasets.formats.saqt_files import stem, writing_csv
from jaxiqa.datasets.readers.kadid10k import DISTORTIONS, LEVELS
from jaxiqa.datasets.records import Dataset, Record, Transferred
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.files import writing

CITATION = (
    "X. Wang, Y. Zhang: GlintIQA and SAQT-IQA. ACM TOMM 2026, arXiv:2408.03885; cite the rated dataset that the scores "
    "are transferred from too"
)
LICENSE = "LABELS ARE TRANSFERRED, not ratings of these images; images and scores keep the terms of their owners"
SCORE_RANGE = (1.0, 5.0)  # of labels from KADID-10k; other labels have the range of their dataset
HIGHER_IS_BETTER = True
HOW_TO_GET = "run jaxiqa transfer --dataset kadid10k --data_dir DIR --pictures POOL --output data_dir"

FILES = ("sources.csv", "reference_labels.csv", "saqt.json")
MARKERS = FILES[2:]
_SOURCES = ("source_image", "reference")
_LABELS = ("reference", "distortion_type", "distortion_level", "mos")
TYPES = tuple(range(1, len(DISTORTIONS) + 1))
_MODES = {
    "top1": "those of the most similar image of {}",
    "random": "those of an image of {} drawn at random",
    "cell_mean": "means over images of {} by type and level",
}


def load(
    data_dir: str | os.PathLike,
    pictures: str = "",
    types: Sequence[int] = TYPES,
    round: int = 1,
    hold_out: bool = True,
) -> Dataset:
    """Lists every source once. `transferred` has its scores at every type and level with labels.

    Training draws a new type and level for each source in every epoch. For validation and test, the
    name of the source determines both, and a record's `apply` and `mos` hold them. The distortion must still be applied
    to the whole image.

    A record's `reference` is the one whose scores it has. The parts are those of the rated dataset's random split, as
    make_split draws it: a source that is matched to a validation or test reference of that split never trains here,
    because its labels are that reference's scores. Mean labels (cell_mean) are means over the training references
    alone. So config.split.round stays 1, and `round` chooses the split of the rated dataset.

    Args:
      data_dir: the folder that jaxiqa transfer wrote.
      pictures: folder of the pristine images; "" is their folder at the time of the transfer.
      types: KADID-10k's distortion types, 1..25; types without labels are ignored.
      round: round of the rated dataset's split.
      hold_out: False trains on the sources of every reference, for models that are tested on other datasets; the
        sources that validate and test then train too.

    Raises:
      ConfigError: no type has labels, or there is no such round.
      DataError: the folder is not what jaxiqa transfer wrote, images are missing, or a part has no source.
    """
    about, references, cells, mos_RC, paths, numbers = _read(data_dir, pictures, types)
    stand_ins = [Record("", 0.0, reference, reference) for reference in references]
    split = make_split(Dataset(about["dataset"], stand_ins, (0.0, 1.0), True), round)
    members = {part: set(getattr(split, part)) for part in ("train", "val", "test")}
    if about["labels"] == "cell_mean":
        mos_RC = np.tile(mos_RC[split.train].mean(0), (len(references), 1))
    if not hold_out:
        members["train"] = set(range(len(references)))
    parts = {part: [n for n, r in enumerate(numbers) if r in among] for part, among in members.items()}
    if not parts["train"] or not (parts["val"] or parts["test"]):
        counts = ", ".join(f"{len(indices)} {part}" for part, indices in parts.items())
        raise DataError(
            f"saqt: {len(numbers)} images are too few for the split of {about['dataset']}, round {round} ({counts}); "
            "transfer labels to more images, or use another round",
            code="empty",
            key=data_dir,
        )
    all_records = _Records(paths, [references[r] for r in numbers], cells, [mos_RC[r].tolist() for r in numbers])
    drawn = [zlib.crc32(stem(path).encode("utf-8", "surrogateescape")) % len(cells) for path in paths]
    return Dataset(
        "saqt",
        [all_records[n * len(cells) + c] for n, c in enumerate(drawn)],
        tuple(about["score_range"]),
        about["higher_is_better"],
        official_split=parts,
        note=_note(about, round, hold_out),
        transferred=Transferred(about["dataset"], about.get("fingerprint", ""), cells, mos_RC[numbers]),
    )


def cells(options: Mapping) -> list[tuple[int, int]]:
    """Returns the (type, level) pairs that a run with these options of `load` may draw.

    Raises:
      ConfigError: types are not one or more of 1..25.
    """
    types = options.get("types", TYPES)
    if not (drawn := [(type_, level) for type_ in TYPES if type_ in types for level in range(1, LEVELS + 1)]):
        raise ConfigError(
            f"saqt: types must be one or more numbers 1..{len(TYPES)}, not {list(types)!r}", code="value", key="types"
        )
    return drawn


def to_render(data_dir: str | os.PathLike, pictures: str, types: Sequence[int]) -> tuple[list[str], Sequence[Record]]:
    """Returns the paths of the N pristine images, and a record for each of them at every type and level."""
    _, references, cells, mos_RC, paths, numbers = _read(data_dir, pictures, types)
    labels = [mos_RC[r].tolist() for r in numbers]
    return paths, _Records(paths, [references[r] for r in numbers], cells, labels)


def write(
    folder: str | os.PathLike,
    sources: Sequence[str],
    number_N: np.ndarray,
    references: Sequence[str],
    cells: Sequence[tuple[int, int]],
    mos_RC: np.ndarray,
    about: Mapping,
) -> None:
    """Writes the dataset.

    Args:
      folder: an existing folder.
      sources: N names, paths relative to about["pictures"].
      number_N: int (N,), index of the reference that each source is matched to.
      references: R names, in the order that the rated dataset's splits are drawn from.
      cells: C pairs (type, level).
      mos_RC: (R, C), scores of the references on the rated dataset's scale.
      about: content of saqt.json: dataset, labels (top1, random or cell_mean), matches (a dict: how they were made),
        trained (whether the similarity is of a trained network), score_range, higher_is_better, pictures (the folder).
        Other keys are kept.
    """
    rows = ((name, references[r]) for name, r in zip(sources, np.asarray(number_N).tolist(), strict=True))
    scores = (
        (reference, *cell, repr(mos))
        for reference, row in zip(references, np.asarray(mos_RC).tolist(), strict=True)
        for cell, mos in zip(cells, row, strict=True)
    )
    last = os.path.join(folder, FILES[2])
    with contextlib.suppress(FileNotFoundError):
        os.remove(last)  # if this is interrupted, the folder is not taken for a dataset
    with writing_csv(os.path.join(folder, FILES[0]), _SOURCES) as writer:
        writer.writerows(rows)
    with writing_csv(os.path.join(folder, FILES[1]), _LABELS) as writer:
        writer.writerows(scores)
    with writing(last, "w", encoding="utf-8") as file:
        json.dump(about, file, indent=1)


class _Records(Sequence):
    """A record for every source at every cell, made on access: 50,000 sources have 6,250,000."""

    def __init__(self, paths, references, cells, mos_NC):
        self._stems = [stem(path) for path in paths]
        self._paths, self._references, self._cells, self._mos_NC = paths, references, cells, mos_NC

    def __len__(self) -> int:
        return len(self._paths) * len(self._cells)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        n, c = divmod(index % len(self), len(self._cells))
        type_, level = cell = self._cells[c]
        return Record(
            self._paths[n],
            self._mos_NC[n][c],
            f"{self._stems[n]}_{type_:02d}_{level:02d}",
            self._references[n],
            DISTORTIONS[type_ - 1],
            level,
            apply=cell,
        )


def _read(data_dir, pictures: str, types: Sequence[int]) -> tuple:
    """saqt.json, R references, C cells of these types, scores (R, C), N paths, N indices of references."""
    remedy = "if the images are in another folder now, set the option pictures=FOLDER"
    reading = checks.Reading("saqt", data_dir, HOW_TO_GET, remedy=remedy)
    for file in FILES:
        reading.find(file)
    about = read_about(reading.folder)
    references, cells, mos_RC = _read_labels(reading, tuple(about["score_range"]))
    wanted = [c for c, (type_, _) in enumerate(cells) if type_ in set(types)]
    if not wanted:
        there = ", ".join(map(str, sorted({type_ for type_, _ in cells})))
        raise ConfigError(
            f"saqt: there are no labels for types {list(types)!r}; choose from {there}", code="value", key="types"
        )
    home = os.path.expanduser(pictures) or about["pictures"]
    paths, numbers = _read_sources(reading, home, references)
    reading.refuse()
    reading.tell()
    return about, references, [cells[c] for c in wanted], mos_RC[:, wanted], paths, numbers


def read_about(folder: str | os.PathLike) -> dict:
    """Returns the content of saqt.json. Raises DataError if it cannot be read or lacks a key."""
    path = os.path.join(folder, FILES[2])
    kinds = {"dataset": str, "labels": str, "matches": dict, "trained": bool, "score_range": list}
    kinds |= {"higher_is_better": bool, "pictures": str}
    try:
        about = json.loads(tables.read_text(path))
        wrong = [key for key, kind in kinds.items() if not isinstance(about.get(key), kind)]
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}); run jaxiqa transfer again", code="damaged", key=path) from error
    if wrong or about["labels"] not in _MODES:
        raise DataError(
            f"{path} has no valid {', '.join(wrong) or 'labels'}; run jaxiqa transfer of this version again",
            code="format",
            key=path,
        )
    return about


def _read_labels(
    reading: checks.Reading, score_range: tuple[float, float]
) -> tuple[list[str], list[tuple[int, int]], np.ndarray]:
    """R references, C cells (type, level), and scores (R, C)."""
    found: dict[str, dict[tuple[int, int], float]] = {}
    for where, row in tables.read_csv(reading.path(FILES[1]), _LABELS, reading):
        reference, *numbers, text = (row[c] for c in _LABELS)
        if not all(n.isascii() and n.isdigit() for n in numbers) or not 1 <= int(numbers[0]) <= len(DISTORTIONS):
            reading.add(f"rows without a valid type 1..{len(DISTORTIONS)} and level", f"{where} {' '.join(numbers)}")
            continue
        found.setdefault(reference, {})[int(numbers[0]), int(numbers[1])] = reading.label(text, where, score_range)
    cells = sorted({cell for scores in found.values() for cell in scores})
    reading.add_all(
        "references without a label for every type and level", (r for r in found if len(found[r]) < len(cells))
    )
    reading.refuse()
    return list(found), cells, np.array([[scores[cell] for cell in cells] for scores in found.values()])


def _read_sources(reading: checks.Reading, home: str, references: list[str]) -> tuple[list[str], list[int]]:
    """Paths of the N sources, and the index of the reference that each is matched to."""
    number_of = {reference: r for r, reference in enumerate(references)}
    seen: dict[str, str] = {}
    paths, numbers = [], []
    for where, row in tables.read_csv(reading.path(FILES[0]), _SOURCES, reading):
        name = posixpath.normpath(row["source_image"])
        path = os.path.join(home, name)
        if checks.leaves(name):
            reading.add("paths that leave the folder", f"{where} {name}")
        elif not os.path.isfile(path):
            reading.add(checks.MISSING_IMAGES, path)
        if stem(name) in seen:  # else one content could be in two parts, or two images could have one id
            reading.add(checks.SAME_NAMES, f"{where} {name} (as {seen[stem(name)]})")
        seen[stem(name)] = where
        if row["reference"] not in number_of:
            reading.add("references without labels", f"{where} {row['reference']!r}")
        paths.append(path)
        numbers.append(number_of.get(row["reference"], -1))
    return paths, numbers


def _note(about: dict, round_: int, hold_out: bool) -> str:
    how = _MODES[about["labels"]].format(about["dataset"])
    note = f"its labels are transferred ({how}): nobody rated these images"
    if not about["trained"] and about["labels"] == "top1":
        note += "; the matches come from an untrained network and have no meaning"
    if not hold_out:
        note += f"; references of every part train, so do not test on {about['dataset']}"
    else:
        note += f"; its parts are those of round {round_} of {about['dataset']}"
    return note
