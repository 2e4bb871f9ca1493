"""Which pictures train and which test: by reference where there are references, so that no content is in two parts.

Or as a file says (split_files.py).
"""

import dataclasses
import hashlib
import random
from collections.abc import Iterable

from jaxiqa.datasets.records import Dataset
from jaxiqa.datasets.split_files import read_split
from jaxiqa.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Split:
    """Record indices by part, and how they were chosen.

    Attributes:
      train, val, test: indices into `dataset.records`, ascending. With selection "legacy", val is test.
      name: the rule: "official", "80/20 by reference", "80/20 by picture", or the file it is from.
      seed: of the shuffle; None for official splits and files.
      round: 1..10 in the papers.
      selection: "val" (the epoch is picked on units that are not tested) or "legacy" (picked on the test part).
      fingerprint: 12 hex digits, equal if and only if the parts hold the same pictures.
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
    """Splits a dataset as a file says, else as its owners do where they define a split, else 80/20 as GlintIQA does.

    Units are references where there are any, else pictures, in the order in which the records name them. They are
    shuffled by Python's Random(12345 * round); the first round(0.8 n) train, the others test. With "val" the last
    round(0.1 n) training units (at least one) are taken out for validation; with "legacy" they train, and val is test.
    References in `dataset.train_only` are no units: all of their records train.

    Where a file or an official split has two parts only, the second is the test part, and "val" takes a validation part
    out of the first by the same rule.

    Args:
      dataset: its records define the order of the units.
      round: 1, 2, ...; 1 where the split is official.
      selection: "val" or "legacy".
      file: a split that is given, in one of the forms that split_files.py lists; "" for none.

    Raises:
      ConfigError: a dataset without opinion scores, unknown selection, a round below 1 or one that the split has not,
        or too few units for three parts.
      DataError: the file cannot be used; all that is wrong with it is listed.

    Source: GlintIQA's public code (splits), after hyperIQA; the validation part is ours.
    """
    if not dataset.rated:
        raise ConfigError(
            f"{dataset.name} has no opinion scores, so nothing can be trained on it, selected by it or tested with it; "
            "its pictures are for pretraining and label transfer"
        )
    if selection not in ("val", "legacy"):
        raise ConfigError(f"config.split.selection must be 'val' or 'legacy', not {selection!r}")
    if round < 1:
        raise ConfigError(f"the round of a split is 1 or more, not {round}")
    if file:
        parts, name, seed = read_split(file, dataset, round)
    elif dataset.official_split is not None:
        if round != 1:
            raise ConfigError(f"{dataset.name} has an official split, so there is only round 1, not {round}")
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
    """Indices by what must stay together, in the order of `indices`; train-only references are left out."""
    units: dict[str, list[int]] = {}
    for i in indices:
        record = dataset.records[i]
        if record.reference not in dataset.train_only:
            units.setdefault(record.reference or record.id, []).append(i)
    return units


def _take_validation(dataset: Dataset, parts: dict[str, list[int]], seed: int) -> dict[str, list[int]]:
    """Train and val out of a training part: its last units, a tenth of all that train or test."""
    units = _units(dataset, sorted(parts["train"]))
    order = list(units)
    random.Random(seed).shuffle(order)
    total = len(units.keys() | _units(dataset, parts["test"]).keys())
    kept = len(order) - max(1, round(0.1 * total))
    if kept < 1:
        raise ConfigError(f"{dataset.name}: its split has {len(order)} unit(s) to train on, too few to select by some")
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
    kind = "reference" if any(r.reference for r in dataset.records) else "picture"
    if kept < 1 or trained == n:
        raise ConfigError(
            f"{dataset.name} has {n} {kind}(s) to split, which leaves train, val or test empty: 3 are needed"
        )

    def records_of(names):
        return [i for name in names for i in units[name]]

    parts = {"train": records_of(order[:kept]) + train_only, "val": records_of(order[kept:trained])}
    return parts | {"test": records_of(order[trained:])}, f"80/20 by {kind}"


def _hash(dataset: Dataset, parts: dict[str, list[int]]) -> str:
    lines = [f"{part}\t{i}" for part, members in parts.items() for i in sorted(dataset.records[m].id for m in members)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:12]
