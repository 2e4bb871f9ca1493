"""The most similar references: cosines as one matrix product, block by block. N pictures, M references, D features."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.training import sharding

BLOCK = 4096  # pictures in a product


def nearest(blocks: Iterable[np.ndarray], references_MD: np.ndarray, k: int, mesh) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar references of each picture; of equally similar ones the first.

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
