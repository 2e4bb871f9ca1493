"""ResNet backbones with bottleneck blocks (ResNet-50, ResNet-101). B batch, H W grid, C channels."""

import functools

import flax.linen as nn
import jax.numpy as jnp

from jaxiqa.models.blocks.layers import BatchNorm, Conv, normal_fan_out

PAPER = """He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385; the stride is on the
3x3 convolution, as in torchvision. Public weights: torchvision IMAGENET1K_V1 (resnet50-19c8e357, resnet101-5d3b4d8f),
BSD-3-Clause."""
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
TEST_CROPS = "grid"

VARIANTS = {
    "resnet50": dict(stage_sizes=(3, 4, 6, 3), num_classes=1000),
    "resnet101": dict(stage_sizes=(3, 4, 23, 3), num_classes=1000),
    "resnet50_trunk": dict(stage_sizes=(3, 4, 6, 3), num_classes=0),  # for files without a classifier
    "test": dict(stage_sizes=(1, 1, 1, 1), width=8, num_classes=10, crop_size=64),
}

# Key of `out` that contrastive pretraining reads: the last stage, (B, H, W, D), averaged over H and W.
POOLED = "stage4"
# Keys of `out` that jaxiqa calibrate reads.
TAPS = ("stage2", "stage3", "stage4")

# torchvision's and timm's names -> ours. CONTRIQUE ("encoder.") and ARNIQA ("model.") number the trunk's layers.
NAMES = {
    "mapped": (
        ("conv1", "conv1", "conv"),
        ("bn1", "bn1", "batch_norm"),
        ("layer{s}.{i}.conv{k}", "layer{s}_{i}/conv{k}", "conv"),
        ("layer{s}.{i}.bn{k}", "layer{s}_{i}/bn{k}", "batch_norm"),
        ("layer{s}.{i}.downsample.0", "layer{s}_{i}/downsample_conv", "conv"),
        ("layer{s}.{i}.downsample.1", "layer{s}_{i}/downsample_bn", "batch_norm"),
        ("fc", "fc", "linear"),
    ),
    "carried": (),
    "classifier": "fc",
    "legacy": (
        (r"(encoder|model)\.0\.", "conv1."),
        (r"(encoder|model)\.1\.", "bn1."),
        *((rf"(encoder|model)\.{s + 3}\.", f"layer{s}.") for s in (1, 2, 3, 4)),
    ),
}

_INIT = normal_fan_out()


def max_pool_3x3_s2(x_BHWC):
    """3x3 max pooling, stride 2, padding 1, of non-negative activations: (B, H, W, C) -> (B, H/2, W/2, C).

    It takes the maximum of nine shifted slices, because XLA's gradient of a pooling window takes five times as long on
    a CPU.
    """
    _, H, W, _ = x_BHWC.shape
    x_BHWC = jnp.pad(x_BHWC, ((0, 0), (1, 1), (1, 1), (0, 0)))  # zeros lose to any other value after a ReLU
    slices = [x_BHWC[:, i : i + H : 2, j : j + W : 2] for i in range(3) for j in range(3)]
    return functools.reduce(jnp.maximum, slices)


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided), 1x1 convolutions with a residual, (B, H, W, C) -> (B, H', W', 4 width)."""

    width: int
    stride: int
    eval_bn: tuple[str, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC, train: bool):
        def conv_bn(x, features, kernel, stride, conv, bn):
            x = Conv(features, kernel, stride, kernel // 2, False, _INIT, self.dtype, name=conv)(x)
            return BatchNorm(self.eval_bn, dtype=self.dtype, name=bn)(x, train)

        y = nn.relu(conv_bn(x_BHWC, self.width, 1, 1, "conv1", "bn1"))
        y = nn.relu(conv_bn(y, self.width, 3, self.stride, "conv2", "bn2"))
        y = conv_bn(y, 4 * self.width, 1, 1, "conv3", "bn3")
        if y.shape != x_BHWC.shape:
            x_BHWC = conv_bn(x_BHWC, 4 * self.width, 1, self.stride, "downsample_conv", "downsample_bn")
        return nn.relu(x_BHWC + y)


class Model(nn.Module):
    """ResNet with every stage's output by name.

    `stage_sizes` are the numbers of blocks per stage. With `num_classes` 0 the head is not built.
    """

    stage_sizes: tuple[int, ...]
    width: int = 64
    num_classes: int = 0
    crop_size: int = 224
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    eval_bn: tuple[str, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC, train: bool = False):
        """Images (B, H, W, 3), normalised -> (logits (B, num_classes) or None, out).

        `out["stage1"]` is (B, H/4, W/4, 4 width); each further stage halves the grid and doubles the channels.
        """
        out = {}
        x = Conv(self.width, 7, 2, 3, False, _INIT, self.dtype, name="conv1")(x_BHWC)
        x = nn.relu(BatchNorm(self.eval_bn, dtype=self.dtype, name="bn1")(x, train))
        x = max_pool_3x3_s2(x)
        for s, blocks in enumerate(self.stage_sizes, 1):
            for i in range(blocks):
                stride = 2 if s > 1 and i == 0 else 1
                block = Bottleneck(self.width << (s - 1), stride, self.eval_bn, self.dtype, name=f"layer{s}_{i}")
                x = block(x, train)
            out[f"stage{s}"] = x
        if not self.num_classes:
            return None, out
        pooled = x.astype(jnp.float32).mean((1, 2))
        return nn.Dense(self.num_classes, dtype=jnp.float32, name="fc")(pooled), out
