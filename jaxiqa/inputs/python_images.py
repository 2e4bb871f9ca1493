"""Images as Python programs hold them: paths, files, Pillow images, arrays, tensors, and collections of these."""

import io
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from jaxiqa.distortions.eight_bits import to_uint8_on_host
from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import from_pil, read_image

_NUMBERS = re.compile(r"\b(u?int|b?float|bool|complex)\d*\b")  # in the name of a dtype, of any library
_ROUNDING = 0.5 / 255  # a float that is less outside 0..1 rounds to the same 8-bit value as 0 or 1


def several(images: Any) -> Iterable | None:
    """The images of a collection; None if `images` is one image, or nothing that holds images.

    A collection is anything that is iterated over, e.g. a list, a generator or a column of a table, and an array
    (N, H, W, C). Paths, files, Pillow images and other arrays are one image.

    Raises:
      DataError: it is a dict or a table, and it is not clear what to iterate over.
    """
    if isinstance(images, Mapping) or hasattr(images, "columns"):
        what = "a list or a column, e.g. list(images.values())" if isinstance(images, Mapping) else "one of its columns"
        raise DataError(f"{_of(images)} is not a list of images; pass {what}", code="format")
    if isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Image.Image) or _is_file(images):
        return None
    if (sides := _sides(images)) is not None and (sides != 1 or _NUMBERS.search(str(getattr(images, "dtype", "")))):
        return images if sides == 4 else None
    return images if hasattr(images, "__iter__") or hasattr(images, "__getitem__") else None


def pixels(image: Any) -> np.ndarray:
    """Converts one image to uint8 (H, W, 3).

    It is a path, the bytes of a file (also as an array of one axis), an open binary file, a Pillow image, or an array
    or tensor: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGB and alpha, of bool, of uint8, or of floats in 0..1,
    which are rounded to 8 bits. Alpha is composited as in a file.

    Raises:
      DataError: the image cannot be read, or the array has another shape, type or range.
    """
    if isinstance(image, Image.Image):
        return from_pil(image)
    if isinstance(image, str | bytes | bytearray | os.PathLike) or (isinstance(image, memoryview) and image.ndim == 1):
        is_path = isinstance(image, bytes) and len(image) < 4096 and b"\0" not in image and os.path.isfile(image)
        return read_image(os.fsdecode(image) if is_path else image)
    if _sides(image) is None and _is_file(image):
        return _from_file(image)
    if hasattr(image, "as_py"):  # a value of a pyarrow column
        return pixels(image.as_py())
    array = _array(image)
    if array.ndim == 0 and isinstance(array.item(), str | bytes):
        return pixels(array.item())
    if array.ndim == 1 and array.dtype == np.uint8:
        return read_image(array.tobytes())
    return _from_array(array, "permute" if hasattr(image, "permute") else "transpose")


def _from_file(file: Any) -> np.ndarray:
    if not hasattr(file, "read"):  # a path in an archive
        return read_image(file.read_bytes())
    if isinstance(file, io.TextIOBase):
        raise DataError("a file that is open as text is not an image; open it with mode 'rb'", code="format")
    if getattr(file, "closed", False):
        raise DataError("the file is closed; call the metric before it is closed, or pass its path", code="unreadable")
    at = _position(file)
    try:
        return read_image(file)
    except DataError as error:
        if not at:
            raise
        raise DataError(
            f"{error}; the file was read from byte {at}: call its seek(0) first", code=error.code, key=error.key
        ) from error


def _position(file: Any) -> int:
    """The position of an open file; 0 if it has none."""
    try:
        return file.tell()
    except (AttributeError, OSError, ValueError):
        return 0


def _is_file(image: Any) -> bool:
    return hasattr(image, "read") or hasattr(image, "read_bytes")


def _sides(image: Any) -> int | None:
    """The number of axes of an array or tensor; None of anything else."""
    shape = getattr(image, "shape", None)
    try:
        return None if shape is None else len(shape)
    except (TypeError, ValueError):  # a tensor of unknown shape
        return None


def _of(thing: Any) -> str:
    return f"an object of type {type(thing).__name__}"


def _array(image: Any) -> np.ndarray:
    """An array or tensor as a NumPy array; DataError if it is nothing of the kind."""
    if image is None:
        raise DataError(
            "None is not an image; a function that reads images, such as cv2.imread, returns None if it finds no file",
            code="format",
        )
    if _sides(image) is None and not hasattr(image, "__array__") and not isinstance(image, memoryview):
        raise DataError(f"{_of(image)} is not an image; pass a path, a Pillow image or an array", code="format")
    try:
        if hasattr(image, "detach") and hasattr(image, "cpu"):  # a tensor of PyTorch
            image = image.detach().cpu()
            image = image.float() if "bfloat16" in str(image.dtype) else image
        return np.asarray(image)
    except Exception as error:  # every library has its own
        why = " ".join(str(error).split())[:200]
        raise DataError(
            f"{_of(image)} cannot be read as an array ({why}); pass a NumPy array", code="format"
        ) from error


def _from_array(image: np.ndarray, move: str) -> np.ndarray:
    shape = image.shape
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
        is_chw = len(shape) == 3 and shape[0] in (1, 3, 4)
        hint = f"; this is CHW: move the channels last, image.{move}(1, 2, 0)" if is_chw else ""
        raise DataError(
            f"an array of shape {shape} is not an image; it must be (H, W), or (H, W, C) with 1, 3 or 4 channels{hint}",
            code="format",
        )
    if image.dtype == np.bool_:
        image = image.astype(np.uint8) * np.uint8(255)
    elif image.dtype != np.uint8:
        image = _round(image)
    if image.shape[2] == 4:
        return from_pil(Image.fromarray(np.ascontiguousarray(image), "RGBA"))
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def _round(image: np.ndarray) -> np.ndarray:
    """Floats in 0..1 as uint8."""
    if not np.issubdtype(image.dtype, np.floating) and image.dtype.name != "bfloat16":
        raise DataError(
            f"the value of white in an array of {image.dtype} is unknown; pass uint8, or floats in 0..1", code="format"
        )
    image = image.astype(np.float32)
    if bad := image.size - int(np.isfinite(image).sum()):
        raise DataError(
            f"{bad:,} of {image.size:,} values of the float image are NaN or infinite; they must be in 0..1. "
            "Replace them (numpy.nan_to_num), or check the code that makes the image for a division by zero",
            code="value",
        )
    low, high = float(image.min()), float(image.max())
    if low <= -_ROUNDING or high >= 1 + _ROUNDING:
        remedy = "clip them, if they overshoot" if low < 0 else "divide them by the value of white, e.g. 255"
        raise DataError(f"the values of a float image must be in 0..1, not {low:g}..{high:g}; {remedy}", code="value")
    return to_uint8_on_host(image.clip(0, 1))
