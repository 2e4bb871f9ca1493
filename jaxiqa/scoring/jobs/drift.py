"""What changed between two results of the same images: how many got worse, by how much, and of which kind."""

import array
import collections
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxiqa.errors import DataError
from jaxiqa.scoring.card import WORDS
from jaxiqa.scoring.columns import NUMBERS, SEVERITY, TEXTS
from jaxiqa.scoring.jobs.names import folder_of

WORSE = 5.0  # points of score by which an image counts as worse, or as better
_SHOWN = 10
_OURS = {"path", "dhash", "taken", *NUMBERS, *TEXTS, SEVERITY}  # columns that are no families of distortions


class _Side:
    """One result: a few numbers for each image, by a 64-bit hash of its name."""

    def __init__(self, file: str, rows: Iterable[Mapping]):
        rows = iter(rows)
        first = next(rows, None)
        if first is None:
            raise DataError(f"{file} has no rows", code="empty", key=file)
        self.families = [name for name in first if name not in _OURS]
        self.models: set[str] = set()
        names, scores, shares, refused = array.array("q"), array.array("d"), array.array("f"), bytearray()
        for row in itertools.chain([first], rows):
            names.append(hash(row["path"]))
            refused.append(row["status"] != "ok")
            scores.append(_number(row["score"]))
            shares.extend(_number(row[name]) for name in self.families)
            self.models |= {row["model"]} if row.get("model") else set()
        self.names, order = np.unique(np.asarray(names), return_index=True)
        self.scores = np.asarray(scores)[order]
        self.refused = np.frombuffer(refused, np.uint8)[order].astype(bool)
        self.shares = np.asarray(shares).reshape(len(names), len(self.families))[order]


def drift(old_file: str, new_file: str, read: Any) -> dict:
    """Compares two results of `jaxiqa score` image by image.

    Args:
      old_file, new_file: the results.
      read: function of a file that returns its rows; it is called twice for each. A row takes some 20 bytes of memory.

    Returns:
      plain values: the numbers of images, the mean difference new - old with its 95 % interval, quantiles of the
      differences and their histogram (counts, edges), how many got worse or better by WORSE points, transitions of
      words, folders and families of distortions with their mean differences, and the images that lost most.

    Raises:
      DataError: a file has no rows, or no image is in both.
    """
    old, new = _Side(old_file, read(old_file)), _Side(new_file, read(new_file))
    _, at_old, at_new = np.intersect1d(old.names, new.names, assume_unique=True, return_indices=True)
    if not at_old.size:
        raise DataError(
            f"{old_file} and {new_file} have no image in common; compare results of images with the same paths",
            code="mismatch",
            key=new_file,
        )
    was_refused, is_refused = old.refused[at_old], new.refused[at_new]
    change = np.where(was_refused | is_refused, np.nan, new.scores[at_new] - old.scores[at_old])
    known = change[np.isfinite(change)]
    error = known.std(ddof=1) / math.sqrt(known.size) if known.size > 1 else math.nan
    found: dict[str, Any] = {
        "images": int(at_old.size),
        "only_old": int(old.names.size - at_old.size),
        "only_new": int(new.names.size - at_new.size),
        "became_refused": int(np.sum(~was_refused & is_refused)),
        "became_readable": int(np.sum(was_refused & ~is_refused)),
        "mean_old": _mean(old.scores[at_old]),
        "mean_new": _mean(new.scores[at_new]),
        "mean_difference": _mean(known),
        "interval": [_mean(known) - 1.96 * error, _mean(known) + 1.96 * error],
        "worse": int(np.sum(known <= -WORSE)),
        "better": int(np.sum(known >= WORSE)),
        "quantiles": {
            q: float(np.quantile(known, q / 100)) if known.size else math.nan for q in (1, 5, 25, 50, 75, 95)
        },
        "histogram": np.histogram(known, 40),
        "models": [sorted(side.models) for side in (old, new)],
    }
    found["families"] = _families(old, new, at_old, at_new, change)
    found["words"], found["folders"] = _by_kind(read(new_file), new.names[at_new], change, old.scores[at_old])
    worst = [i for i in np.argsort(change, kind="stable")[:_SHOWN] if change[i] <= -WORSE]
    paths = _paths(read(new_file), {int(new.names[at_new[i]]) for i in worst})
    found["lost_most"] = [
        {
            "path": paths[int(new.names[at_new[i]])],
            "old": float(old.scores[at_old[i]]),
            "new": float(new.scores[at_new[i]]),
        }
        for i in worst
    ]
    return found


