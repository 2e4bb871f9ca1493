"""Foreign weight files to parameter trees and back."""

import os
from collections.abc import Mapping

import numpy as np

from jaxiqa.weights.files import read_tensors
from jaxiqa.weights.mapping import import_tensors

__all__ = ["load_torch"]


def load_torch(name: str, source: Mapping[str, np.ndarray] | str | os.PathLike, variant: str | None = None) -> dict:
    """Variables of model `name` from PyTorch weights, without PyTorch.

    Args:
      name: as for create_model.
      source: a .pth, .pt, .tar, .safetensors or .npz file, or {PyTorch name: array} in PyTorch's layout.
      variant: as for create_model.

    Returns:
      {"params": ..., "batch_stats": ...}, fp32 NumPy arrays in our layout.

    Raises:
      CheckpointError: a file that is none of these or tries to do anything but hold tensors; tensors that are unknown,
        missing, there twice, of another shape or not finite, all of them listed.
    """
    tensors = read_tensors(source) if isinstance(source, str | os.PathLike) else source
    return import_tensors(name, tensors.items(), variant).variables
