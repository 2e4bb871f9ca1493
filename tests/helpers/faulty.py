"""What a refused dataset is tested by: the kinds of its faults and their places, not the wording of the message."""

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping

import pytest
from refused import refused

from jaxiqa.datasets.checks import SHOWN, Kind
from jaxiqa.errors import DataError


@contextlib.contextmanager
def faulty(
    folder: str | os.PathLike, expected: Mapping[Kind | str, Collection[str] | int]
) -> Iterator[pytest.ExceptionInfo]:
    """The block raises a DataError that lists these faults of `folder`, and maybe others.

    Args:
      folder: what the error is about.
      expected: {kind, or a part of its text: places}. A list is all of the places in their order, a set some of them,
        a number how many there are.
    """
    with refused(DataError, "faults", folder) as caught:
        yield caught
    error = caught.value
    for kind, places in expected.items():
        text = kind.text if isinstance(kind, Kind) else kind
        found = [f.where for f in error.faults if (f.kind == text if isinstance(kind, Kind) else text in f.kind)]
        assert len(found) == 1, f"{text!r} is {len(found)} kinds of: {error}"
        if isinstance(places, int):
            assert len(found[0]) == places, f"{text!r}: {error}"
        elif isinstance(places, set):
            assert places <= set(found[0]), f"{text!r}: {error}"
        else:
            assert list(found[0]) == list(places), f"{text!r}: {error}"
    for fault in error.faults:
        told = [f"{len(fault.where):,} {fault.kind}", *fault.where[:SHOWN]]
        assert all(text in str(error) for text in told), f"{told}: {error}"
