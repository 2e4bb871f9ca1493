"""Answers about a set of images, from their rows as they pass: a summary, a list of images to keep, ranked bursts."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from etils import epath

from jaxiqa.files import replacing
from jaxiqa.scoring.jobs.groups import find_groups
from jaxiqa.scoring.jobs.keep import parse_condition, writing_list
from jaxiqa.scoring.jobs.row_files import csv_writer, text_file
from jaxiqa.scoring.jobs.summary import Summary

_GROUPS = 12  # that a report shows
_COLUMNS = ("group", "rank", "path", "score", "taken")


class Answers:
    """What is asked about a set.

    Args:
      output: the value of --output, which the lists need: they are beside it, OUTPUT.kept.txt and OUTPUT.groups.csv.
      columns: columns of the rows.
      keep: condition of --keep; "" for no list.
      group_by: "folder" or "time" (groups.find_groups); "" for no groups.
      wants_summary: whether the summary is needed.

    Attributes:
      summary: of all rows, if it is wanted.
      shown: the first groups.

    Raises:
      ConfigError: `keep` is not a condition.
    """

    def __init__(
        self, output: epath.Path | None, columns: Sequence[str], keep: str, group_by: str, wants_summary: bool
    ):
        self._output, self._by = output, group_by
        self._keeps = parse_condition(keep, columns) if keep else None
        self.summary = Summary() if wants_summary else None
        self.shown: list[list[Mapping]] = []

    def collect(self, rows: Iterable[Mapping]) -> list[str]:
        """Takes all rows, and writes the lists. Returns what was written, in words."""
        written = []
        with contextlib.ExitStack() as stack:
            write = None
            if self._keeps:
                path = self._beside("kept.txt")
                write = stack.enter_context(writing_list(path))
                written.append(path)
            passing = self._passing(rows, write)
            if self._by:
                written.append(self._write_groups(passing))
            for _ in passing:
                pass
        return [str(path) for path in written]

    def _passing(self, rows: Iterable[Mapping], write) -> Iterator[Mapping]:
        for row in rows:
            if self.summary:
                self.summary.add(row)
            if self._keeps and self._keeps(row):
                write(row["path"])
            yield row

    def _write_groups(self, rows: Iterable[Mapping]) -> epath.Path:
        path = self._beside("groups.csv")
        with replacing(path) as unfinished, text_file(unfinished) as file:
            writer = csv_writer(file, _COLUMNS)
            for number, group in enumerate(find_groups(rows, self._by), 1):
                if len(self.shown) < _GROUPS:
                    self.shown.append(group)
                for rank, row in enumerate(group, 1):
                    taken = "" if row["taken"] != row["taken"] else row["taken"]
                    about = {"group": number, "rank": rank, "taken": taken}
                    writer.writerow({**about, "path": row["path"], "score": row["score"]})
        return path

    def _beside(self, ending: str) -> epath.Path:
        assert self._output is not None
        return self._output.with_name(f"{self._output.stem}.{ending}")
