"""Fusion blocks of GlintIQA. B batch, C channels, N spatial positions (tokens)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxiqa.models.blocks.layers import Conv, dense

CWSA_LAYOUTS = ("reference", "plain")


def _unit(x):
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def reread(y_BCN):
    """Transposes to (B, N, C), then reads the flat memory as (B, C, N).

    The released GlintIQA code does this to the attention's output. It is not the identity, so weights that were trained
    with it need it: Z[c, n] = Y[f mod C, floor(f / C)] with f = c N + n.
    """
    return y_BCN.transpose(0, 2, 1).reshape(y_BCN.shape)


class ChannelSelfAttention(nn.Module):
    """Channel-wise self-attention (CWSA), (B, C, N) -> (B, C, N): channels are the sequence, positions the features.

    Queries and keys have unit length, so attention weights within a row differ by at most exp(2 / sqrt(N)).
    Source: GlintIQA, arXiv 2408.03885, and its public code. `layout` "reference" is that code; "plain" leaves out its
    `reread`.
    """

    layout: str = "reference"
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BCN, train: bool):
        if self.layout not in CWSA_LAYOUTS:
            raise ValueError(f"cwsa_layout {self.layout!r} is not one of {', '.join(CWSA_LAYOUTS)}")
        N = x_BCN.shape[-1]
        q = _unit(dense(x_BCN, N, name="q", dtype=self.dtype).astype(jnp.float32)).astype(self.dtype)
        k = _unit(dense(x_BCN, N, name="k", dtype=self.dtype).astype(jnp.float32)).astype(self.dtype)
        v = dense(x_BCN, N, name="v", dtype=self.dtype)
        logits = jnp.einsum("bcn,bdn->bcd", q, k, preferred_element_type=jnp.float32) * N**-0.5
        weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
        y_BCN = jnp.einsum("bcd,bdn->bcn", weights, v)
        if self.layout == "reference":
            y_BCN = reread(y_BCN)
        y_BCN = nn.Dropout(self.dropout, deterministic=not train)(y_BCN)
        return x_BCN + nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="norm")(y_BCN)


class SpatialInteraction(nn.Module):
    """Spatial interaction enhancement (SIEM), (B, C, N) -> (B, N, features): one 3x3 convolution on the token grid."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BCN):
        B, C, N = x_BCN.shape
        side = round(N**0.5)
        x_BHWC = x_BCN.transpose(0, 2, 1).reshape(B, side, side, C)
        x_BHWC = Conv(self.features, 3, padding=1, use_bias=False, dtype=self.dtype, name="conv")(x_BHWC)
        return x_BHWC.reshape(B, N, self.features)
