"""Features on disk: one .npz with the features, the names of their pictures in the same order, and what made them.

Features and names are in one file, because two files are put together in another order sooner or later (in the public
label sets one of two was).
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
    """A file of features; they are read when they are asked for."""

    path: str  # of the file
    names: list[str]  # N names of pictures
    about: dict  # what write_features was given

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """The features in order, fp32 (up to `rows`, D), one block in memory at a time.

        Raises:
          DataError: the file is damaged, or not every feature has the length 1.
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
        """All of them, fp32 (N, D); DataError as from blocks."""
        return np.concatenate(list(self.blocks(len(self.names))))


def write_features(path: str | os.PathLike, names: Sequence[str], features_ND: np.ndarray, about: Mapping) -> None:
    """Writes fp32 features (N, D) of length 1 with N names and plain values; the file appears when it is complete."""
    with writing(path) as file:
        np.savez(file, features=np.ascontiguousarray(features_ND, np.float32), names=names, about=json.dumps(about))


def read_features(path: str | os.PathLike) -> FeatureFile:
    """A file that write_features wrote. Raises DataError where it is none."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as members:
            return FeatureFile(os.fspath(path), members["names"].tolist(), json.loads(members["about"].item()))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise _refused(path, error) from error


def _header(file) -> tuple[int, int]:
    """The shape of an array of fp32 in .npy form, read up to its first value."""
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an unknown version of .npy")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    if len(shape) != 2 or by_columns or dtype != np.float32:
        raise ValueError(f"features of shape {shape} and type {dtype}")
    return shape


def _refused(path, error: Exception) -> DataError:
    return DataError(f"{os.fspath(path)} holds no features that can be used ({error}); remove it to compute them again")
