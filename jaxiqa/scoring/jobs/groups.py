"""--group_by: near-duplicates of a burst, ranked by their scores."""

from collections.abc import Iterable, Iterator, Mapping

from jaxiqa.inputs.fingerprint import distance
from jaxiqa.scoring.jobs.names import folder_of

NEAR = 10  # bits of 64 in which the hashes of near-duplicates may differ
SECONDS = 3.0  # between the frames of a burst
_BACK = 16  # images before an image that it is compared with


def find_groups(rows: Iterable[Mapping], by: str) -> Iterator[list[Mapping]]:
    """Yields groups of two or more near-duplicates in one folder, each with the best image first.

    An image belongs to the group of an image shortly before it, whose hash is near. By "folder", the images of a folder
    are in the order of their names; by "time", in the order in which they were taken, and those of a group follow each
    other within SECONDS. Images that do not say when they were taken are then in no group.

    Args:
      rows: with the columns path, score, status, dhash and taken; those of a folder follow each other. The rows of one
        folder at a time are in memory.
      by: "folder" or "time".
    """
    folder: str | None = None
    inside: list[Mapping] = []
    for row in rows:
        if row["status"] != "ok":
            continue
        here = folder_of(row["path"])
        if here != folder:
            yield from _groups(inside, by)
            folder, inside = here, []
        inside.append(row)
    yield from _groups(inside, by)


def _groups(rows: list[Mapping], by: str) -> Iterator[list[Mapping]]:
    if by == "time":
        rows = sorted((row for row in rows if row["taken"] == row["taken"]), key=lambda row: row["taken"])
    groups: list[list[Mapping]] = []
    member: list[list[Mapping]] = []  # the group of each row
    for i, row in enumerate(rows):
        found: list[Mapping] = []
        for j in range(i - 1, max(-1, i - 1 - _BACK), -1):
            in_time = by == "folder" or row["taken"] - rows[j]["taken"] <= SECONDS
            if in_time and distance(row["dhash"], rows[j]["dhash"]) <= NEAR:
                found = member[j]
                break
        if not found:
            groups.append(found)
        found.append(row)
        member.append(found)
    yield from (sorted(group, key=lambda row: -row["score"]) for group in groups if len(group) > 1)
