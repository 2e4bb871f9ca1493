"""A small convolutional network. A model's file must define Model and VARIANTS."""

import flax.linen as nn
import jax.numpy as jnp


class Model(nn.Module):
    """Three strided convolutions, a mean over the image, and a linear layer."""

    width: int = 32
    crop_size: int = 64  # side in pixels of the crops for training and scoring
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)  # normalisation: (image - mean) / std
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC, train: bool = False):
        """Normalised images (B, crop_size, crop_size, 3) -> (score (B,), {"features": (B, D)})."""
        x = x_BHWC.astype(self.dtype)
        for factor in (1, 2, 4):
            x = nn.relu(nn.Conv(factor * self.width, (3, 3), strides=2, dtype=self.dtype)(x))
        features = x.astype(jnp.float32).mean((1, 2))
        return nn.Dense(1)(features)[:, 0], {"features": features}


VARIANTS = {"small": dict(width=32), "test": dict(width=8)}
