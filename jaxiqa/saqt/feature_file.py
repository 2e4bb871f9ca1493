"""Features on disk: one .npz file with the features, the names of their images in the same order, and their origin.

Features and names are in one file, because the orders of two files may differ (in one of the two public label sets they
do).
"""

import dataclasses
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxiqa.errors import DataError
from jaxiqa.files import writing


@dataclasses.dataclass(frozen=True)
class FeatureFile:
    """A file of features, which are read on demand."""

    path: str  # path of the file
    names: list[str]  # N names of images
    about: dict  # the plain values that write_features got

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """The features in order, fp32 (up to `rows`, D), one block in memory at a time.

        Raises:
          DataError: the file is damaged, or a feature does not have length 1.
        """
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open("features.npy") as file:
                shape = _header(file)
                if shape[0] != len(self.names):
                    raise ValueError(f"{shape[0]} features and {len(self.names)} names")
                for start in range(0, shape[0], rows):
                    count = min(rows, shape[0] - start)
                    data = file.read(count * shape[1] * 4)
                    block = np.frombuffer(data, np.float32).reshape(count, shape[1])
                    if not np.allclose(np.einsum("nd,nd->n", block, block), 1, atol=1e-4):
                        raise ValueError(f"features {start}..{start + count - 1} are not all of length 1")
                    yield block
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise _refused(self.path, error) from error

    def read(self) -> np.ndarray:
        """All features, fp32 (N, D). Raises DataError as blocks() does."""
        return np.concatenate(list(self.blocks(len(self.names))))


def write_features(path: str | os.PathLike, names: Sequence[str], features_ND: np.ndarray, about: Mapping) -> None:
    """Writes fp32 features (N, D) of length 1 with N names and plain values; the file appears when it is complete."""
    with writing(path) as file:
        np.savez(file, features=np.ascontiguousarray(features_ND, np.float32), names=names, about=json.dumps(about))


def read_features(path: str | os.PathLike) -> FeatureFile:
    """Opens a file of write_features. Raises DataError if the file is something else."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as members:
            return FeatureFile(os.fspath(path), members["names"].tolist(), json.loads(members["about"].item()))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise _refused(path, error) from error


def _header(file) -> tuple[int, int]:
    """Reads the header of an fp32 array in .npy format; returns its shape. The file is then at the first value."""
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an unknown version of .npy")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    if len(shape) != 2 or by_columns or dtype != np.float32:
        raise ValueError(f"features of shape {shape} and type {dtype}")
    return shape


def _refused(path, error: Exception) -> DataError:
    return DataError(
        f"{os.fspath(path)} holds no usable features ({error}); remove it to compute them again",
        code="damaged",
        key=path,
    )
