"""Which reference each picture of a pool is most like: computed from features, or read from a file."""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.errors import DataError
from jaxiqa.inputs.content import decode_all
from jaxiqa.retrieval.features import Extractor, features_of
from jaxiqa.retrieval.labels import label_sources
from jaxiqa.retrieval.shares import features_of_shares
from jaxiqa.training import sharding

BLOCK = 4096  # images whose cosines are one matrix product


@dataclasses.dataclass(frozen=True)
class Found:
    """The K best matches of N pictures in one set of references."""

    names: list[str]  # of the pictures, N
    number_NK: np.ndarray  # int, which references, the most similar first
    cosine_NK: np.ndarray  # how similar they are

    def take(self, rows: Sequence[int]) -> "Found":
        """Some of the pictures, in this order."""
        return Found([self.names[i] for i in rows], self.number_NK[rows], self.cosine_NK[rows])


def by_lot(pool: Mapping[str, str], count: int, seed: int) -> tuple[Found, dict[str, str]]:
    """One of `count` references for every picture of a pool {name: path}, where no similarity is asked for (it is NaN).

    Also returns {name: why} of the pictures that cannot be read, which are left out.
    """
    contents = dict(zip(pool, decode_all(list(pool.values()), max(2, os.cpu_count() or 1)), strict=True))
    refused = {name: content.reason for name, content in contents.items() if content.reason}
    names = [name for name in pool if name not in refused]
    if not names:
        raise DataError(f"not one of {len(pool)} pictures can be used; {next(iter(refused.values()))}")
    number_N1 = label_sources("random", names, None, count, seed)[:, None]
    return Found(names, number_N1, np.full(number_N1.shape, np.nan)), refused


class Matcher:
    """Finds matches of one pool of pictures in several sets of references.

    Many processes make it together, each computing the features of its share of the pool; then each can use it alone.

    Args:
      pool: {name: path} of the pictures.
      mesh: of this process's devices.
      folder: features are kept here, as features_NAME.npz; all processes see it.

    Attributes:
      features: of the pool; what could not be read is in features.about["refused"].

    Raises:
      DataError: not one of the pictures can be used.
    """

    def __init__(self, pool: Mapping[str, str], extractor: Extractor, mesh, folder: str):
        self._file = lambda name: os.path.join(folder, f"features_{name}.npz")
        self._extractor, self._mesh = extractor, mesh
        self.features = features_of_shares(pool, self._file("pictures"), extractor, "features of the pictures")
        if not self.features.names:
            reason = next(iter(self.features.about["refused"].values()))
            raise DataError(f"not one of {len(pool)} pictures can be used; {reason}")

    def __call__(self, dataset: str, references: Mapping[str, str], k: int) -> Found:
        """The k best matches of every picture.

        Args:
          dataset: name of the references' dataset.
          references: {name: path}; all must be readable.
          k: matches per picture, or all references where they are fewer.

        Raises:
          DataError: a reference cannot be read.
        """
        features = features_of(references, self._file(dataset), self._extractor, f"features of {dataset}'s references")
        if refused := features.about["refused"]:
            raise DataError(
                f"{len(refused)} reference pictures of {dataset} cannot be used: {next(iter(refused.values()))}"
            )
        k = min(k, len(references))
        return Found(self.features.names, *nearest(self.features.blocks(BLOCK), features.read(), k, self._mesh))


def nearest(blocks: Iterable[np.ndarray], references_MD: np.ndarray, k: int, mesh) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar of M references for each of N images by D features; of equally similar ones the first.

    Args:
      blocks: fp32 (up to BLOCK, D) of length 1, which make up (N, D); one is held at a time.
      references_MD: fp32 (M, D) of length 1, k of them or more.
      k: references per picture.
      mesh: of the devices, over which a block is split.

    Returns:
      int32 (N, k) of numbers of references, the most similar first, and fp32 (N, k) of their cosines.
    """
    rows = -(-BLOCK // mesh.size) * mesh.size
    references_MD = jax.device_put(np.asarray(references_MD, np.float32), sharding.replicated(mesh))

    @jax.jit
    def top(block_BD, references_MD):
        cosine_BM = jnp.matmul(block_BD, references_MD.T, precision="highest")
        return jax.lax.top_k(cosine_BM, k)  # of equal ones the first

    numbers, cosines = [], []
    for block in blocks:
        padded = np.zeros((rows, block.shape[1]), np.float32)  # so that one shape is compiled
        padded[: len(block)] = block
        found = jax.device_get(top(jax.device_put(padded, sharding.batch_sharding(mesh)), references_MD))
        cosines.append(found[0][: len(block)])
        numbers.append(found[1][: len(block)].astype(np.int32))
    return np.concatenate(numbers), np.concatenate(cosines)


def number_references(names: Sequence[str], references: Sequence[str], where: str) -> np.ndarray:
    """Numbers of the references that pictures are named after (I01.png is I01): int (N,).

    Raises:
      DataError: names of none; the first are listed, after `where` they stand.
    """
    number_of = {reference.lower(): r for r, reference in enumerate(references)}
    numbers = {name: number_of.get(os.path.splitext(name)[0].lower(), -1) for name in set(names)}
    if unknown := sorted(name for name, number in numbers.items() if number < 0):
        raise DataError(
            f"{where}: {len(unknown)} names of references that the rated dataset has not ({', '.join(unknown[:10])})"
        )
    return np.array([numbers[name] for name in names])
