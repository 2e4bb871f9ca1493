"""A dataset without files, and what every split of one must stand."""

from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.datasets.split_files import write_split
from jaxiqa.datasets.splits import make_split


def pictures(n, each=1, **about):
    records = [Record(f"i{k}.png", 1.0, f"i{k}.png", f"r{k // each}" if each > 1 else "") for k in range(n)]
    return Dataset("some", records, (0.0, 1.0), True, **about)


def assert_round_trip(tmp_path, dataset, split):
    """Written as JSON and read again it is the same split."""
    write_split(tmp_path / "again.json", split, dataset)
    again = make_split(dataset, split.round, split.selection, file=tmp_path / "again.json")
    assert again == split
