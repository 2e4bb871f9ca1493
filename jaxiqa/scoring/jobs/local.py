"""The engine of one process: shards to rows, on all cores and all devices of this machine."""

import collections
from collections.abc import Iterable, Iterator

from jaxiqa.scoring.batch_scorer import BatchScorer
from jaxiqa.scoring.engine import END
from jaxiqa.scoring.jobs.plan import Shard
from jaxiqa.scoring.jobs.results import Results
from jaxiqa.scoring.meter import Meter


def score_shards(
    scorer: BatchScorer, shards: Iterable[tuple[int, Shard]], column: str | None = None, meter: Meter | None = None
) -> Iterator[tuple[int, dict | None]]:
    """Yields (number of the shard, row) for each image, and (number, None) at the end of a shard, in order.

    No batch has images of two shards. So the rows of a shard are the same, bit by bit, whatever is scored before it.

    Args:
      scorer: gives the values of a row; "path" is added.
      shards: (number, shard); taken when they are needed.
      column: column of tables that holds the images; None to find it.
      meter: as for BatchScorer.rows.
    """
    names: collections.deque[tuple[int, str]] = collections.deque()

    def images():
        for number, shard in shards:
            for name, image in shard.rows(column):
                names.append((number, name))
                yield image
            names.append((number, ""))
            yield END

    for row in scorer.rows(images(), meter):
        number, name = names.popleft()
        yield number, None if row is END else {"path": name, **row}


def write_shards(
    results: Results, numbers: Iterable[int], scorer: BatchScorer, column: str | None = None, meter: Meter | None = None
) -> Iterator[dict]:
    """Scores shards of a job and writes their files. Yields each row when it is known.

    Args:
      results: the started job.
      numbers: numbers of the shards to score.
      scorer, column, meter: as for score_shards.
    """
    shards = ((number, results.shard(number)) for number in numbers)
    found = score_shards(scorer, shards, column, meter)
    for number, row in found:
        with results.writing(number) as writer:
            while row is not None:
                writer.write(row)
                yield row
                _, row = next(found)
