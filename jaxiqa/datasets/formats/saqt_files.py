"""The file formats of SAQT's public matches and labels, in the authors' old and new forms.

                old                                     new
  images      a text file, one name a line
  matches       kadis,<dataset>,sim_value               source_image,source_path,target_reference,
                                                        target_reference_path,semantic_distance,cosine_similarity,rank
  several       kadis,<dataset>,sim_value_<dataset>,<dataset>,sim_value_<dataset>,...
  labels        dataset_001.csv: dist_img,label         labels_batch_0001.csv: distorted_image,quality_score,
                                                        source_image,matched_reference,distortion_type,distortion_level

Labels are 0..9. A labels file holds 1,000 sources (images of the pool). Source number n, counted from 1, has the
distorted images FFF/STEM_TT_LL.bmp with FFF = ceil(n / 1000), type TT and level LL; STEM is its name up to the first
point.

Source: SAQT's public code (create_dataset, dataset_generation).
"""

import collections
import contextlib
import csv
import dataclasses
import glob
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxiqa.datasets import checks, fact
from jaxiqa.datasets.formats import tables
from jaxiqa.errors import DataError
from jaxiqa.files import writing

BATCH = 1000  # sources in a labels file, and in a folder of images
FORMS = ("new", "old")
_NEW_MATCHES = (
    "source_image", "source_path", "target_reference", "target_reference_path", "semantic_distance",
    "cosine_similarity", "rank",
)  # fmt: skip
_NEW_LABELS = (
    "distorted_image", "quality_score", "source_image", "matched_reference", "distortion_type", "distortion_level",
)  # fmt: skip
_LABELS = {
    "old": ("dataset_{:03d}.csv", "utf-8", ("dist_img", "label")),
    "new": ("labels_batch_{:04d}.csv", "utf-8-sig", _NEW_LABELS),
}


@dataclasses.dataclass(frozen=True)
class Matches:
    """The best match of each of N sources in one dataset: names of images, cosines (N,), and paths if known."""

    sources: list[str]
    references: list[str]
    similarity: np.ndarray
    reference_paths: Sequence[str] = ()


def stem(name: str) -> str:
    """Returns the part of a source's name that its distorted images keep: without folders, up to the first point."""
    return posixpath.basename(name).split(".")[0]


def distorted_name(number: int, name: str, type_: int, level: int) -> str:
    """Returns the public path of a distorted image of source `number`, counted from 0."""
    return _begin(number, name) + _end(type_, level)


def _begin(number: int, name: str) -> str:
    return f"{number // BATCH + 1:03d}/{stem(name)}"


def _end(type_: int, level: int) -> str:
    return f"_{type_:02d}_{level:02d}.bmp"


def check_names(names: Sequence[str]) -> None:
    """Checks the names of sources.

    Raises:
      DataError: two sources would have distorted images of one name, or a name cannot be written as UTF-8.
    """
    first: dict[str, str] = {}
    for name in names:
        if not name.isascii() and name != name.encode("utf-8", "replace").decode():
            raise DataError(
                f"{name.encode('utf-8', 'replace').decode()!r} is not a UTF-8 name; rename the image",
                code="value",
                key=name,
            )
        if first.setdefault(stem(name), name) != name:
            raise DataError(
                f"{first[stem(name)]} and {name} would both become {stem(name)}_TT_LL; rename one of them",
                code="conflict",
                key=name,
            )


def read_names(path: str) -> list[str]:
    """Returns the lines of a list of images. Raises DataError if it is empty or names an image twice."""
    names = [line.strip() for line in tables.read_text(path).splitlines() if line.strip()]
    _refuse_repeated(path, names)
    if not names:
        raise DataError(f"{path} has no names", code="empty", key=path)
    return names


def read_matches(path: str) -> dict[str, Matches]:
    """Returns the matches in a CSV of any of the forms above, by dataset. Of several ranks it keeps the first.

    The key is the dataset's name in the header; it is "" in the new form, whose header has none.

    Raises:
      DataError: the header is unknown, or rows are bad; the message lists all of them.
    """
    faults = checks.Faults("matches", path)
    header = next((cells for _, cells in tables.read_rows(path, faults, ("kadis", "sim_value", *_NEW_MATCHES))), [""])
    if header[0] == "source_image":
        rows = tables.read_csv(path, _NEW_MATCHES, faults)
        rows = [(where, row) for where, row in rows if row["rank"] == "1"]
        columns = {"": ("target_reference", "cosine_similarity")}
    else:
        values = header[2::2]
        names = header[1 : 2 * len(values) : 2]
        expected = ["sim_value"] if len(names) == 1 else [f"sim_value_{name}" for name in names]
        if header[0] != "kadis" or not names or values != expected or len(header) % 2 == 0:
            raise DataError(
                f"{path}: the header must be kadis,DATASET,sim_value, or kadis,DATASET,sim_value_DATASET,... for "
                f"several, or {','.join(_NEW_MATCHES)}",
                code="format",
                key=path,
            )
        rows = tables.read_csv(path, tuple(header), faults)
        columns = dict(zip(names, zip(names, values, strict=True), strict=True))
    sources = [row[header[0]] for _, row in rows]
    _refuse_repeated(path, sources)
    places = [row.get("target_reference_path", "") for _, row in rows]
    matches = {}
    for key, (reference, value) in columns.items():
        faults.add_all(checks.incomplete_rows("a reference"), (where for where, row in rows if not row[reference]))
        similarity = np.array([faults.label(row[value], where, (-1.001, 1.001)) for where, row in rows])
        matches[key] = Matches(sources, [row[reference] for _, row in rows], similarity, places)
    faults.refuse()
    return matches