def _families(old: _Side, new: _Side, at_old, at_new, change) -> dict[str, dict]:
    """{family: its mean probability before and after, and how many images got worse with it rising most}."""
    if not old.families or old.families != new.families:
        return {}
    before, after = old.shares[at_old], new.shares[at_new]
    rise = np.where(np.isnan(after - before), -np.inf, after - before)
    worse = change <= -WORSE
    kind = rise.argmax(1)
    return {
        name: {
            "old": _mean(before[:, i]),
            "new": _mean(after[:, i]),
            "worse_by_it": int(np.sum(worse & (kind == i) & (rise[:, i] > 0))),
        }
        for i, name in enumerate(old.families)
    }


def _by_kind(rows: Iterable[Mapping], names: np.ndarray, change: np.ndarray, old_scores: np.ndarray):
    """({"good -> fair": number of images}, {folder: [images, mean difference]}) of the images in both files."""
    words: collections.Counter[str] = collections.Counter()
    folders: dict[str, list] = {}
    for row in rows:
        i = int(np.searchsorted(names, hash(row["path"])))
        if i == len(names) or names[i] != hash(row["path"]) or math.isnan(change[i]):
            continue
        before, after = _word(old_scores[i]), _word(old_scores[i] + change[i])
        if before != after:
            words[f"{before} -> {after}"] += 1
        count = folders.setdefault(folder_of(row["path"]), [0, 0.0])
        count[0] += 1
        count[1] += float(change[i])
    means = {name: [count, total / count] for name, (count, total) in folders.items()}
    ordered = sorted(means.items(), key=lambda item: item[1][1])[:_SHOWN]
    return dict(words.most_common()), {name: {"images": n, "mean_difference": mean} for name, (n, mean) in ordered}


def _paths(rows: Iterable[Mapping], wanted: set[int]) -> dict[int, str]:
    return {hash(row["path"]): row["path"] for row in rows if hash(row["path"]) in wanted}


def _word(score: float) -> str:
    return WORDS[int(min(max(score / 100 * len(WORDS), 0), len(WORDS) - 1))]


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def _number(value: Any) -> float:
    return math.nan if value in ("", None) else float(value)


def describe(found: Mapping) -> Iterator[str]:
    """Yields the lines of text that report a drift."""
    low, high = found["interval"]
    yield (
        f"{found['images']:,} images in both; only in the old file {found['only_old']:,}, only in the new one "
        f"{found['only_new']:,}"
    )
    yield (
        f"mean score {found['mean_old']:.2f} -> {found['mean_new']:.2f}: difference {found['mean_difference']:+.2f} "
        f"[{low:+.2f}, {high:+.2f}]"
    )
    yield (
        f"worse by {WORSE:g} points or more: {found['worse']:,}; better: {found['better']:,}; became unreadable: "
        f"{found['became_refused']:,}; became readable: {found['became_readable']:,}"
    )
    if found["words"]:
        yield "words: " + ", ".join(f"{name} {count:,}" for name, count in found["words"].items())
    for name, kind in found["families"].items():
        shares = f"mean probability {kind['old']:.2f} -> {kind['new']:.2f}"
        yield f"{name}: {shares}; {kind['worse_by_it']:,} images got worse by it"
    for name, folder in found["folders"].items():
        if folder["mean_difference"] <= -WORSE or len(found["folders"]) > 1:
            yield f"{folder['mean_difference']:+7.2f}  {folder['images']:,} images of {name}"
    for row in found["lost_most"]:
        yield f"{row['old']:.1f} -> {row['new']:.1f}  {row['path']}"
    if len({name for models in found["models"] for name in models}) > 1:
        yield "note: the two files were made with different weights; a difference may come from the weights"
