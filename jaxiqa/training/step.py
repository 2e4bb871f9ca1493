"""One optimiser step of any task, and its compilation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxiqa.training import optim, sharding
from jaxiqa.training.state import TrainState, update_ema


def make_train_step(
    loss_of: Callable,
    tx,
    schedule,
    frozen: tuple[str, ...] = (),
    *,
    prepare: Callable | None = None,
    parts: int = 1,
    ema: float = 0.0,
    skip_nonfinite: bool = False,
    skip_above: float = 0.0,
):
    """train_step(state, batch, key) -> (state, metrics): one optimiser step.

    The key of the run, for dropout and distortions, is folded with the step. It is an argument and not a constant of
    the program, so that runs with different seeds share the compiled program.

    Args:
      loss_of: (params, batch_stats, batch, key) -> (loss, batch_stats), differentiated with respect to the trainable
        parameters.
      tx, schedule: from training.optim.
      frozen: regular expressions of the parameters that are not trained.
      prepare: (batch, key) -> batch, applied to the whole batch first, without gradient.
      parts: number of parts of the batch over which the gradient is accumulated.
      ema: decay of the averaged parameters; 0 for none.
      skip_nonfinite: whether a step whose loss or gradient is NaN or infinite changes nothing but the step counter.
      skip_above: gradient norm above which a step is skipped in the same way; 0 for no limit. NaN is not above it.

    Returns:
      train_step. Its metrics are loss, learning_rate, grad_norm and, if steps may be skipped, skipped (0 or 1).
    """

    def train_step(state: TrainState, batch, key):
        trainable, held = optim.split_frozen(state.params, frozen)
        step_key = jax.random.fold_in(key, state.step)
        batch = prepare(batch, step_key) if prepare else batch

        def gradients(batch_stats, batch, key):
            def objective(trainable):
                return loss_of(optim.merge(trainable, held), batch_stats, batch, key)

            (loss, batch_stats), grads = jax.value_and_grad(objective, has_aux=True)(trainable)
            return loss, batch_stats, grads

        loss, batch_stats, grads = accumulate(gradients, parts, state.batch_stats, batch, step_key)
        updates, opt_state = tx.update(grads, state.opt_state, trainable)
        trainable = optax.apply_updates(trainable, updates)
        averaged = update_ema(state.ema, trainable, ema, state.step) if ema else {}
        metrics = {"loss": loss, "learning_rate": schedule(state.step), "grad_norm": optax.tree.norm(grads)}
        after = TrainState(state.step + 1, optim.merge(trainable, held), batch_stats, opt_state, averaged)
        if not (skip_nonfinite or skip_above):
            return after, metrics
        bad = metrics["grad_norm"] > (skip_above or jnp.inf)
        if skip_nonfinite:
            bad |= ~(jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"]))
        kept = jax.tree.map(lambda new, old: jnp.where(bad, old, new), after, state)
        return kept.replace(step=after.step), {**metrics, "skipped": bad.astype(jnp.float32)}

    return train_step


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


def jit_step(step, state_sharding, mesh):
    """The step as a jitted function. The state is donated and keeps its sharding; metrics are on every device."""
    return jax.jit(step, donate_argnums=0, out_shardings=(state_sharding, sharding.replicated(mesh)))
