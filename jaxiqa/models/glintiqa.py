"""GlintIQA: a global branch (ViT) and a local branch (CNN) whose features are fused step by step.

Legend: B batch, H W image, N tokens, D width. N is crop_size^2 / 16^2 in both branches.
"""

import flax.linen as nn
import jax.numpy as jnp

from jaxiqa.models import resnet, vit
from jaxiqa.models.blocks.layers import Conv, dense, gelu
from jaxiqa.models.blocks.progressive_integration import ChannelSelfAttention, SpatialInteraction

PAPER = """Wang and Zhang, GlintIQA and SAQT-IQA, arXiv 2408.03885; ACM TOMM 2026, doi 10.1145/3815779. Public code:
SYSU-Video/GlintIQA (MIT). We found no trained weights of its authors, although their to-do list marks them as done. The
backbones start from the AugReg ViT-S/16 (Apache-2.0) and the torchvision ResNet-50 V1 (BSD-3-Clause)."""
MEAN = (0.5, 0.5, 0.5)  # for both branches, as in the public code
STD = (0.5, 0.5, 0.5)
TEST_CROPS = "grid"
# Keys of `out` that jaxiqa calibrate reads.
TAPS = ("vgfe", "clfe", "fused4")

VARIANTS = {
    "vit_s16_r50": dict(),
    "test": dict(
        width=32, heads=2, taps=(0, 1, 2, 3), cnn_width=8, cnn_stages=(1, 1, 1), crop_size=64
    ),
}  # fmt: skip

# Names of the public code -> ours. Its files also have the ViT's last blocks and head, which the score does not need.
NAMES = {
    "mapped": (
        *((f"vgfe.backbone.{a}", f"vgfe/backbone/{b}", kind) for a, b, kind in vit.NAMES["mapped"]),
        *((f"clfe.backbone.{a}", f"clfe/backbone/{b}", kind) for a, b, kind in resnet.NAMES["mapped"]),
        ("clfe.patch_embed{i}.proj", "clfe/patch_embed{i}", "conv"),
        *((f"local_cwsa.c_{p}", f"local_cwsa/{p}", "linear") for p in "qkv"),
        ("local_cwsa.norm", "local_cwsa/norm", "norm"),
        ("local_projection", "local_projection", "linear"),
        *((f"cwsa{{s}}.c_{p}", f"cwsa{{s}}/{p}", "linear") for p in "qkv"),
        ("cwsa{s}.norm", "cwsa{s}/norm", "norm"),
        ("siem{s}.conv", "siem{s}/conv", "conv"),
        ("quality_head.layers.0", "quality_head/fc1", "linear"),
        ("quality_head.layers.3", "quality_head/fc2", "linear"),
    ),
    "carried": (
        r"vgfe\.backbone\.blocks\.1[01]\..*",
        r"vgfe\.backbone\.(norm|head)\..*",
        r"clfe\.backbone\.(layer4|fc)\..*",
    ),
    "legacy": (
        (r"transformer\.", "vgfe.backbone."),
        (r"cnn\.", "clfe.backbone."),
        (r"patch_embed([123])\.", r"clfe.patch_embed\1."),
        (r"att_cnn\.", "local_cwsa."),
        (r"proj\.", "local_projection."),
        (r"fusion([1-4])\.", r"cwsa\1."),
        (r"conv([1-4])\.", r"siem\1.conv."),
        (r"out\.", "quality_head.layers."),
    ),
    "unbuilt": {"vit_s16_r50": {"vgfe.backbone.": "vit_small_patch16_224"}},
}

# Parts whose backbone config.init can load, and the path of the backbone's parameters.
BACKBONES = {"vgfe": "vgfe/backbone", "clfe": "clfe/backbone"}


class GlobalBranch(nn.Module):
    """VGFE: a list with the ViT's tokens (B, N, D) after each block in `taps`, without the class token."""

    width: int
    heads: int
    taps: tuple[int, ...]
    crop_size: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC):
        backbone = vit.Model(
            self.width, max(self.taps) + 1, self.heads, crop_size=self.crop_size, dtype=self.dtype, name="backbone"
        )
        _, out = backbone(x_BHWC)
        return [out[f"block{i}"][:, 1:] for i in self.taps]


class LocalBranch(nn.Module):
    """CLFE: a list with the ResNet stages 1-3, each embedded by a strided convolution to (B, N, D)."""

    width: int
    cnn_width: int
    cnn_stages: tuple[int, ...]
    eval_bn: tuple[str, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC, train: bool):
        backbone = resnet.Model(
            self.cnn_stages, self.cnn_width, eval_bn=self.eval_bn, dtype=self.dtype, name="backbone"
        )
        _, out = backbone(x_BHWC, train)
        tokens = []
        for i, kernel in enumerate((4, 2, 1), 1):
            e = Conv(self.width, kernel, kernel, dtype=self.dtype, name=f"patch_embed{i}")(out[f"stage{i}"])
            tokens.append(e.reshape(e.shape[0], -1, self.width))
        return tokens


class QualityHead(nn.Module):
    """Mean over tokens, then a two-layer perceptron in fp32: (B, N, D) -> (B,)."""

    dropout: float

    @nn.compact
    def __call__(self, t_BND, train: bool):
        x = t_BND.astype(jnp.float32).mean(1)
        x = gelu(dense(x, x.shape[-1], name="fc1", dtype=jnp.float32))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return dense(x, 1, name="fc2", dtype=jnp.float32)[:, 0]


class Model(nn.Module):
    """GlintIQA (arXiv 2408.03885). ViT blocks after the last of `taps`, and ResNet stage 4, are not built."""

    width: int = 384
    heads: int = 6
    taps: tuple[int, ...] = (6, 7, 8, 9)
    cnn_width: int = 64
    cnn_stages: tuple[int, ...] = (3, 4, 6)
    crop_size: int = 224
    cwsa_layout: str = "reference"
    dropout: float = 0.5
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    eval_bn: tuple[str, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC, train: bool = False):
        """Images (B, crop_size, crop_size, 3), normalised -> (score (B,), out).

        All features in `out` are (B, N, D). `out["vgfe"]` lists the 4 outputs of the global branch and `out["clfe"]`
        the 3 of the local branch. `out["fused0"]` is the fusion of the local ones. `out["fused1"]` to `out["fused4"]`
        are the results of the four integration steps.
        """
        x_BHWC = x_BHWC.astype(self.dtype)

        def cwsa(parts, name):
            block = ChannelSelfAttention(self.cwsa_layout, self.dropout, self.dtype, name=name)
            return block(jnp.concatenate(parts, axis=-1).transpose(0, 2, 1), train)

        out = {}
        out["vgfe"] = GlobalBranch(
            self.width, self.heads, self.taps, self.crop_size, self.dtype, name="vgfe"
        )(x_BHWC)  # fmt: skip
        out["clfe"] = LocalBranch(
            self.width, self.cnn_width, self.cnn_stages, self.eval_bn, self.dtype, name="clfe"
        )(x_BHWC, train)  # fmt: skip
        local_BCN = cwsa(out["clfe"], "local_cwsa")
        p_BND = out["fused0"] = dense(
            local_BCN.transpose(0, 2, 1), self.width, name="local_projection", dtype=self.dtype
        )
        for s, g_BND in enumerate(out["vgfe"], 1):
            x_BCN = cwsa([g_BND, p_BND], f"cwsa{s}")
            p_BND = out[f"fused{s}"] = SpatialInteraction(self.width, self.dtype, name=f"siem{s}")(x_BCN)
        return QualityHead(self.dropout, name="quality_head")(p_BND, train), out
