"""What is wrong with a dataset's folder, names and labels: findings, each fault with its fix (doctor.py shows them).

No picture is opened here; inputs/content.py looks at those.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator

import numpy as np

from jaxiqa.datasets import default_options, fact, load, prepared, reader
from jaxiqa.datasets.checks import recognised
from jaxiqa.datasets.known import compare_labels
from jaxiqa.datasets.records import Dataset
from jaxiqa.errors import DataError, UserError

# What a fault of a reader begins with, and what to do.
_FIXES = {
    "missing pictures": "unpack the owners' archive over the folder once more; --option allow_partial=True reads what "
    "is there",
    "extra pictures": "move them out of the folder: the owners' list does not name them",
    "pictures of one name": "remove one of the two",
    "pictures without a row": "take the owners' list of labels, all of it",
    "wrong counts": "take pictures and labels of one release, all of them",
    "rows for a picture that has one already": "keep one row for each picture",
    "labels with a decimal comma": "write decimal points",
    "labels outside": "this is another scale or another column; take the owners' list of labels, or set score_range",
    "labels that are": "correct these rows or leave them out",
    "empty labels": "correct these rows or leave them out",
    "rows without": "correct these rows",
    "lines without": "correct these lines",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One result."""

    check: str  # what was looked at, in one word
    result: str  # "ok", "note" (worth knowing, nothing is wrong) or "fault"
    what: str  # was found
    where: tuple[str, ...] = ()  # files and rows
    fix: str = ""  # what to do about a fault


def recognise(folder: str | os.PathLike) -> str:
    """The key of the dataset that a folder holds, by the files that only this one has.

    Raises:
      DataError: it holds none that is known, or several.
    """
    if prepared.is_prepared(folder):
        return prepared.read_manifest(folder)["dataset"]
    if not os.path.isdir(folder):
        raise DataError(f"there is no folder {folder}")
    found = recognised(folder)
    if len(found) != 1:
        seen = f"label files of {' and '.join(found)}" if found else "no label file that is known"
        raise DataError(f"{folder} has {seen}; name the dataset: python -m jaxiqa.doctor NAME {folder}")
    return found[0]


def read(name: str, data_dir: str | os.PathLike, options: dict) -> tuple[Dataset | None, list[Finding]]:
    """What the reader says: the dataset, as far as it can be read, and its faults.

    Raises:
      ConfigError: unknown name or option.
    """
    try:
        dataset = load(name, data_dir, **options)
        return dataset, [Finding("folder", "ok", f"{name}: {len(dataset):,} records, every one with its picture")]
    except DataError as error:
        findings = list(_faults(str(error), name))
    if "allow_partial" in default_options(name):
        with contextlib.suppress(UserError):
            return load(name, data_dir, **{**options, "allow_partial": True}), findings
    return None, findings


def _faults(text: str, name: str) -> Iterator[Finding]:
    """The findings in what Faults.refuse raises: a title with the counts, then a line for each kind."""
    title, *lines = text.splitlines()
    fixes, how_to_get = fact(name, "FIXES") | _FIXES, reader(name).HOW_TO_GET
    if not lines:
        yield Finding("folder", "fault", title)
    for line in lines:
        kind, _, where = line.strip().partition(": ")
        if kind == "How to get it":
            continue
        count = re.search(rf"([\d,]+) {re.escape(kind)}(?:,|$)", title)
        fix = next((fix for begin, fix in fixes.items() if kind.startswith(begin)), how_to_get)
        check = "labels" if "label" in kind else "counts" if kind.startswith(("wrong counts", "missing")) else "names"
        yield Finding(check, "fault", f"{count[1]} {kind}" if count else kind, (where,), fix)


def examine(dataset: Dataset) -> list[Finding]:
    """Looks at the records: names, labels and their direction, and what splits can keep together."""
    findings = [_names(dataset)]
    if not dataset.rated:
        return [*findings, Finding("labels", "note", "none: nobody rated these pictures")]
    if dataset.note:
        findings.append(Finding("labels", "note", dataset.note))
    findings += _labels(dataset)
    references = {r.reference for r in dataset.records} - {""}
    units = len(references) or len(dataset)
    what = f"{units:,} " + ("references" if references else "pictures, each of its own content")
    fix = "more contents are needed: the training, the validation and the test part want one each"
    findings.append(Finding("contents", "ok", what) if units > 2 else Finding("contents", "fault", what, fix=fix))
    return findings


