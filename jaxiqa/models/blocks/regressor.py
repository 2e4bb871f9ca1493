"""A linear layer with one output."""

import flax.linen as nn

from jaxiqa.models.blocks.layers import uniform_fan_in


class Regressor(nn.Module):
    """Linear layer with one output and a scalar bias, in fp32: (B, F) -> (B,)."""

    @nn.compact
    def __call__(self, x_BF):
        init = uniform_fan_in(x_BF.shape[-1])
        kernel = self.param("kernel", init, (x_BF.shape[-1], 1))
        return (x_BF @ kernel)[:, 0] + self.param("bias", init, ())
