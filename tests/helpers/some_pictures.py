"""A dataset without files, and a check of its splits."""

from jaxiqa.datasets.formats.split_files import write_split
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.datasets.splits import make_split


def pictures(n, each=1, **about):
    records = [Record(f"i{k}.png", 1.0, f"i{k}.png", f"r{k // each}" if each > 1 else "") for k in range(n)]
    return Dataset("some", records, (0.0, 1.0), True, **about)


def assert_round_trip(tmp_path, dataset, split):
    """A split that is written as JSON and read again is the same."""
    write_split(tmp_path / "again.json", split, dataset)
    again = make_split(dataset, split.round, split.selection, file=tmp_path / "again.json")
    assert again == split
