"""Training losses. Each is a mean over one global batch; lower is better.

Losses on scores and labels, both float32 (B,), have names. The contrastive loss is on features. A loss in another
package is named by its path, "mylab.losses:emd".

A loss takes scores and labels. The names of its other parameters say what else it needs; parameters with a default are
its own. All are in the units of the labels (config.labels):
  std: (B,) standard deviation of the ratings of each image. It is at least 1 % of the dataset's scale, so that an image
    on which all raters agree does not outweigh all others.
  histogram: (B, K) share of the ratings of each image in each of K categories, in the order of `categories`.
  categories: (B, K) the labels of the categories, ascending, the same in each row.
  out: the dict that the model returns beside the score.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxiqa import plugins
from jaxiqa.errors import ConfigError, suggest

COLUMNS = ("std", "histogram", "categories")  # what a batch can hold beside images and labels


def l1(score_B, label_B):
    """Mean absolute error (GlintIQA, arXiv 2408.03885)."""
    return jnp.abs(score_B - label_B).mean()


def l2(score_B, label_B):
    """Mean squared error."""
    return jnp.square(score_B - label_B).mean()


def huber(score_B, label_B, delta: float = 0.1):
    """Huber loss divided by delta (in label units): d^2 / (2 delta) if |d| < delta, else |d| - delta/2."""
    d = jnp.abs(score_B - label_B)
    return jnp.where(d < delta, 0.5 * d * d / delta, d - 0.5 * delta).mean()


def plcc(score_B, label_B):
    """(1 - Pearson correlation) / 2 over the batch, 0..1. Scale and offset of the scores do not matter."""
    s, y = score_B - score_B.mean(), label_B - label_B.mean()
    r = (s * y).sum() / jnp.sqrt((s * s).sum() * (y * y).sum() + 1e-12)
    return 0.5 * (1.0 - r)


def rank(score_B, label_B):
    """Mean margin by which pairs of images are in the wrong order; 0 if no pair is.

    It is the mean of max(0, s_worse - s_better) over pairs with different labels, in standard deviations of the scores
    of the batch, so that shrinking all scores does not lower it. Scale and offset of scores and labels do not matter.
    """
    s = (score_B - score_B.mean()) / jnp.sqrt(jnp.var(score_B) + 1e-12)
    better_BB = label_B[:, None] > label_B[None, :]
    wrong_BB = jnp.where(better_BB, jnp.maximum(s[None, :] - s[:, None], 0.0), 0.0)
    return wrong_BB.sum() / jnp.maximum(better_BB.sum(), 1)


def gaussian(score_B, label_B, std):
    """Gaussian negative log-likelihood with the spread of the ratings: mean of (score - label)^2 / (2 std^2).

    It equals the divergence KL(N(label, std^2) || N(score, std^2)); the minimum is 0. An image on which raters disagree
    has less weight. The term log(std) is left out, because no parameter changes it.

    Source: Kendall and Gal, NeurIPS 2017, equation 5, with the variance of the ratings instead of a predicted one.
    """
    return 0.5 * jnp.square((score_B - label_B) / std).mean()


def emd(score_B, label_B, histogram, categories):
    """Squared earth mover's distance between the histogram of the ratings and that of the score, 0..1.

    It is the mean over images and K categories of the squared difference of the cumulative distributions. A model gives
    one score, so its histogram is a Gaussian around the score with the standard deviation of the ratings of the image
    (at least that of a uniform distribution over one category), cut half-way between neighbouring categories. So any
    model can be trained. A score that is off by a few of these deviations has almost no gradient; emd+l1 adds one.

    Source: NIMA (Talebi and Milanfar, IEEE TIP 27, 2018), equation 1 with r = 2, without its root, whose gradient is
    infinite at 0 (Hou et al., arXiv 1611.05916). The Gaussian is our own; `label_B` is not used.
    """
    K = categories.shape[1]
    mean_B1 = (histogram * categories).sum(1, keepdims=True)
    width_B1 = (categories[:, -1:] - categories[:, :1]) / (K - 1)
    variance_B1 = (histogram * jnp.square(categories - mean_B1)).sum(1, keepdims=True)
    std_B1 = jnp.sqrt(jnp.maximum(variance_B1, jnp.square(width_B1) / 12))
    edges = (categories[:, 1:] + categories[:, :-1]) / 2
    ours = jax.scipy.stats.norm.cdf((edges - score_B[:, None]) / std_B1)
    return (jnp.square(ours - jnp.cumsum(histogram, axis=1)[:, :-1]).sum(1) / K).mean()


_LOSSES = {f.__name__: f for f in (l1, l2, huber, plcc, rank, gaussian, emd)}


@dataclasses.dataclass(frozen=True)
class Loss:
    """A weighted sum of losses. Called with scores, labels and, by name, the values in `needs`.

    Attributes:
      terms: (weight, function, names that the function needs beside scores and labels) of each loss.
    """

    terms: tuple[tuple[float, Callable, tuple[str, ...]], ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """The names that the terms need beside scores and labels: "out" and names in COLUMNS."""
        return tuple(dict.fromkeys(name for _, _, needs in self.terms for name in needs))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names in COLUMNS that a batch must hold."""
        return tuple(name for name in COLUMNS if name in self.needs)

    def __call__(self, score_B, label_B, **more):
        return sum(w * f(score_B, label_B, **{name: more[name] for name in needs}) for w, f, needs in self.terms)


def parse_loss(text: str) -> Loss:
    """The loss of a name, a path or a weighted sum of them: "l1", "l1+plcc", "huber+0.5*mylab.losses:emd".

    Raises:
      ConfigError: an unknown name, a malformed sum, or a path that cannot be imported or whose function needs a value
        that does not exist.
    """
    terms = []
    for term in text.replace(" ", "").split("+"):
        match = re.fullmatch(r"(?:([0-9]*\.?[0-9]+)\*)?([\w.]+(?::\w+)?)", term)
        name = match[2] if match else term
        if match and (":" in name or "." in name):
            function = plugins.load_object(name, f'loss "{name}"')
        elif match and name in _LOSSES:
            function = _LOSSES[name]
        else:
            raise ConfigError(
                f'config.loss: there is no loss "{term}"; {suggest(name, _LOSSES)}; write a sum as huber+0.5*plcc',
                code="unknown",
                key="config.loss",
            )
        terms.append((float(match[1] or 1.0), function, _needs(function, name)))
    return Loss(tuple(terms))


def _needs(function: Callable, name: str) -> tuple[str, ...]:
    """The names of the parameters of a loss that have no default, without scores and labels."""
    try:
        _score, _label, *others = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f'config.loss "{name}" must be a function of (score_B, label_B, ...)', code="format", key="config.loss"
        ) from error
    needs = tuple(p.name for p in others if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    for need in needs:
        if need not in (*COLUMNS, "out"):
            there = ", ".join((*COLUMNS, "out"))
            raise ConfigError(
                f'config.loss "{name}" has the parameter "{need}", but a loss receives only {there}; give it a default',
                code="format",
                key="config.loss",
            )
    return needs


def supervised_contrastive(z_BD, label_B, temperature: float):
    """Supervised contrastive loss over the global batch, in float32: a scalar.

    P(n) are the other images with the label of image n. The loss of n is
    log sum_{m != n} exp(z_n z_m / t) - mean_{p in P(n)} z_n z_p / t, averaged over the images whose P(n) is not empty.
    The function normalises the z to unit length.

    Args:
      z_BD: projections. The loss does not depend on how they are sharded over devices.
      label_B: integer labels.
      temperature: t; 0.1 in CONTRIQUE, SaTQA and ARNIQA.

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