def look(dataset: Dataset, data_dir: str | os.PathLike, options: dict) -> list[Finding]:
    """Findings in the label files of a dataset that could be read with these options; none of a prepared folder."""
    if prepared.is_prepared(data_dir):
        return []
    folder = os.path.expanduser(os.fspath(data_dir))
    return list(fact(dataset.name, "look")(dataset, folder, default_options(dataset.name) | options))


def by_levels(dataset: Dataset) -> Finding | None:
    """Which direction labels have, by the mean labels of the weakest and the strongest level of distortion.

    None where there are no levels, or where the means do not differ.
    """
    labels: dict[int, list[float]] = {}
    for r in sorted(dataset.records, key=lambda r: r.level):
        labels.setdefault(r.level, []).append(r.mos)
    labels.pop(0, None)  # not known
    if len(labels) < 2 or min(map(len, labels.values())) < 3:
        return None
    (first, weak), *_, (last, strong) = ((level, float(np.mean(mos))) for level, mos in labels.items())
    lo, hi = dataset.score_range
    if abs(strong - weak) < 0.02 * (hi - lo):
        return None
    what = f"{direction(dataset)}: mean label {weak:.3g} at level {first}, {strong:.3g} at level {last}"
    if (strong < weak) == dataset.higher_is_better:
        return Finding("direction", "ok", what)
    fix = f"set higher_is_better={not dataset.higher_is_better}, or number the levels from weak to strong"
    if fact(dataset.name, "KNOWN"):
        fix = f"take the owners' list of labels. {reader(dataset.name).HOW_TO_GET}"
    return Finding("direction", "fault", f"the levels contradict {what}", fix=fix)


def by_column(dataset: Dataset, column: str) -> Iterator[Finding]:
    """Which direction labels have, by what their column is called, if the levels do not say."""
    if by_levels(dataset):
        return
    says_higher = "dmos" not in column.lower() if "mos" in column.lower() else dataset.higher_is_better
    if says_higher == dataset.higher_is_better:
        what = f"{direction(dataset)}, as told; nothing but the name of the column, {column!r}, can be asked"
        yield Finding("direction", "note", what)
    else:
        fix = (
            f"set higher_is_better={says_higher}: MOS is the quality, DMOS its difference from a perfect picture's. "
            "Where the owners say otherwise, as KADID-10k's do, rename the column"
        )
        yield Finding("direction", "fault", f"{direction(dataset)} is said of a column called {column!r}", fix=fix)


def direction(dataset: Dataset) -> str:
    """In words."""
    return "higher is better" if dataset.higher_is_better else "lower is better"


def _names(dataset: Dataset) -> Finding:
    seen: dict[str, str] = {}
    twins = [f"{seen[r.id.lower()]} and {r.id}" for r in dataset.records if seen.setdefault(r.id.lower(), r.id) != r.id]
    if twins:
        fix = "rename one of each: on disks that do not tell case apart one replaces the other"
        return Finding("names", "fault", f"{len(twins):,} names differ from another in case only", tuple(twins), fix)
    if odd := tuple(repr(r.id) for r in dataset.records if not r.id.isprintable()):
        return Finding("names", "note", f"{len(odd):,} names are hard to print", odd)
    return Finding("names", "ok", "all different, also without case")


def _labels(dataset: Dataset) -> Iterator[Finding]:
    mos = np.array([r.mos for r in dataset.records])
    lo, hi = dataset.score_range
    what = f"{mos.min():g}..{mos.max():g}, mean {mos.mean():.4g}, on a scale of {lo:g}..{hi:g}"
    if np.ptp(mos) < 0.1 * (hi - lo):
        fix = "this is another scale or another column: take the opinion scores, and the range people rated on"
        yield Finding("labels", "fault", f"{what}: less than a tenth of the scale", fix=fix)
        return
    yield Finding("labels", "ok", what)
    known, levels = fact(dataset.name, "KNOWN"), by_levels(dataset)
    if levels:
        yield levels
    if not known:
        return
    if len(dataset) != known.count:
        what = f"not compared with the owners' numbers: {len(dataset):,} of {known.count:,} pictures"
        yield Finding("labels", "note", what)
    elif difference := compare_labels(known, mos):
        fix = f"take the owners' list of labels. {reader(dataset.name).HOW_TO_GET}"
        yield Finding("labels", "fault", difference, fix=f"{known.others}; {fix}" if known.others else fix)
    else:
        yield Finding("labels", "ok", "count, least, greatest and mean are the owners'")
        if not levels:
            yield Finding("direction", "ok", f"{direction(dataset)}: the labels are the owners'")
