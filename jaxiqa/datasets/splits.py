"""Splits into training, validation and test images: by reference, so that no content is in two parts, or from a file.

formats/split_files.py reads the files.
"""

import dataclasses
import hashlib
import random
from collections.abc import Iterable

from jaxiqa.datasets.formats.split_files import read_split
from jaxiqa.datasets.records import Dataset
from jaxiqa.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Split:
    """Record indices by part, and how they were chosen.

    Attributes:
      train, val, test: indices into `dataset.records`, ascending. With selection "legacy", val is test.
      name: the rule: "official", "80/20 by reference", "80/20 by image", or the name of the file.
      seed: seed of the shuffle; None for official splits and most files.
      round: 1..10 in the papers.
      selection: "val" (the epoch is chosen on units that are not tested) or "legacy" (chosen on the test part).
      fingerprint: 12 hex digits, equal if and only if the parts hold the same images.
    """

    train: list[int]
    val: list[int]
    test: list[int]
    name: str
    seed: int | None
    round: int
    selection: str
    fingerprint: str


def make_split(dataset: Dataset, round: int = 1, selection: str = "val", file: str = "") -> Split:
    """Splits a dataset as a file says, else by the owners' official split if there is one, else 80/20 as GlintIQA does.

    Units are references if the records have any, else images, in the order of the records. They are shuffled by
    Python's Random(12345 * round). The first round(0.8 n) train, the others test. With "val" the last round(0.1 n)
    training units (at least one) are taken out for validation; with "legacy" they train, and val is test. References in
    `dataset.train_only` are not units: all of their records train.

    If a file or an official split has only two parts, the second is the test part, and "val" takes a validation part
    out of the first by the same rule.

    Args:
      dataset: its records define the order of the units.
      round: 1, 2, ...; 1 if the split is official.
      selection: "val" or "legacy".
      file: a split file, in one of the forms that split_files.py lists; "" for none.

    Raises:
      ConfigError: the dataset has no opinion scores or too few units for three parts, the selection is unknown, or the
        split has no such round.
      DataError: the file cannot be used; the message lists everything that is wrong with it.

    Source: GlintIQA's public code (splits), after hyperIQA. The validation part is an addition of jaxiqa.
    """
    if not dataset.rated:
        raise ConfigError(
            f"{dataset.name} has no opinion scores, so it cannot be used for training, validation or test; its images "
            "are for pretraining and label transfer",
            code="value",
            key=dataset.name,
        )
    if selection not in ("val", "legacy"):
        raise ConfigError(
            f"config.split.selection must be 'val' or 'legacy', not {selection!r}",
            code="value",
            key="config.split.selection",
        )
    if round < 1:
        raise ConfigError(
            f"the round of a split must be 1 or more, not {round}", code="value", key="config.split.round"
        )
    if file:
        parts, name, seed = read_split(file, dataset, round)
    elif dataset.official_split is not None:
        if round != 1:
            raise ConfigError(
                f"{dataset.name} has an official split, so config.split.round must be 1, not {round}",
                code="not_found",
                key="config.split.round",
            )
        parts, name, seed = dict(dataset.official_split), "official", None
    else:
        seed = round * 12345
        parts, name = _by_unit(dataset, seed)
    if not parts["test"]:
        parts |= {"test": parts["val"], "val": []}
    if selection == "legacy":
        parts["train"] = parts["train"] + parts["val"]
        parts["val"] = parts["test"]
    elif not parts["val"]:
        parts |= _take_validation(dataset, parts, round * 12345)
    parts = {part: sorted(set(parts[part])) for part in ("train", "val", "test")}
    return Split(**parts, name=name, seed=seed, round=round, selection=selection, fingerprint=_hash(dataset, parts))


def _units(dataset: Dataset, indices: Iterable[int]) -> dict[str, list[int]]:
    """Indices by unit (reference, or id without one), in the order of `indices`; train-only references are left out."""
    units: dict[str, list[int]] = {}
    for i in indices:
        record = dataset.records[i]
        if record.reference not in dataset.train_only:
            units.setdefault(record.content, []).append(i)
    return units


def _take_validation(dataset: Dataset, parts: dict[str, list[int]], seed: int) -> dict[str, list[int]]:
    """Train and val indices from a training part: val is its last units, a tenth of all units."""
    units = _units(dataset, sorted(parts["train"]))
    order = list(units)
    random.Random(seed).shuffle(order)
    total = len(units.keys() | _units(dataset, parts["test"]).keys())
    kept = len(order) - max(1, round(0.1 * total))
    if kept < 1:
        raise ConfigError(
            f"{dataset.name}: the training part of its split has {len(order)} content(s), too few to take a "
            "validation part from it; add images of more contents",
            code="empty",
            key=dataset.name,
        )
    val = {i for name in order[kept:] for i in units[name]}
    return {"train": [i for i in parts["train"] if i not in val], "val": sorted(val)}


def _by_unit(dataset: Dataset, seed: int) -> tuple[dict[str, list[int]], str]:
    """Train, val and test indices, and the name of the rule."""
    units = _units(dataset, range(len(dataset)))
    train_only = [i for i, record in enumerate(dataset.records) if record.reference in dataset.train_only]
    order = list(units)
    random.Random(seed).shuffle(order)
    n = len(order)
    trained = round(0.8 * n)
    kept = trained - max(1, round(0.1 * n))
    kind = "reference" if any(r.reference for r in dataset.records) else "image"
    if kept < 1 or trained == n:
        raise ConfigError(
            f"{dataset.name} has {n} {kind}(s) to split; train, val and test need at least 3",
            code="empty",
            key=dataset.name,
        )

    def records_of(names):
        return [i for name in names for i in units[name]]

    parts = {"train": records_of(order[:kept]) + train_only, "val": records_of(order[kept:trained])}
    return parts | {"test": records_of(order[trained:])}, f"80/20 by {kind}"


def _hash(dataset: Dataset, parts: dict[str, list[int]]) -> str:
    lines = [f"{part}\t{i}" for part, members in parts.items() for i in sorted(dataset.records[m].id for m in members)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:12]
