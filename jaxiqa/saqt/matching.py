"""The most similar reference of each image of a pool: computed from features, or read from a file."""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.errors import DataError
from jaxiqa.inputs.image_scan import decode_all
from jaxiqa.saqt.features import Extractor, features_of
from jaxiqa.saqt.labels import label_sources
from jaxiqa.saqt.pool_features import features_of_shares
from jaxiqa.training import sharding

BLOCK = 4096  # images in one matrix product of cosines


@dataclasses.dataclass(frozen=True)
class Found:
    """The K best matches of N images in one set of references."""

    names: list[str]  # N names of the images
    number_NK: np.ndarray  # int, indices of references, the most similar first
    cosine_NK: np.ndarray  # their similarities

    def take(self, rows: Sequence[int]) -> "Found":
        """The images at these indices, in this order."""
        return Found([self.names[i] for i in rows], self.number_NK[rows], self.cosine_NK[rows])


def by_lot(pool: Mapping[str, str], count: int, seed: int) -> tuple[Found, dict[str, str]]:
    """Draws one of `count` references for every image of a pool. No similarity is computed; it is NaN.

    Args:
      pool: {name: path} of the images.
      count: number of references.
      seed: of the draw.

    Returns:
      the matches, and {name: reason} for the images that cannot be read, which are left out.

    Raises:
      DataError: no image can be used.
    """
    contents = dict(zip(pool, decode_all(list(pool.values()), max(2, os.cpu_count() or 1)), strict=True))
    refused = {name: content.reason for name, content in contents.items() if content.reason}
    names = [name for name in pool if name not in refused]
    if not names:
        raise DataError(
            f"none of the {len(pool)} images can be used; {next(iter(refused.values()))}",
            code="empty",
            key="--pictures",
        )
    number_N1 = label_sources("random", names, None, count, seed)[:, None]
    return Found(names, number_N1, np.full(number_N1.shape, np.nan)), refused


class Matcher:
    """Finds matches of one pool of images in several sets of references.

    All processes must create it together: each computes the features of its share of the pool. Afterwards each process
    can use it alone.

    Args:
      pool: {name: path} of the images.
      extractor: computes the features.
      mesh: mesh of this process's devices.
      folder: keeps the features as features_NAME.npz; a folder that all processes share.

    Attributes:
      features: features of the pool; features.about["refused"] names the images that cannot be read.

    Raises:
      DataError: no image can be used.
    """

    def __init__(self, pool: Mapping[str, str], extractor: Extractor, mesh, folder: str):
        self._file = lambda name: os.path.join(folder, f"features_{name}.npz")
        self._extractor, self._mesh = extractor, mesh
        self.features = features_of_shares(pool, self._file("pictures"), extractor, "features of the images")
        if not self.features.names:
            reason = next(iter(self.features.about["refused"].values()))
            raise DataError(f"none of the {len(pool)} images can be used; {reason}", code="empty", key="--pictures")

    def __call__(self, dataset: str, references: Mapping[str, str], k: int) -> Found:
        """Finds the k best matches of every image.

        Args:
          dataset: name of the dataset of the references.
          references: {name: path}; all must be readable.
          k: matches per image; all references if there are fewer.

        Raises:
          DataError: a reference cannot be read.
        """
        features = features_of(references, self._file(dataset), self._extractor, f"features of {dataset}'s references")
        if refused := features.about["refused"]:
            raise DataError(
                f"{len(refused)} reference images of {dataset} cannot be used: {next(iter(refused.values()))}",
                code="unreadable",
                key=dataset,
            )
        k = min(k, len(references))
        return Found(self.features.names, *nearest(self.features.blocks(BLOCK), features.read(), k, self._mesh))


def nearest(blocks: Iterable[np.ndarray], references_MD: np.ndarray, k: int, mesh) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k most similar of M references for each of N images by D features; the first reference wins a tie.

    Args:
      blocks: fp32 (up to BLOCK, D) of length 1, together (N, D); one block is in memory at a time.
      references_MD: fp32 (M, D) of length 1, M >= k.
      k: references per image.
      mesh: the devices; each block is split over them.

    Returns:
      int32 (N, k) indices of references, the most similar first, and fp32 (N, k) their cosines.
    """
    rows = -(-BLOCK // mesh.size) * mesh.size
    references_MD = jax.device_put(np.asarray(references_MD, np.float32), sharding.replicated(mesh))

    @jax.jit
    def top(block_BD, references_MD):
        cosine_BM = jnp.matmul(block_BD, references_MD.T, precision="highest")
        return jax.lax.top_k(cosine_BM, k)  # the first index wins a tie

    numbers, cosines = [], []
    for block in blocks:
        padded = np.zeros((rows, block.shape[1]), np.float32)  # so that only one shape is compiled
        padded[: len(block)] = block
        found = jax.device_get(top(jax.device_put(padded, sharding.batch_sharding(mesh)), references_MD))
        cosines.append(found[0][: len(block)])
        numbers.append(found[1][: len(block)].astype(np.int32))
    return np.concatenate(numbers), np.concatenate(cosines)


def number_references(names: Sequence[str], references: Sequence[str], where: str) -> np.ndarray:
    """Indices of the references that images are named after (I01.png is I01): int (N,).

    Args:
      names: N file names.
      references: names of the references.
      where: the file that holds the names, for the message.

    Raises:
      DataError: a name matches no reference; the message lists the first ones.
    """
    number_of = {reference.lower(): r for r, reference in enumerate(references)}
    numbers = {name: number_of.get(os.path.splitext(name)[0].lower(), -1) for name in set(names)}
    if unknown := sorted(name for name, number in numbers.items() if number < 0):
        raise DataError(
            f"{where}: the rated dataset lacks {len(unknown)} of the references ({', '.join(unknown[:10])})",
            code="unknown",
            key=where,
        )
    return np.array([numbers[name] for name in names])
