"""Which pictures of a large pool are taken: those most like the references of several datasets."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxiqa.errors import ConfigError


def choose(
    names: Sequence[str], steering: Mapping[str, np.ndarray], similarity_N: np.ndarray, top: int, total: int
) -> np.ndarray:
    """The pictures most similar to each steering dataset, filled up with those most similar to the labelled one.

    Of equally similar pictures those that come first in the pool are taken.

    Args:
      names: of the pool's N pictures.
      steering: {dataset: (N,) similarity of each picture's best match in it}.
      similarity_N: the same for the dataset that the labels are from.
      top: pictures taken for each steering dataset.
      total: pictures taken in all, or the whole pool where it is smaller.

    Returns:
      int (total,): first the union of the top lists, sorted by name, then the others by falling similarity.

    Raises:
      ConfigError: the union alone has more than `total`.

    Source: SAQT, option 2 of the public code.
    """
    union = {int(i) for values in steering.values() for i in _falling(values)[:top]}
    if len(union) > total:
        raise ConfigError(
            f"--top {top}: the pictures most like each dataset are {len(union):,}, more than --choose {total}"
        )
    others = [i for i in _falling(similarity_N) if i not in union]
    return np.array([*sorted(union, key=lambda i: names[i]), *others[: total - len(union)]], np.int64)


def _falling(values: np.ndarray) -> list[int]:
    return np.argsort(-np.asarray(values), kind="stable").tolist()
