"""A checkpoint as plain files, as a hub holds it: model.safetensors, jaxiqa.json and README.md in one folder.

jaxiqa.json has the metadata of the step and the SHA-256 of every array, as jaxiqa.runs.digests has them. They are
checked when the folder is read. No other file of the folder is read, and nothing that a file names is imported.
"""

import json
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath
from flax import traverse_util

from jaxiqa.errors import CheckpointError, read_code
from jaxiqa.files import write_bytes, write_json
from jaxiqa.runs import digests
from jaxiqa.runs.checkpoint_meta import CheckpointMeta

WEIGHTS, ABOUT, README = "model.safetensors", "jaxiqa.json", "README.md"
_MAX_ABOUT = 16 << 20  # bytes of ABOUT


def is_one(folder: epath.Path) -> bool:
    """Whether a folder has this form."""
    return (folder / ABOUT).is_file()


def write(folder: epath.Path, state: dict[str, Any], meta: CheckpointMeta, step: int) -> None:
    """Writes WEIGHTS and ABOUT into a folder that exists. `state` has trees of NumPy arrays, "params" among them."""
    flat = traverse_util.flatten_dict(state, sep="/")
    arrays = {
        name: {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": {"": digests.sha256(array)}}
        for name, array in flat.items()
    }
    about = {"meta": meta.to_dict(), "step": step, "arrays": arrays}
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in flat.items()}
    write_bytes(folder / WEIGHTS, safetensors.numpy.save(contiguous))
    write_json(folder / ABOUT, about | {"sha256": digests.of_json(about)})


def read_about(folder: epath.Path) -> tuple[CheckpointMeta, int, dict[str, dict]]:
    """The metadata, the step, and {array: {"dtype", "shape", "sha256"}} of a folder.

    Raises:
      CheckpointError: the file is damaged, or of a newer version.
    """
    path = folder / ABOUT
    try:
        if path.stat().length > _MAX_ABOUT:
            raise ValueError(f"it has more than {_MAX_ABOUT:,} bytes")
        found = json.loads(path.read_text())
        if found.pop("sha256") != digests.of_json(found):
            raise ValueError("it differs from what was written")
        for entry in found["arrays"].values():
            if not {"dtype", "shape", "sha256"} <= entry.keys() or list(entry["sha256"]) != [""]:
                raise ValueError("an array is not described")
        return CheckpointMeta.from_dict(found["meta"], folder), int(found["step"]), found["arrays"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, error) from error


def read_arrays(folder: epath.Path, arrays: dict[str, dict], parts: tuple[str, ...]) -> dict[str, Any]:
    """The NumPy arrays of some parts of the state ("params", ...), as trees; each is checked by `arrays` of read_about.

    Raises:
      CheckpointError: the weights cannot be read, or are not those that `arrays` describes.
    """
    path, flat = folder / WEIGHTS, {}
    try:
        with safetensors.safe_open(path, "np") as file:
            if {*file.keys()} != arrays.keys():
                raise ValueError(f"its tensors are not those of {ABOUT}")
            for name in (name for name in arrays if name.partition("/")[0] in parts):
                flat[name] = array = file.get_tensor(name)
                told = arrays[name]
                if (str(array.dtype), list(array.shape), digests.sha256(array)) != (
                    told["dtype"],
                    told["shape"],
                    told["sha256"][""],
                ):
                    raise ValueError(f"{name} differs from what {ABOUT} says")
        return traverse_util.unflatten_dict(flat, sep="/")
    except (OSError, ValueError, TypeError, IndexError, safetensors.SafetensorError) as error:
        raise _damaged(path, error) from error


def _damaged(path: epath.Path, error: Exception) -> CheckpointError:
    missing = isinstance(error, FileNotFoundError)
    why = "it does not exist" if missing else getattr(error, "strerror", None) or str(error)
    return CheckpointError(
        f"checkpoint {path} cannot be used ({' '.join(why.split())[:200]}); fetch it again",
        code=read_code(error) if isinstance(error, OSError) else "damaged",
        key=path,
    )