def write_similarities(path: str, matches: Mapping[str, Matches]) -> None:
    """Writes the matches of the same sources in one or several datasets, {key: matches}, in the old form."""
    names = [fact(key, "PUBLIC_NAME") or key for key in matches]
    values = ["sim_value"] if len(matches) == 1 else [f"sim_value_{name}" for name in names]
    header = ["kadis", *(cell for pair in zip(names, values, strict=True) for cell in pair)]
    columns = [column for m in matches.values() for column in (m.references, m.similarity.tolist())]
    with writing_csv(path, header) as writer:
        writer.writerows(zip(next(iter(matches.values())).sources, *columns, strict=True))


def write_matches(
    path: str, paths: Mapping[str, str], references: Sequence[str], number_NK: np.ndarray, cosine_NK: np.ndarray
) -> None:
    """Writes the K best matches of N sources in the new form.

    Args:
      path: file to write.
      paths: {source: path of its image}, N entries.
      references: paths of all references; a file name without a folder if the image is not available.
      number_NK: int (N, K), indices of the matches in `references`, the most similar first.
      cosine_NK: (N, K), their cosines.
    """
    names = [os.path.basename(reference) for reference in references]
    where = ["" if name == reference else reference for name, reference in zip(names, references, strict=True)]
    with writing_csv(path, _NEW_MATCHES, "utf-8-sig") as writer:
        for (source, place), numbers, cosines in zip(
            paths.items(), number_NK.tolist(), cosine_NK.tolist(), strict=True
        ):
            for rank, (number, cosine) in enumerate(zip(numbers, cosines, strict=True), 1):
                writer.writerow((source, place, names[number], where[number], 1 - cosine, cosine, rank))


def write_labels(
    folder: str,
    form: str,
    sources: Sequence[str],
    references: Sequence[str],
    number_N: np.ndarray,
    label_RC: np.ndarray,
    cells: Sequence[tuple[int, int]],
) -> tuple[list[str], int]:
    """Writes the labels of all sources at every type and level, in one file for each BATCH sources.

    Files of an earlier run in the same folder are replaced or removed.

    Args:
      folder: is created if it does not exist.
      form: "old" or "new".
      sources: N names.
      references: R names of images.
      number_N: int (N,), index of the reference whose labels a source gets.
      label_RC: (R, C), labels 0..9.
      cells: C pairs (type, level), in the order of the rows.

    Returns:
      The names of the files, and the number of rows.
    """
    pattern, encoding, header = _LABELS[form]
    os.makedirs(folder, exist_ok=True)
    text_RC = [[f"{label:.6f}" for label in row] for row in label_RC.tolist()]
    ends = [_end(*cell) for cell in cells]
    numbers, files, rows = np.asarray(number_N).tolist(), [], 0
    for start in range(0, len(sources), BATCH):
        files.append(pattern.format(start // BATCH + 1))
        with writing_csv(os.path.join(folder, files[-1]), header, encoding) as writer:
            for i in range(start, min(start + BATCH, len(sources))):
                begin, labels = _begin(i, sources[i]), text_RC[numbers[i]]
                names = [begin + end for end in ends]
                if form == "old":
                    writer.writerows(zip(names, labels, strict=True))
                else:
                    known = (sources[i], references[numbers[i]])
                    writer.writerows(
                        (name, label, *known, *cell) for name, label, cell in zip(names, labels, cells, strict=True)
                    )
                rows += len(cells)
    for other, *_ in _LABELS.values():
        for path in glob.glob(os.path.join(glob.escape(folder), other.replace("{:03d}", "*").replace("{:04d}", "*"))):
            if os.path.basename(path) not in files:
                os.remove(path)
    return files, rows


@contextlib.contextmanager
def writing_csv(path: str, header: Sequence[str], encoding: str = "utf-8") -> Iterator:
    """Yields a CSV writer that has written the header. The file appears when it is complete."""
    with writing(path, "w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        yield writer


def _refuse_repeated(path: str, names: Sequence[str]) -> None:
    if twice := [name for name, count in collections.Counter(names).items() if count > 1]:
        raise DataError(
            f"{path}: {len(twice):,} images are listed twice ({', '.join(twice[:10])}); keep one row of each",
            code="format",
            key=path,
        )
