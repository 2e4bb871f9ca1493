"""--report: one page about a set of images."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxiqa.errors import DataError
from jaxiqa.figures.page import Page
from jaxiqa.figures.report import histogram
from jaxiqa.inputs.decode import read_image
from jaxiqa.scoring.jobs.summary import Summary

_FOLDERS = 30  # of the table
_GROUPS = 12  # of near-duplicates


def write_report(path, summary: Summary, groups: Sequence[Sequence[Mapping]], facts: Mapping, note: str = "") -> None:
    """Writes the page.

    Args:
      path: the HTML file.
      summary: all rows.
      groups: of near-duplicates (groups.find_groups); the first ones are shown.
      facts: how the scores were made, for the last table.
      note: a warning at the top.
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
    for heading, found in (("Worst", summary.worst()), ("Best", summary.best())):
        _images(page, heading, [(name, f"{score:.1f}") for name, score in found])
    page.table(*_by_folder(summary))
    reasons = [{"reason": reason, "images": f"{count:,}"} for reason, count in summary.reasons.most_common(20)]
    page.table("Refused images", reasons)
    for number, group in enumerate(groups[:_GROUPS], 1):
        shown = [(row["path"], f"rank {rank}, score {row['score']:.1f}") for rank, row in enumerate(group, 1)]
        _images(page, f"Near-duplicates: group {number} of {len(groups)}", shown)
    page.facts("How", facts)
    page.write(path)


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
