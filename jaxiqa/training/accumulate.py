"""Gradient accumulation, for a batch that does not fit into memory at once."""

import jax
import jax.numpy as jnp


def accumulate(gradients, parts: int, batch_stats, batch: dict, key):
    """Loss and gradients as means over `parts` equal parts of the batch, of which one is in memory at a time.

    Args:
      gradients: function (batch_stats, batch, key) -> (loss, batch_stats, gradients) of one part.
      parts: number of parts. With 1, `gradients` is called once on the whole batch.
      batch_stats: batch statistics, passed on from part to part.
      batch: {name: (B, ...)}, B a multiple of parts times devices.
      key: random key, folded with the number of the part.

    Returns:
      (loss, batch_stats, gradients). They equal those of the whole batch only if BatchNorm is frozen and the loss is a
      mean over images (plcc and rank compare the images of a part).
    """
    if parts == 1:
        return gradients(batch_stats, batch, key)

    def add(carry, numbered):
        batch_stats, loss, total = carry
        i, part = numbered
        part_loss, batch_stats, grads = gradients(batch_stats, part, jax.random.fold_in(key, i))
        return (batch_stats, loss + part_loss, jax.tree.map(jnp.add, total, grads)), None

    # Each part takes every parts-th image, so that it is spread over the devices as the batch is.
    split = {name: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1) for name, x in batch.items()}
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), split)
    _, _, shapes = jax.eval_shape(gradients, batch_stats, one, key)
    start = (batch_stats, jnp.zeros(()), jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
    (batch_stats, loss, total), _ = jax.lax.scan(add, start, (jnp.arange(parts), split))
    loss, total = jax.tree.map(lambda x: x / parts, (loss, total))
    return loss, batch_stats, total
