"""Training losses, each a mean over one global batch, lower is better.

Those on scores and labels, both (B,) and fp32, have names; the contrastive one is on features.
"""

import re

import jax
import jax.numpy as jnp

from jaxiqa.errors import ConfigError, suggest


def l1(score_B, label_B):
    """Mean absolute error (GlintIQA, arXiv 2408.03885)."""
    return jnp.abs(score_B - label_B).mean()


def l2(score_B, label_B):
    """Mean squared error."""
    return jnp.square(score_B - label_B).mean()


def huber(score_B, label_B, delta: float = 0.1):
    """Huber loss divided by delta: |d| - delta/2 beyond delta (in label units), d^2 / (2 delta) within."""
    d = jnp.abs(score_B - label_B)
    return jnp.where(d < delta, 0.5 * d * d / delta, d - 0.5 * delta).mean()


def plcc(score_B, label_B):
    """(1 - Pearson correlation) / 2 over the batch, 0..1; the scale and offset of the scores do not matter."""
    s, y = score_B - score_B.mean(), label_B - label_B.mean()
    r = (s * y).sum() / jnp.sqrt((s * s).sum() * (y * y).sum() + 1e-12)
    return 0.5 * (1.0 - r)


def rank(score_B, label_B):
    """How far pairs of pictures are in the wrong order: 0 where no pair is.

    The mean over pairs with different labels of max(0, s_worse - s_better), in standard deviations of the batch's
    scores, so that shrinking all scores gains nothing. Scale and offset of scores and labels do not matter.
    """
    s = (score_B - score_B.mean()) / jnp.sqrt(jnp.var(score_B) + 1e-12)
    better_BB = label_B[:, None] > label_B[None, :]
    wrong_BB = jnp.where(better_BB, jnp.maximum(s[None, :] - s[:, None], 0.0), 0.0)
    return wrong_BB.sum() / jnp.maximum(better_BB.sum(), 1)


_LOSSES = {f.__name__: f for f in (l1, l2, huber, plcc, rank)}


def parse_loss(text: str):
    """A loss from its name or a weighted sum of names: "l1", "l1+plcc", "huber+0.5*plcc".

    Returns:
      loss(score_B, label_B) -> scalar.

    Raises:
      ConfigError: an unknown name or a malformed sum.
    """
    terms = []
    for term in text.replace(" ", "").split("+"):
        match = re.fullmatch(r"(?:([0-9]*\.?[0-9]+)\*)?(\w+)", term)
        name = match[2] if match else term
        if not match or name not in _LOSSES:
            raise ConfigError(
                f'config.loss: there is no loss "{term}"; {suggest(name, _LOSSES)}; sums are written huber+0.5*plcc'
            )
        terms.append((float(match[1] or 1.0), _LOSSES[name]))
    return lambda score_B, label_B: sum(weight * f(score_B, label_B) for weight, f in terms)


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
