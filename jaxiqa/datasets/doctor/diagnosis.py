"""Checks of a dataset's folder, names and labels: findings, each fault with its fix. jaxiqa doctor prints them.

No image is opened here; inputs/image_scan.py checks the images.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator

import numpy as np

from jaxiqa.datasets import default_options, fact, load, prepared, reader
from jaxiqa.datasets.checks import home_of, recognised
from jaxiqa.datasets.doctor.published import compare_labels
from jaxiqa.datasets.records import Dataset
from jaxiqa.errors import DataError, UserError


@dataclasses.dataclass(frozen=True)
class Finding:
    """One result of a check."""

    check: str  # in one word: folder, counts, names, labels, direction, contents
    result: str  # "ok", "note" (nothing is wrong) or "fault"
    what: str  # what was found
    where: tuple[str, ...] = ()  # files and rows
    fix: str = ""  # what to do about a fault


def recognise(folder: str | os.PathLike) -> str:
    """Returns the key of the dataset in a folder, by the label files that only this dataset has.

    Raises:
      DataError: there is no folder, no known dataset in it, or several.
    """
    if prepared.is_prepared(folder):
        return prepared.read_manifest(folder)["dataset"]
    if not os.path.isdir(folder):
        raise DataError(f"there is no folder {folder}", code="not_found", key=folder)
    found = recognised(folder)
    if len(found) != 1:
        seen = f"label files of {' and '.join(found)}" if found else "no known label file"
        raise DataError(
            f"{folder} has {seen}; name the dataset: jaxiqa doctor NAME {folder}", code="missing", key=folder
        )
    return found[0]


def read(name: str, data_dir: str | os.PathLike, options: dict) -> tuple[Dataset | None, list[Finding]]:
    """Returns the dataset, as far as it can be read (None if not at all), and the findings of its reader.

    Raises:
      ConfigError: the name or an option is unknown.
    """
    try:
        dataset = load(name, data_dir, **options)
        return dataset, [Finding("folder", "ok", f"{name}: {len(dataset):,} records, each with its image")]
    except DataError as error:
        findings = list(_faults(error, name))
    if "allow_partial" in default_options(name):
        with contextlib.suppress(UserError):
            return load(name, data_dir, **{**options, "allow_partial": True}), findings
    return None, findings


def _faults(error: DataError, name: str) -> Iterator[Finding]:
    """One finding for each kind of fault in a reader's error."""
    if not error.faults:
        yield Finding("folder", "fault", str(error))
    for fault in error.faults:
        what = f"{len(fault.where):,} {fault.kind}"
        yield Finding(fault.check, "fault", what, fault.where, fault.fix or reader(name).HOW_TO_GET)


def examine(dataset: Dataset) -> list[Finding]:
    """Checks the records: names, labels and their direction, and the contents that splits keep together."""
    findings = [_names(dataset)]
    if not dataset.rated:
        return [*findings, Finding("labels", "note", "none: these images have no ratings")]
    if dataset.note:
        findings.append(Finding("labels", "note", dataset.note))
    findings += _labels(dataset)
    references = {r.reference for r in dataset.records} - {""}
    units = len(references) or len(dataset)
    what = f"{units:,} " + ("references" if references else "images, each with its own content")
    fix = "add contents: the training, the validation and the test part need one each"
    findings.append(Finding("contents", "ok", what) if units > 2 else Finding("contents", "fault", what, fix=fix))
    return findings


def look(dataset: Dataset, data_dir: str | os.PathLike, options: dict) -> list[Finding]:
    """Checks the label files of a dataset that could be read with these options; a prepared folder has none."""
    if prepared.is_prepared(data_dir):
        return []
    folder = home_of(dataset.name, os.path.expanduser(os.fspath(data_dir)))
    return list(fact(dataset.name, "look")(dataset, folder, default_options(dataset.name) | options))


def by_levels(dataset: Dataset) -> Finding | None:
    """Checks the direction of labels by the mean labels of the weakest and the strongest level of distortion.

    None if there are no levels, or if the means do not differ.
    """
    labels: dict[int, list[float]] = {}
    for r in sorted(dataset.records, key=lambda r: r.level):
        labels.setdefault(r.level, []).append(r.mos)
    labels.pop(0, None)  # level 0 is unknown
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
    """Checks the direction of labels by the name of their column, if the levels do not show it."""
    if by_levels(dataset):
        return
    says_higher = "dmos" not in column.lower() if "mos" in column.lower() else dataset.higher_is_better
    if says_higher == dataset.higher_is_better:
        what = f"{direction(dataset)}, as set; only the name of the column, {column!r}, could be checked"
        yield Finding("direction", "note", what)
    else:
        fix = (
            f"set higher_is_better={says_higher}: MOS is the quality, DMOS its difference from a perfect image's. "
            "If the owners define it otherwise, as KADID-10k's do, rename the column"
        )
        yield Finding(
            "direction", "fault", f"{direction(dataset)} is set, but the column is called {column!r}", fix=fix
        )


def direction(dataset: Dataset) -> str:
    """The direction of a dataset's labels in words."""
    return "higher is better" if dataset.higher_is_better else "lower is better"


def _names(dataset: Dataset) -> Finding:
    seen: dict[str, str] = {}
    twins = [f"{seen[r.id.lower()]} and {r.id}" for r in dataset.records if seen.setdefault(r.id.lower(), r.id) != r.id]
    if twins:
        fix = "rename one of each: on a disk that ignores case, one replaces the other"
        return Finding(
            "names", "fault", f"{len(twins):,} names differ from another one only in case", tuple(twins), fix
        )
    if odd := tuple(repr(r.id) for r in dataset.records if not r.id.isprintable()):
        return Finding("names", "note", f"{len(odd):,} names have characters that cannot be printed", odd)
    return Finding("names", "ok", "all different, even if case is ignored")


def _labels(dataset: Dataset) -> Iterator[Finding]:
    mos = np.array([r.mos for r in dataset.records])
    lo, hi = dataset.score_range
    what = f"{mos.min():g}..{mos.max():g}, mean {mos.mean():.4g}, on a scale of {lo:g}..{hi:g}"
    if np.ptp(mos) < 0.1 * (hi - lo):
        fix = "this is another scale or another column: use the opinion scores, and the range of the rating scale"
        yield Finding("labels", "fault", f"{what}: they span less than a tenth of the scale", fix=fix)
        return
    yield Finding("labels", "ok", what)
    known, levels = fact(dataset.name, "KNOWN"), by_levels(dataset)
    if levels:
        yield levels
    if not known:
        return
    if len(dataset) != known.count:
        what = f"not compared with the owners' numbers: {len(dataset):,} of {known.count:,} images"
        yield Finding("labels", "note", what)
    elif difference := compare_labels(known, mos):
        fix = f"take the owners' list of labels. {reader(dataset.name).HOW_TO_GET}"
        yield Finding("labels", "fault", difference, fix=f"{known.others}; {fix}" if known.others else fix)
    else:
        yield Finding("labels", "ok", "count, least, greatest and mean are the owners'")
        if not levels:
            yield Finding("direction", "ok", f"{direction(dataset)}: the labels are the owners'")
