"""MFEN: a VAN guided by high-frequency features, fused with the features of a network that recognises distortions.

This implementation follows the paper's description. Details marked ASSUMED are ours, because neither code nor weights
are public. HFEN is the high-frequency extraction network, QEN the quality estimation network (VAN) and DAN the
distortion-aware network (ResNet-50). FFM fuses features of HFEN into the QEN. AFF fuses features of the DAN into it.

Legend: B batch, H W grid, C channels, D width. The sides of the grid are crop_size / 4, 8, 16, 32 in stages s = 1..4.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxiqa.errors import ConfigError
from jaxiqa.models import resnet, van
from jaxiqa.models.blocks import attention_fusion
from jaxiqa.models.blocks.attention_fusion import Fusion
from jaxiqa.models.blocks.layers import BatchNorm, Conv, dense
from jaxiqa.models.blocks.octave import OctaveConv

PAPER = """Li Yu, "Multi-task Feature Enhancement Network for No-Reference Image Quality Assessment", 2024, arXiv
2411.07556. No code and no weights are public: this is an implementation from the paper's description; details marked
ASSUMED are ours. Its backbones start from the public VAN (Apache-2.0) and the torchvision ResNet-50 V1
(BSD-3-Clause)."""
MEAN = (0.485, 0.456, 0.406)  # the three networks receive the same crop: ASSUMED
STD = (0.229, 0.224, 0.225)
TEST_CROPS = "grid"
# Keys of `out` that jaxiqa calibrate reads.
TAPS = ("pooled",)

_STAGES = (1, 2, 3, 4)
_VANS = ("van_b2", "van_b0", "van_b1", "van_b3")  # B2 as the default: ASSUMED
VARIANTS = {
    **{name: {key: van.VARIANTS[name][key] for key in ("widths", "stage_sizes")} for name in _VANS},
    # All parts are trained from random values, so none is frozen or kept intact at the start.
    "test": dict(
        widths=(32, 32, 40, 48), stage_sizes=(1, 1, 1, 1), ratios=(2, 2, 2, 2), dan_width=8, dan_stages=(1, 1, 1, 1),
        stem_widths=(4, 8), octave_widths=(8, 16, 16, 16), hidden=16, dan_frozen=False, identity_start=False,
        crop_size=64,
    ),
}  # fmt: skip

# PyTorch-style names -> ours. There is no public code with names; the backbones keep the names of theirs.
NAMES = {
    "mapped": (
        *((f"qen.{a}", f"qen/{b}", kind) for a, b, kind in van.NAMES["mapped"]),
        *((f"dan.{a}", f"dan/{b}", kind) for a, b, kind in resnet.NAMES["mapped"]),
        ("hfen.stem{i}", "hfen/stem{i}", "conv"),
        *((f"hfen.hfm{{s}}.{k}", f"hfen/hfm{{s}}/{k}", "conv") for k in ("h2h", "h2l", "l2h", "l2l")),
        ("hfen.proj{s}.conv", "hfen/proj{s}/conv", "conv"),
        ("hfen.proj{s}.bn", "hfen/proj{s}/bn", "batch_norm"),
        ("dan_proj{s}.conv", "dan_proj{s}/conv", "conv"),
        ("dan_proj{s}.bn", "dan_proj{s}/bn", "batch_norm"),
        *(
            (f"{fusion}{{s}}.{branch}.{layer}{{k}}", f"{fusion}{{s}}/{branch}/{layer}{{k}}", kind)
            for fusion in ("ffm", "aff")
            for branch in ("local_att", "global_att")
            for layer, kind in (("conv", "conv"), ("bn", "batch_norm"))
        ),
        ("ffm{s}.gate", "ffm{s}/gate", "conv"),
        ("ffm{s}.conv", "ffm{s}/conv", "conv"),
        ("aff{s}.conv", "aff{s}/conv", "conv"),
        ("head.fc{i}", "head/fc{i}", "linear"),
        ("head.prelu{i}.weight", "head/prelu{i}/slope", "same"),
    ),
    "carried": (r"qen\.head\..*", r"dan\.fc\..*"),
}

# Parts whose backbone config.init can load, and the path of the backbone's parameters.
BACKBONES = {"qen": "qen", "dan": "dan"}
# Parts that a run of jaxiqa pretrain can initialise, and the key of `out` with their pooled features. The probe of that
# run classifies these features.
PRETRAINABLE = {"dan": "dan_pooled"}

_CHOICES = {
    "guidance": ("inline", "side"),
    "ffm": (*attention_fusion.FORMS, "none"),
    "dan_fusion": ("all", "last", "none"),
    "daf": tuple(form for form in attention_fusion.FORMS if form != "spatial_gate"),
    **dict.fromkeys(("hfen", "dan_frozen", "multi_scale_head", "identity_start"), (True, False)),
}


class Projection(nn.Module):
    """1x1 convolution without bias, then BatchNorm: (B, H, W, C) -> (B, H, W, features). ASSUMED."""

    features: int
    zero_start: bool
    eval_bn: tuple[str, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC, train: bool):
        scale = nn.initializers.zeros if self.zero_start else nn.initializers.ones
        x_BHWC = Conv(self.features, 1, use_bias=False, dtype=self.dtype, name="conv")(x_BHWC)
        return BatchNorm(self.eval_bn, dtype=self.dtype, scale_init=scale, name="bn")(x_BHWC, train)


class HighFrequencyNetwork(nn.Module):
    """HFEN: two strided convolutions, then octave convolutions.

    The high-frequency output of each octave convolution is projected to the width of the QEN's stage. It is the guest
    (second input) of an FFM. The low-frequency output goes only to the next octave convolution. The last octave
    convolution has no low-frequency output, because nothing would read it. The architecture, its widths, the strides
    and the missing BatchNorm between octave convolutions are ASSUMED.
    """

    stem_widths: tuple[int, ...]
    octave_widths: tuple[int, ...]
    alpha: float
    widths: tuple[int, ...]
    stages: tuple[int, ...]
    zero_start: bool
    eval_bn: tuple[str, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC, train: bool):
        """Images (B, H, W, 3) -> {s: guest (B, H_s, W_s, widths[s - 1])} for the stages s in `stages`."""

        def activate(x):
            return nn.leaky_relu(x, 0.2)

        for i, features in enumerate(self.stem_widths, 1):
            x_BHWC = activate(Conv(features, 3, 2, 1, dtype=self.dtype, name=f"stem{i}")(x_BHWC))
        high, low, guests = x_BHWC, None, {}
        for s, (features, width) in enumerate(zip(self.octave_widths, self.widths, strict=True), 1):
            low_features = int(self.alpha * features)
            octave = OctaveConv(
                features - low_features,
                low_features if s < len(self.widths) else 0,
                stride=1 if s == 1 else 2,
                dtype=self.dtype,
                name=f"hfm{s}",
            )
            high, low = jax.tree.map(activate, octave(high, low))
            if s in self.stages:
                project = Projection(width, self.zero_start, self.eval_bn, self.dtype, name=f"proj{s}")
                guests[s] = project(high, train)
        return guests


class QualityNetwork(nn.Module):
    """QEN: a VAN as four modules, `stage1` to `stage4`, so that features can be fused between them."""

    widths: tuple[int, ...]
    stage_sizes: tuple[int, ...]
    ratios: tuple[int, ...]
    eval_bn: tuple[str, ...]
    dtype: jnp.dtype

    def setup(self):
        for s, width, ratio, blocks in zip(_STAGES, self.widths, self.ratios, self.stage_sizes, strict=True):
            setattr(self, f"stage{s}", van.Stage(width, ratio, (0.0,) * blocks, s == 1, self.eval_bn, self.dtype))


class PReLU(nn.Module):
    """x if x > 0, else x times one learnt slope, which starts at 1/4 as in PyTorch: (B, D) -> (B, D)."""

    @nn.compact
    def __call__(self, x_BD):
        slope = self.param("slope", nn.initializers.constant(0.25), (1,))
        return jnp.where(x_BD > 0, x_BD, slope.reshape(1, 1) * x_BD)


class QualityHead(nn.Module):
    """Three-layer perceptron in fp32: (B, D) -> (B,). Its form is ASSUMED."""

    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, x_BD, train: bool):
        x = PReLU(name="prelu1")(dense(x_BD, self.hidden, name="fc1", dtype=jnp.float32))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = PReLU(name="prelu2")(dense(x, self.hidden, name="fc2", dtype=jnp.float32))
        return dense(x, 1, name="fc3", dtype=jnp.float32)[:, 0]


class Model(nn.Module):
    """MFEN (arXiv 2411.07556). Parts that do not affect the score are not built.

    The defaults of all switches are ASSUMED.

      hfen, ffm         whether there is an HFEN, and how it is fused: aff, spatial_gate, concat, add, or none
      guidance          inline: a stage's fused features go to the next stage and the head; side: only to the head
      dan_fusion, daf   stages into which the DAN is fused (all, last, or none), and how: aff, concat or add
      dan_frozen        the DAN is not trained: its BatchNorms use running statistics, and it gets no gradient
      multi_scale_head  the head reads all four stages, or only the last
      alpha             share of low-frequency channels in octave convolutions, at least 0 and below 1
      identity_start    initially the FFM returns the QEN's features unchanged, so that a pretrained QEN stays intact;
                        HFEN then has a gradient from the second step on (not with spatial_gate)

    `widths`, `stage_sizes` and `ratios` belong to the VAN; `dan_width` and `dan_stages` to the ResNet.

    Raises:
      ConfigError: a switch has an unknown value, alpha is out of range, or crop_size is not a multiple of 32.
    """

    widths: tuple[int, ...]
    stage_sizes: tuple[int, ...]
    ratios: tuple[int, ...] = (8, 8, 4, 4)
    stem_widths: tuple[int, ...] = (32, 64)
    octave_widths: tuple[int, ...] = (64, 128, 256, 256)
    dan_width: int = 64
    dan_stages: tuple[int, ...] = (3, 4, 6, 3)
    hidden: int = 512
    hfen: bool = True
    ffm: str = "aff"
    guidance: str = "inline"
    dan_fusion: str = "all"
    daf: str = "aff"
    dan_frozen: bool = True
    multi_scale_head: bool = True
    alpha: float = 0.25
    identity_start: bool = True
    crop_size: int = 224
    dropout: float = 0.5
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    eval_bn: tuple[str, ...] = ()
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        for field, choices in _CHOICES.items():
            if (value := getattr(self, field)) not in choices:
                raise ConfigError(
                    f"mfen's {field}={value!r} must be one of {', '.join(map(str, choices))}", code="value", key=field
                )
        if not 0 <= self.alpha < 1:
            raise ConfigError(
                f"mfen's alpha={self.alpha} must be at least 0 and below 1, e.g. 0.25", code="value", key="alpha"
            )
        if self.crop_size < 32 or self.crop_size % 32:
            raise ConfigError(
                f"mfen's crop_size={self.crop_size} must be a multiple of 32, e.g. 224", code="value", key="crop_size"
            )
        super().__post_init__()

    @property
    def frozen(self) -> tuple[str, ...]:
        """Regular expressions over the paths of the parameters that are not trained."""
        return (r"^dan/",) if self.dan_frozen and self.dan_fusion != "none" else ()

    @nn.compact
    def __call__(self, x_BHWC, train: bool = False):
        """Images (B, crop_size, crop_size, 3), normalised -> (score (B,), out).

        Features of stage s are (B, H, W, C) with the grid and width of that stage. `out["stage1"]`.. are the QEN's
        features after the LayerNorm of the stage, `out["ffm1"]`.. after the fusion with HFEN, and `out["fused1"]`..
        after the fusion with the DAN. The head reads the latter. `out["hfen"]` and `out["dan"]` list the features of
        HFEN and DAN before the fusion, after the 1x1 convolution that changes their width. `out["pooled"]` (B, D) is
        the input of the head. `out["dan_pooled"]` is the mean of the DAN's last stage.
        """
        x_BHWC, out = x_BHWC.astype(self.dtype), {}
        read = _STAGES if self.multi_scale_head else _STAGES[-1:]  # by the head
        guests = self._high_frequencies(x_BHWC, _STAGES if self.guidance == "inline" else read, train)
        maps = self._distortions(x_BHWC, train)
        if maps:
            out["dan_pooled"] = maps["stage4"].astype(jnp.float32).mean((1, 2))
        distortions = self._fitted(maps, read if self.dan_fusion == "all" else read[-1:], train)
        out["hfen"], out["dan"] = list(guests.values()), list(distortions.values())
        qen = QualityNetwork(self.widths, self.stage_sizes, self.ratios, self.eval_bn, self.dtype, name="qen")

        def fuse(form, factor, identity_start, name):
            return Fusion(form, factor, identity_start, self.eval_bn, self.dtype, name=name)

        pooled, carry = [], x_BHWC
        for s in _STAGES:
            carry = maps = out[f"stage{s}"] = getattr(qen, f"stage{s}")(carry, train)
            if s in guests:
                maps = out[f"ffm{s}"] = fuse(self.ffm, 2.0, self.identity_start, f"ffm{s}")(maps, guests[s], train)
                carry = maps if self.guidance == "inline" else carry
            if s in distortions:
                maps = fuse(self.daf, 1.0, False, f"aff{s}")(maps, distortions[s], train)
            if s in read:
                out[f"fused{s}"] = maps
                pooled.append(maps.astype(jnp.float32).mean((1, 2)))
        out["pooled"] = jnp.concatenate(pooled, axis=-1)
        return QualityHead(self.hidden, self.dropout, name="head")(out["pooled"], train), out

    def _high_frequencies(self, x_BHWC, stages: tuple[int, ...], train: bool) -> dict:
        """Returns {s: HFEN's features for stage s} for the given stages; {} if HFEN is off."""
        if not self.hfen or self.ffm == "none":
            return {}
        # A guest of zeros leaves the QEN's features unchanged. The kernel of "concat" ignores the guest at the start.
        # If the guest were zero too, neither the kernel nor the guest would get a gradient.
        zero_start = self.identity_start and self.ffm in ("aff", "add")
        hfen = HighFrequencyNetwork(
            self.stem_widths,
            self.octave_widths,
            self.alpha,
            self.widths,
            stages,
            zero_start,
            self.eval_bn,
            self.dtype,
            name="hfen",
        )
        return hfen(x_BHWC, train)

    def _distortions(self, x_BHWC, train: bool) -> dict:
        """Returns the DAN's maps, {"stage1": ...}; {} if it is off."""
        if self.dan_fusion == "none":
            return {}
        dan = resnet.Model(self.dan_stages, self.dan_width, eval_bn=self.eval_bn, dtype=self.dtype, name="dan")
        _, maps = dan(x_BHWC, train and not self.dan_frozen)
        return jax.lax.stop_gradient(maps) if self.dan_frozen else maps

    def _fitted(self, maps: dict, stages: tuple[int, ...], train: bool) -> dict:
        """Returns {s: the DAN's features with the width of the QEN's stage s} for the given stages."""

        def project(s):
            return Projection(self.widths[s - 1], False, self.eval_bn, self.dtype, name=f"dan_proj{s}")

        return {s: project(s)(maps[f"stage{s}"], train) for s in stages if maps}
