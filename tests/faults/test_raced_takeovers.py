"""Runs that race for one workdir while they are suspended and killed: never two hold it, and who has lost it knows."""

import collections
import itertools
import pathlib
import subprocess
import sys

import pytest

RACERS = pathlib.Path(__file__).parent.parent / "helpers" / "racers.py"


def holds(text: str) -> dict[str, list[tuple[str, float]]]:
    """{lease: what happened to it, in order}; the first of it is that it was taken."""
    found = collections.defaultdict(list)
    for line in text.splitlines():
        hold, what, when = line.split()
        found[hold].append((what, float(when)))
    return {hold: events for hold, events in found.items() if events[0][0] == "took"}


def overlaps(found: dict[str, list[tuple[str, float]]]) -> list[str]:
    """Leases that passed a check which began after another one was taken."""
    taken = sorted((events[0][1], hold) for hold, events in found.items())
    wrong = []
    for (_, hold), (later, by) in itertools.pairwise(taken):
        if any(what == "checked" and when > later for what, when in found[hold]):
            wrong.append(f"{hold} by {by}")
    return wrong


def test_the_test_sees_an_overlap():
    first, second = [("took", 1.0), ("checked", 2.0), ("checked", 4.0)], [("took", 3.0), ("checked", 3.5)]
    assert overlaps({"a": first, "b": second}) == ["a by b"] and not overlaps({"a": first[:2], "b": second})


@pytest.mark.slow
def test_never_two_hold_it_and_who_lost_it_knows(tmp_path):
    events = tmp_path / "events"
    subprocess.run([sys.executable, str(RACERS), str(tmp_path / "w"), str(events), "40"], check=True, timeout=120)
    found = holds(events.read_text())
    ends = collections.Counter(happened[-1][0] for happened in found.values())
    print(dict(ends))
    assert not overlaps(found)
    assert ends["left"] >= 10 and ends["lost"] >= 2  # it was a race
