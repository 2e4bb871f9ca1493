"""A job's images in shards: parts that are scored one after the other, each with a file of rows of its own."""

import dataclasses
from collections.abc import Iterable, Iterator

from jaxiqa.inputs.image_paths import TABLES, iter_images
from jaxiqa.scoring.jobs import tables


@dataclasses.dataclass(frozen=True)
class Shard:
    """The images of a shard, in order. It is small, and JSON can hold it (dataclasses.asdict).

    Attributes:
      files: paths or addresses of images.
      table: path or address of a file that holds many images, in place of `files`.
      first, count: the rows of the table that belong to the shard; a count of 0 is all rows.
    """

    files: tuple[str, ...] = ()
    table: str = ""
    first: int = 0
    count: int = 0

    def rows(self, column: str | None = None) -> Iterator[tuple[str, object]]:
        """Yields (name, image) of each image; the image is a path, the bytes of a file, or the DataError of a table.

        Args:
          column: column of a table that holds the images; None to find it.
        """
        if self.table:
            yield from tables.rows(self.table, column, self.first, self.count)
        else:
            yield from ((path, path) for path in self.files)


def make_shards(words: list[str], size: int, column: str | None = None) -> Iterator[Shard]:
    """Divides the images that the words of a command line name (inputs.image_paths.iter_images) into shards.

    Args:
      words: of the command line. Files with the endings TABLES are tables.
      size: number of images in a shard. A tar archive or an Arrow file is one shard, whatever its size.
      column: as for Shard.rows.

    Raises:
      DataError: as iter_images; or a Parquet file has no column of images.
    """
    return _shards(iter_images(words), size, column)


def _shards(paths: Iterable[str], size: int, column: str | None) -> Iterator[Shard]:
    files: list[str] = []
    for path in paths:
        if path.lower().endswith(TABLES):
            if files:
                yield Shard(tuple(files))
                files = []
            yield from (Shard((), path, first, count) for first, count in tables.parts(path, size, column))
            continue
        files.append(path)
        if len(files) == size:
            yield Shard(tuple(files))
            files = []
    if files:
        yield Shard(tuple(files))
