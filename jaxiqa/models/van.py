"""Visual Attention Network backbones (VAN-B0 to VAN-B3). B batch, H W grid, C channels, K kernel side."""

import functools

import flax.linen as nn
import jax.numpy as jnp

from jaxiqa.models.blocks import layers
from jaxiqa.models.blocks.layers import BatchNorm, gelu
from jaxiqa.models.blocks.lka import depthwise

PAPER = """Guo et al., "Visual Attention Network", Computational Visual Media 2023, arXiv 2202.09741. Public weights:
Visual-Attention-Network/VAN-{Tiny,Small,Base,Large}-original on the Hugging Face Hub (van_tiny_754, van_small_811,
van_base_828, van_large_839; ImageNet-1k), Apache-2.0."""
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
TEST_CROPS = "grid"

_WIDTHS = (64, 128, 320, 512)
VARIANTS = {
    "van_b0": dict(widths=(32, 64, 160, 256), stage_sizes=(3, 3, 5, 2), num_classes=1000),
    "van_b1": dict(widths=_WIDTHS, stage_sizes=(2, 2, 4, 2), num_classes=1000),
    "van_b2": dict(widths=_WIDTHS, stage_sizes=(3, 3, 12, 3), num_classes=1000),
    "van_b3": dict(widths=_WIDTHS, stage_sizes=(3, 5, 27, 3), num_classes=1000),
    "test": dict(widths=(8, 16, 24, 32), stage_sizes=(1, 2, 1, 1), num_classes=10, crop_size=64),
}

# Key of `out` that contrastive pretraining reads: the last stage, (B, H, W, D), averaged over H and W.
POOLED = "stage4"
# Keys of `out` that jaxiqa calibrate reads.
TAPS = ("stage2", "stage3", "stage4")

# The authors' names -> ours.
NAMES = {
    "mapped": (
        ("patch_embed{s}.proj", "stage{s}/patch_embed/proj", "conv"),
        ("patch_embed{s}.norm", "stage{s}/patch_embed/norm", "batch_norm"),
        ("block{s}.{i}.norm{k}", "stage{s}/block{i}/norm{k}", "batch_norm"),
        ("block{s}.{i}.attn.proj_{k}", "stage{s}/block{i}/attn/proj{k}", "conv"),
        *(
            (f"block{{s}}.{{i}}.attn.spatial_gating_unit.{name}", f"stage{{s}}/block{{i}}/attn/lka/{name}", "conv")
            for name in ("conv0", "conv_spatial", "conv1")
        ),
        ("block{s}.{i}.layer_scale_{k}", "stage{s}/block{i}/layer_scale{k}", "same"),
        ("block{s}.{i}.mlp.fc{k}", "stage{s}/block{i}/mlp/fc{k}", "conv"),
        ("block{s}.{i}.mlp.dwconv.dwconv", "stage{s}/block{i}/mlp/dwconv", "conv"),
        ("norm{s}", "stage{s}/norm", "norm"),
        ("head", "head", "linear"),
    ),
    "carried": (),
    "classifier": "head",
}


# Initialised as the authors do.
Conv = functools.partial(
    layers.Conv,
    kernel_init=layers.normal_fan_out(),
    bias_init=nn.initializers.zeros,
)


class DepthwiseConv(nn.Module):
    """Depthwise convolution with bias, (B, H, W, C) -> (B, H, W, C)."""

    kernel: int
    dilation: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC):
        K, C = self.kernel, x_BHWC.shape[-1]
        kernel = self.param("kernel", layers.normal_fan_out(groups=C), (K, K, 1, C)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (C,)).astype(self.dtype)
        return depthwise(x_BHWC.astype(self.dtype), kernel, self.dilation) + bias.reshape(1, 1, 1, C)


class LargeKernelAttention(nn.Module):
    """The input times a gate with a receptive field of 21x21: (B, H, W, C) -> (B, H, W, C).

    The gate is a depthwise 5x5, a depthwise 7x7 with dilation 3, and a 1x1 convolution.
    """

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC):
        gate = DepthwiseConv(5, 1, self.dtype, name="conv0")(x_BHWC)
        gate = DepthwiseConv(7, 3, self.dtype, name="conv_spatial")(gate)
        return x_BHWC * Conv(x_BHWC.shape[-1], 1, dtype=self.dtype, name="conv1")(gate)


