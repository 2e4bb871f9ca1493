"""One step of training a quality model, and how steps of training are compiled."""

import jax
import optax

from jaxiqa.training import optim, sharding
from jaxiqa.training.accumulate import accumulate
from jaxiqa.training.state import TrainState, update_ema


def make_train_step(model, tx, schedule, loss_fn, frozen, images_of, parts: int = 1, ema: float = 0.0):
    """step(state, batch, key) -> (state, metrics): one optimiser step.

    The key is that of the run, of dropout; it is folded with the step. As an argument it is no constant of the program,
    so that runs which differ in their seed share what is compiled.

    Args:
      model: from create_model.
      tx, schedule: from training.optim.
      loss_fn: (score_B, label_B) -> loss.
      frozen: patterns of the parameters that do not train.
      images_of: what the model takes, of a batch {"image", "label", ...}.
      parts: the gradient is accumulated over so many parts of the batch.
      ema: decay of the averaged parameters, 0 for none.
    """

    def train_step(state: TrainState, batch, key):
        trainable, held = optim.split_frozen(state.params, frozen)

        def gradients(batch_stats, batch, key):
            def objective(trainable):
                (score_B, _), updated = model.apply(
                    {"params": optim.merge(trainable, held), "batch_stats": batch_stats},
                    images_of(batch),
                    train=True,
                    rngs={"dropout": key},
                    mutable=["batch_stats"],
                )
                return loss_fn(score_B, batch["label"]), updated.get("batch_stats", {})

            (loss, batch_stats), grads = jax.value_and_grad(objective, has_aux=True)(trainable)
            return loss, batch_stats, grads

        step_key = jax.random.fold_in(key, state.step)
        loss, batch_stats, grads = accumulate(gradients, parts, state.batch_stats, batch, step_key)
        updates, opt_state = tx.update(grads, state.opt_state, trainable)
        trainable = optax.apply_updates(trainable, updates)
        averaged = update_ema(state.ema, trainable, ema, state.step) if ema else {}
        metrics = {"loss": loss, "learning_rate": schedule(state.step), "grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, optim.merge(trainable, held), batch_stats, opt_state, averaged), metrics

    return train_step


def jit_step(step, state_sharding, mesh):
    """The step, compiled at its first call: the state is donated and stays where it is, metrics are everywhere."""
    return jax.jit(step, donate_argnums=0, out_shardings=(state_sharding, sharding.replicated(mesh)))
