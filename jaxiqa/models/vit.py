"""Vision Transformer backbones (ViT-S/16, ViT-B/16).

Legend: B batch, H W image, N tokens (class token included), D width, K heads.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxiqa.models.blocks.layers import Conv, gelu

PAPER = """Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv 2010.11929; Steiner et al., "How to
train your ViT?", arXiv 2106.10270. Public weights: AugReg, ImageNet-21k then ImageNet-1k (`augreg_in21k_ft_in1k` in
timm), Apache-2.0."""
MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
TEST_CROPS = "grid"
# Keys of `out` that jaxiqa calibrate reads.
TAPS = ("block5", "block8", "block11")

VARIANTS = {
    "vit_small_patch16_224": dict(width=384, depth=12, heads=6, num_classes=1000),
    "vit_base_patch16_224": dict(width=768, depth=12, heads=12, num_classes=1000),
    "test": dict(width=32, depth=2, heads=2, num_classes=10, crop_size=64),
}

# timm's names -> ours; see jaxiqa/weights/names.py for the kinds.
NAMES = {
    "mapped": (
        ("cls_token", "cls_token", "same"),
        ("pos_embed", "pos_embed", "same"),
        ("patch_embed.proj", "patch_embed", "conv"),
        ("blocks.{i}.norm{j}", "block{i}/norm{j}", "norm"),
        ("blocks.{i}.attn.qkv", "block{i}/attn/qkv", "linear"),
        ("blocks.{i}.attn.proj", "block{i}/attn/proj", "linear"),
        ("blocks.{i}.mlp.fc{j}", "block{i}/mlp/fc{j}", "linear"),
        ("norm", "norm", "norm"),
        ("head", "head", "linear"),
    ),
    "carried": (),
    "classifier": "head",
}

_INIT = nn.initializers.truncated_normal(0.02)


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, D) -> (B, N, D)."""

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, t_BND):
        B, N, D = t_BND.shape
        qkv = nn.Dense(3 * D, kernel_init=_INIT, dtype=self.dtype, name="qkv")(t_BND)
        q_BNKd, k_BNKd, v_BNKd = jnp.moveaxis(qkv.reshape(B, N, 3, self.heads, D // self.heads), 2, 0)
        t_BND = jax.nn.dot_product_attention(q_BNKd, k_BNKd, v_BNKd).reshape(B, N, D)
        return nn.Dense(D, kernel_init=_INIT, dtype=self.dtype, name="proj")(t_BND)


class Mlp(nn.Module):
    """Two linear layers with GELU between, (B, N, D) -> (B, N, D)."""

    hidden: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, t_BND):
        D = t_BND.shape[-1]
        t = gelu(nn.Dense(self.hidden, kernel_init=_INIT, dtype=self.dtype, name="fc1")(t_BND))
        return nn.Dense(D, kernel_init=_INIT, dtype=self.dtype, name="fc2")(t)


class Block(nn.Module):
    """Pre-norm transformer block, (B, N, D) -> (B, N, D)."""

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, t_BND):
        def norm(name):
            return nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, dtype=self.dtype, name=name)

        t_BND = t_BND + Attention(self.heads, self.dtype, name="attn")(norm("norm1")(t_BND))
        return t_BND + Mlp(4 * t_BND.shape[-1], self.dtype, name="mlp")(norm("norm2")(t_BND))


class Model(nn.Module):
    """ViT with every block's output by name.

    `depth` is the number of blocks. With `num_classes` 0 neither the final norm nor the head is built.
    """

    width: int
    depth: int
    heads: int
    num_classes: int = 0
    patch: int = 16
    crop_size: int = 224
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC, train: bool = False):
        """Images (B, crop_size, crop_size, 3), normalised -> (logits (B, num_classes) or None, out).

        `out["block0"]`, ... are (B, N, D) with the class token first.
        """
        del train  # no dropout and no batch statistics here
        B, D, out = x_BHWC.shape[0], self.width, {}
        x = Conv(D, self.patch, self.patch, dtype=self.dtype, name="patch_embed")(x_BHWC)
        t_BND = x.reshape(B, -1, D)
        grid = self.crop_size // self.patch
        cls = self.param("cls_token", _INIT, (1, 1, D))
        pos = self.param("pos_embed", _INIT, (1, grid * grid + 1, D))
        t_BND = jnp.concatenate([jnp.broadcast_to(cls.astype(self.dtype), (B, 1, D)), t_BND], axis=1)
        t_BND = t_BND + pos.astype(self.dtype)
        for i in range(self.depth):
            t_BND = out[f"block{i}"] = Block(self.heads, self.dtype, name=f"block{i}")(t_BND)
        if not self.num_classes:
            return None, out
        t_BND = nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, dtype=jnp.float32, name="norm")(t_BND)
        return nn.Dense(self.num_classes, dtype=jnp.float32, name="head")(t_BND[:, 0]), out
