"""--report: one page about a set of images."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from jaxiqa.errors import DataError
from jaxiqa.figures.page import Page
from jaxiqa.figures.report import histogram
from jaxiqa.inputs.decode import read_image
from jaxiqa.scoring.jobs.summary import Summary
from jaxiqa.scoring.look import MOST, Seen

_FOLDERS = 30  # of the table
_GROUPS = 12  # of near-duplicates


# What the columns of the worst and the best images mean.
LEGEND = {
    "map": "where the image is bad: red parts score low (0), yellow ones 50, blue ones high (100)",
    "score": "quality from 0 to 100 as the model predicts it; higher is better",
    "word": "the fifth of 0 to 100 in which the score is: bad, poor, fair, good or excellent",
    "interval": "people's mean opinion is between these scores for 90 % of images like those it was calibrated on",
    "percentile": "the percentage of the model's reference images that have a lower score",
    "reasons": (
        "which kinds of distortion the model's features look like, with their probability (pristine: none), and how "
        "strong they are, from 0 (none) to 5. The kind is often wrong if the severity is low"
    ),
}


def write_report(
    path,
    summary: Summary,
    groups: Sequence[Sequence[Mapping]],
    facts: Mapping,
    note: str = "",
    look: Callable[..., Seen] | None = None,
) -> None:
    """Writes the page.

    Args:
      path: the HTML file.
      summary: all rows.
      groups: of near-duplicates (groups.find_groups); the first ones are shown.
      facts: how the scores were made, for the last table.
      note: a warning at the top.
      look: scoring.look.Look, for reasons and quality maps; None for a report without them.
    """
    page = Page(f"Quality of {summary.images:,} images", note)
    page.facts(
        "The set",
        {
            "images": f"{summary.images:,}",
            "scored": f"{summary.scored:,}",
            "refused": f"{summary.refused:,}",
            **({"mean score": f"{summary.mean:.2f} (0 to 100, higher is better)"} if summary.scored else {}),
            **{word: f"{count:,}" for word, count in summary.words.most_common()},
        },
    )
    if summary.scored:
        counts, edges = summary.histogram()
        page.figures("Scores", [("histogram of the scores", histogram(counts, edges, "score", "images"))])
        rows = [
            {"percent of the images": p, "have a score below": f"{v:.1f}"} for p, v in summary.percentiles().items()
        ]
        page.table("Percentiles", rows)
    tables = {
        heading: [_described(row, look, heading == "Worst" and i < MOST) for i, row in enumerate(found)]
        for heading, found in (("Worst", summary.worst()), ("Best", summary.best()))
    }
    used = [key for key in LEGEND if any(row[key] is not None for rows in tables.values() for row in rows)]
    if used:
        page.facts("How to read the images below", {key: LEGEND[key] for key in used})
    for heading, rows in tables.items():
        columns = [key for key in _COLUMNS if any(row[key] is not None for row in rows)]
        page.table(heading, [{key: row[key] for key in columns} for row in rows])
    page.table(*_by_folder(summary))
    reasons = [{"reason": reason, "images": f"{count:,}"} for reason, count in summary.reasons.most_common(20)]
    page.table("Refused images", reasons)
    for number, group in enumerate(groups[:_GROUPS], 1):
        shown = [(row["path"], f"rank {rank}, score {row['score']:.1f}") for rank, row in enumerate(group, 1)]
        _images(page, f"Near-duplicates: group {number} of {len(groups)}", shown)
    page.facts("How", facts)
    page.write(path)


_COLUMNS = ("image", "map", "score", "word", "interval", "percentile", "reasons", "name")


def _described(row: Mapping, look: Callable[..., Seen] | None, with_map: bool) -> dict:
    """A row of the tables; None for what is not known, e.g. the pixels of an image of a table of images."""
    found = dict.fromkeys(_COLUMNS) | {"score": f"{row['score']:.1f}", "word": row["word"], "name": row["path"]}
    if known(row.get("lo")):
        found["interval"] = f"{row['lo']:.0f} to {row['hi']:.0f}"
    if known(row.get("percentile")):
        found["percentile"] = f"{row['percentile']:.0f} %"
    with contextlib.suppress(DataError):
        if look:
            seen = look(row["path"], with_map)
            found |= {"image": seen.image, "map": seen.overlay, "reasons": seen.reasons or None}
        else:
            found["image"] = read_image(row["path"])
    return found


def known(value) -> bool:
    """Whether a number of a row is there."""
    return isinstance(value, float) and value == value


def _by_folder(summary: Summary) -> tuple[str, list[dict]]:
    folders = sorted(summary.folders.items(), key=lambda item: (item[1].mean != item[1].mean, item[1].mean))
    rows = [
        {
            "folder": name,
            "images": f"{found.images:,}",
            "refused": f"{found.refused:,}",
            "mean score": "" if found.images == found.refused else f"{found.mean:.1f}",
            "worst score": "" if found.images == found.refused else f"{found.worst:.1f}",
        }
        for name, found in folders[:_FOLDERS]
    ]
    shown = f", the {_FOLDERS} with the lowest mean of {len(folders):,}" if len(folders) > _FOLDERS else ""
    return f"By folder{shown}", rows


def _images(page: Page, heading: str, found: Iterable[tuple[str, str]]) -> None:
    """Adds images with captions; those that cannot be read again, e.g. of a table, as a list of names."""
    shown: list[tuple[np.ndarray, str]] = []
    names = []
    for name, caption in found:
        with contextlib.suppress(DataError):
            shown.append((read_image(name), f"{caption}\n{name}"))
            continue
        names.append({"score": caption, "image": name})
    if shown:
        page.gallery(heading, shown)
    page.table(heading if not shown else f"{heading}, without their pixels", names)