class Attention(nn.Module):
    """1x1, GELU, large kernel attention, 1x1, plus the (normalised) input: (B, H, W, C) -> (B, H, W, C)."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC):
        C = x_BHWC.shape[-1]
        y = gelu(Conv(C, 1, dtype=self.dtype, name="proj1")(x_BHWC))
        y = LargeKernelAttention(self.dtype, name="lka")(y)
        return Conv(C, 1, dtype=self.dtype, name="proj2")(y) + x_BHWC


class Mlp(nn.Module):
    """1x1, depthwise 3x3, GELU, 1x1: (B, H, W, C) -> (B, H, W, C)."""

    hidden: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC):
        y = Conv(self.hidden, 1, dtype=self.dtype, name="fc1")(x_BHWC)
        y = gelu(DepthwiseConv(3, 1, self.dtype, name="dwconv")(y))
        return Conv(x_BHWC.shape[-1], 1, dtype=self.dtype, name="fc2")(y)


class Block(nn.Module):
    """Attention and MLP, each after BatchNorm and scaled per channel, (B, H, W, C) -> (B, H, W, C).

    In training, each image skips each of the two with probability `drop_path`. Branches that are not skipped are scaled
    so that the mean stays the same.
    """

    ratio: int
    drop_path: float
    eval_bn: tuple[str, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC, train: bool):
        C = x_BHWC.shape[-1]
        attn = Attention(self.dtype, name="attn")
        mlp = Mlp(self.ratio * C, self.dtype, name="mlp")
        for k, branch in enumerate((attn, mlp), 1):
            scale = self.param(f"layer_scale{k}", nn.initializers.constant(0.01), (C,)).astype(self.dtype)
            y = branch(BatchNorm(self.eval_bn, dtype=self.dtype, name=f"norm{k}")(x_BHWC, train))
            y = scale.reshape(1, 1, 1, C) * y
            x_BHWC += nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3), deterministic=not train)(y)
        return x_BHWC


class PatchEmbed(nn.Module):
    """Overlapping strided convolution and BatchNorm, (B, H, W, C) -> (B, H / stride, W / stride, width)."""

    width: int
    kernel: int
    stride: int
    eval_bn: tuple[str, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC, train: bool):
        proj = Conv(self.width, self.kernel, self.stride, self.kernel // 2, dtype=self.dtype, name="proj")
        return BatchNorm(self.eval_bn, dtype=self.dtype, name="norm")(proj(x_BHWC), train)


class Stage(nn.Module):
    """Patch embedding, blocks, LayerNorm: (B, H, W, C) -> (B, H/2, W/2, width); the first stage divides by 4.

    `drop_path` has one rate for each block.
    """

    width: int
    ratio: int
    drop_path: tuple[float, ...]
    first: bool
    eval_bn: tuple[str, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC, train: bool):
        kernel, stride = (7, 4) if self.first else (3, 2)
        x = PatchEmbed(self.width, kernel, stride, self.eval_bn, self.dtype, name="patch_embed")(x_BHWC, train)
        for i, rate in enumerate(self.drop_path):
            x = Block(self.ratio, rate, self.eval_bn, self.dtype, name=f"block{i}")(x, train)
        return nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, dtype=self.dtype, name="norm")(x)


class Model(nn.Module):
    """VAN with every stage's output by name.

    `stage_sizes` are the numbers of blocks per stage. With `num_classes` 0 the head is not built. `drop_path` is the
    probability that the last block is skipped in training; it rises linearly from 0 at the first block. The authors'
    ImageNet runs used 0.1 (B3: 0.2).
    """

    widths: tuple[int, ...]
    stage_sizes: tuple[int, ...]
    ratios: tuple[int, ...] = (8, 8, 4, 4)
    num_classes: int = 0
    drop_path: float = 0.0
    crop_size: int = 224
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    eval_bn: tuple[str, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC, train: bool = False):
        """Images (B, H, W, 3), normalised -> (logits (B, num_classes) or None, out).

        `out["stage1"]` is (B, H/4, W/4, widths[0]), after the stage's LayerNorm; each further stage halves the grid.
        """
        x, out = x_BHWC, {}
        last = max(sum(self.stage_sizes) - 1, 1)
        rates = [self.drop_path * b / last for b in range(sum(self.stage_sizes))]
        for s, (width, ratio, blocks) in enumerate(zip(self.widths, self.ratios, self.stage_sizes, strict=True), 1):
            own, rates = tuple(rates[:blocks]), rates[blocks:]
            stage = Stage(width, ratio, own, s == 1, self.eval_bn, self.dtype, name=f"stage{s}")
            x = out[f"stage{s}"] = stage(x, train)
        if not self.num_classes:
            return None, out
        pooled = x.astype(jnp.float32).mean((1, 2))
        init = nn.initializers.truncated_normal(0.02)
        return nn.Dense(self.num_classes, kernel_init=init, dtype=jnp.float32, name="head")(pooled), out
