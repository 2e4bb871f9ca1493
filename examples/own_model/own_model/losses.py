"""A loss: a function of scores and labels, and of the columns of ratings that its other parameters name."""

import jax.numpy as jnp


def tolerant_l1(score_B, label_B, std, tolerance: float = 0.5):
    """Mean absolute error that exceeds `tolerance` standard deviations of the ratings."""
    return jnp.maximum(jnp.abs(score_B - label_B) - tolerance * std, 0.0).mean()
