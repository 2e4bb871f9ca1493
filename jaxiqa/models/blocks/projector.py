"""An encoder followed by the projector of contrastive pretraining. B images, D features."""

import flax.linen as nn
import jax.numpy as jnp

from jaxiqa.models.blocks.layers import BatchNorm, uniform_fan_in


class Projector(nn.Module):
    """Two linear layers, BatchNorm after both, ReLU between, no bias: (B, D) -> (B, features), in fp32."""

    hidden: int
    features: int

    @nn.compact
    def __call__(self, x_BD, train: bool):
        x_BD = x_BD.astype(jnp.float32)
        for i, width in enumerate((self.hidden, self.features), 1):
            init = uniform_fan_in(x_BD.shape[-1])
            x_BD = nn.Dense(width, use_bias=False, kernel_init=init, name=f"fc{i}")(x_BD)
            x_BD = BatchNorm(name=f"bn{i}")(x_BD, train)
            x_BD = nn.relu(x_BD) if i == 1 else x_BD
        return x_BD


class Contrastive(nn.Module):
    """A backbone's pooled features and their projection. The projector is discarded after pretraining.

    `encoder` is a backbone without its classifier; `tap` is the key of its `out` that is pooled (POOLED of its file).
    Source: CONTRIQUE's projector; ASSUMED for MFEN.
    """

    encoder: nn.Module
    tap: str
    hidden: int = 2048
    features: int = 128

    @nn.compact
    def __call__(self, x_BHWC, train: bool = False):
        """Images (B, H, W, 3), normalised -> (projections (B, features), pooled features (B, D)), both fp32."""
        _, out = self.encoder(x_BHWC, train)
        pooled_BD = out[self.tap].astype(jnp.float32).mean((1, 2))
        return Projector(self.hidden, self.features, name="projector")(pooled_BD, train), pooled_BD


def encoder_variables(variables: dict) -> dict:
    """Returns the variables of the encoder of a Contrastive, with the names of its model file."""
    return {collection: tree["encoder"] for collection, tree in variables.items()}
