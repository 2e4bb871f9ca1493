"""Selection of images of a large pool: those most similar to the references of several datasets."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxiqa.errors import ConfigError


def choose(
    names: Sequence[str], steering: Mapping[str, np.ndarray], similarity_N: np.ndarray, top: int, total: int
) -> np.ndarray:
    """Selects the images most similar to each steering dataset, then those most similar to the labelled dataset.

    Of equally similar images, those that come first in the pool are selected.

    Args:
      names: names of the N images of the pool.
      steering: {dataset: (N,) similarity of each image to its best match in the dataset}.
      similarity_N: the same for the dataset that the labels are from.
      top: number of images for each steering dataset.
      total: number of all images; the whole pool if it is smaller.

    Returns:
      int (total,): first the union of the top lists, sorted by name, then the others by falling similarity.

    Raises:
      ConfigError: the union has more than `total` images.

    Source: SAQT, option 2 of the public code.
    """
    union = {int(i) for values in steering.values() for i in _falling(values)[:top]}
    if len(union) > total:
        raise ConfigError(
            f"--top {top} selects {len(union):,} images, more than --choose {total}; lower --top or raise --choose",
            code="conflict",
            key="--top",
        )
    others = [i for i in _falling(similarity_N) if i not in union]
    return np.array([*sorted(union, key=lambda i: names[i]), *others[: total - len(union)]], np.int64)


def _falling(values: np.ndarray) -> list[int]:
    return np.argsort(-np.asarray(values), kind="stable").tolist()
