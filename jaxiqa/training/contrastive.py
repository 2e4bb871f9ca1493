"""The loss and the step of contrastive pretraining. B pictures, D features."""

import jax
import jax.numpy as jnp
import optax

from jaxiqa.training import optim
from jaxiqa.training.state import TrainState


def supervised_contrastive(z_BD, label_B, temperature: float):
    """Supervised contrastive loss over the whole (global) batch, in fp32: a scalar.

    For a picture n with the others of its label P(n): log sum_{m != n} exp(z_n z_m / t) - mean_{p in P(n)} z_n z_p / t,
    averaged over the pictures whose P(n) is not empty. z are made unit vectors here.

    Args:
      z_BD: projections; sharded over devices or not, the loss is the same.
      label_B: int.
      temperature: t, 0.1 in CONTRIQUE, SaTQA and ARNIQA.

    Source: Khosla et al., arXiv 2004.11362, equation 2; as in CONTRIQUE and SaTQA; ASSUMED for MFEN.
    """
    z_BD = z_BD.astype(jnp.float32)
    z_BD *= jax.lax.rsqrt(jnp.maximum(jnp.square(z_BD).sum(1, keepdims=True), 1e-24))
    similarity_BB = jnp.einsum("nd,md->nm", z_BD, z_BD, precision=jax.lax.Precision.HIGHEST) / temperature
    itself_BB = jnp.eye(label_B.size, dtype=bool)
    positive_BB = (label_B[:, None] == label_B[None, :]) & ~itself_BB
    count_B = positive_BB.sum(1)
    normaliser_B = jax.nn.logsumexp(jnp.where(itself_BB, -jnp.inf, similarity_BB), axis=1)
    attraction_B = jnp.where(positive_BB, similarity_BB, 0.0).sum(1) / jnp.maximum(count_B, 1)
    return jnp.where(count_B > 0, normaliser_B - attraction_B, 0.0).sum() / jnp.maximum((count_B > 0).sum(), 1)


def make_pretrain_step(model, tx, schedule, temperature: float, views):
    """step(state, batch, key) -> (state, metrics): one optimiser step of the supervised contrastive loss.

    The key is that of the run, of what `views` draws; it is folded with the step.

    Args:
      model: a Contrastive; all of it trains.
      tx, schedule: from training.optim.
      temperature: of the loss.
      views: (batch, key) -> (images as the model takes them, labels).
    """

    def pretrain_step(state: TrainState, batch, key):
        images, label = views(batch, jax.random.fold_in(key, state.step))
        trainable, _ = optim.split_frozen(state.params, ())

        def objective(trainable):
            variables = {"params": optim.merge(trainable, {}), "batch_stats": state.batch_stats}
            (z_BD, _), updated = model.apply(variables, images, train=True, mutable=["batch_stats"])
            return supervised_contrastive(z_BD, label, temperature), updated["batch_stats"]

        (loss, batch_stats), grads = jax.value_and_grad(objective, has_aux=True)(trainable)
        updates, opt_state = tx.update(grads, state.opt_state, trainable)
        params = optim.merge(optax.apply_updates(trainable, updates), {})
        metrics = {"loss": loss, "learning_rate": schedule(state.step), "grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, params, batch_stats, opt_state, {}), metrics

    return pretrain_step
