"""Reads foreign weight files into parameter trees, and writes them back."""

import os
import warnings
from collections.abc import Mapping

import numpy as np

from jaxiqa.weights.files import read_tensors
from jaxiqa.weights.mapping import import_tensors

__all__ = ["load_torch"]


def load_torch(name: str, source: Mapping[str, np.ndarray] | str | os.PathLike, variant: str | None = None) -> dict:
    """Reads PyTorch weights into the variables of model `name`; PyTorch is not needed.

    Args:
      name: as for create_model.
      source: a .pth, .pt, .tar, .safetensors or .npz file, or {PyTorch name: array} in PyTorch's layout.
      variant: as for create_model.

    Returns:
      {"params": ..., "batch_stats": ...}, fp32 NumPy arrays in our layout. If the classifier of a backbone is missing
      or has another number of classes, it is left out (create_model(name, num_classes=0) needs none). A warning tells
      this, and that a position embedding was resized.

    Raises:
      CheckpointError: the file has another format or contains objects that weights never need; or tensors are unknown,
        missing, duplicate, non-finite or of another shape. The message lists all of them.
    """
    tensors = read_tensors(source) if isinstance(source, str | os.PathLike) else source
    imported = import_tensors(name, tensors.items(), variant)
    for note in imported.notes:
        warnings.warn(note, stacklevel=2)
    return imported.variables
