"""Variables of a MATLAB .mat file, flat."""

import os

import numpy as np
import scipy

from jaxiqa.errors import DataError


def read_mat(path: str, *names: str) -> list[np.ndarray]:
    """The variables `names`, each as a 1-D array; a cell array of strings becomes an array of str.

    Raises:
      DataError: the file cannot be read, a variable is missing, or they differ in length.
    """
    try:
        variables = scipy.io.loadmat(path)
    except NotImplementedError as e:
        raise DataError(f"{path}: a MATLAB 7.3 file; the owners' file is an older format") from e
    except (OSError, ValueError, TypeError, scipy.io.matlab.MatReadError) as e:
        raise DataError(f"{path}: cannot be read as a MATLAB file ({e})") from e
    there = [name for name in variables if not name.startswith("__")]
    missing = [name for name in names if name not in there]
    if missing:
        raise DataError(f"{path} has no variable {', '.join(missing)}; it has {', '.join(there)}")
    arrays = [_flat(variables[name]) for name in names]
    if len({len(a) for a in arrays}) > 1:
        sizes = ", ".join(f"{name} {len(a):,}" for name, a in zip(names, arrays, strict=True))
        raise DataError(f"{os.path.basename(path)}: variables of different length: {sizes}")
    return arrays


def _flat(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array.ravel()
    return np.array([str(cell.item()) for cell in array.ravel()])
