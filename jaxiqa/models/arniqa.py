"""ARNIQA: a ResNet-50, trained contrastively to place distortions on a manifold, and a linear regressor of its
features.

The network sees an image at two scales. Features of both, each of length 1, are concatenated.

Legend: B batch, S scales, H W image, D width, F = S D features.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxiqa.models import resnet
from jaxiqa.models.blocks.regressor import Regressor

PAPER = """Agnolucci, Galteri, Bertini and Del Bimbo, "ARNIQA: Learning Distortion Manifold for Image Quality
Assessment", WACV 2024, arXiv 2310.14918. Public code and weights: miccunifi/ARNIQA (Apache-2.0)."""
MEAN = resnet.MEAN
STD = resnet.STD
TEST_CROPS = "five"

VARIANTS = {"resnet50": dict(), "test": dict(stage_sizes=(1, 1, 1, 1), width=8, crop_size=64)}


def _trunk() -> tuple:
    # The authors number the layers of the trunk; the layers of a stage have torchvision's names.
    rows = [("model.0", "encoder/conv1", "conv"), ("model.1", "encoder/bn1", "batch_norm")]
    for s in (1, 2, 3, 4):
        for foreign, ours, kind in resnet.NAMES["mapped"]:
            if "{s}" in foreign:
                ours = ours.replace("{s}", str(s))
                rows.append((foreign.replace("layer{s}", f"model.{s + 3}"), f"encoder/{ours}", kind))
    return tuple(rows)


# The authors' names -> ours. The projector is only used in pretraining.
NAMES = {
    "mapped": (
        *_trunk(),
        ("regressor.weights", "regressor/kernel", "matrix"),
        ("regressor.biases", "regressor/bias", "same"),
    ),
    "carried": (r"projector\.[02]\.(weight|bias)",),
    "unbuilt": {
        "resnet50": {
            "projector.0.weight": (2048, 2048),
            "projector.0.bias": (2048,),
            "projector.2.weight": (128, 2048),
            "projector.2.bias": (128,),
        }
    },
}

# Regressors are files of their own, one for each training set: {dataset: (lo, hi, higher is better)} of their scores.
# Their tensors have the prefix "regressor." in NAMES.
REGRESSORS = {
    "live": (1.0, 100.0, False),
    "csiq": (0.0, 1.0, False),
    "tid2013": (0.0, 9.0, True),
    "kadid10k": (1.0, 5.0, True),
    "flive": (1.0, 100.0, True),
    "spaq": (1.0, 100.0, True),
    "clive": (1.0, 100.0, True),
    "koniq10k": (1.0, 100.0, True),
}

# Parts whose backbone config.init can load, and the path of the backbone's parameters.
BACKBONES = {"encoder": "encoder"}
# Parts that a run of jaxiqa pretrain can initialise, and the key of `out` with their pooled features.
PRETRAINABLE = {"encoder": "pooled"}
# Keys of `out` that jaxiqa calibrate reads.
TAPS = ("embedding",)


class Model(nn.Module):
    """ARNIQA (arXiv 2310.14918). `scales` are the integers by which the sides of an image are divided."""

    stage_sizes: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    scales: tuple[int, ...] = (1, 2)
    crop_size: int = 224
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    eval_bn: tuple[str, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool = False):
        """Images, normalised -> (score (B,), out).

        Args:
          x: (B, S, crop_size, crop_size, 3), a crop at each scale, as the scorer cuts them; or (B, H, W, 3), images
            that are shrunk here (bilinear, antialiased).
          train: whether BatchNorms use statistics of the batch.

        Returns:
          The score has the scale of the regressor's training set. `out["embedding"]` (B, F) is the input of the
          regressor, the features of the first scale first. `out["pooled"]` (B, D) are the features of the first scale
          before the division by their length.
        """
        encoder = resnet.Model(
            self.stage_sizes, self.width, eval_bn=self.eval_bn, dtype=self.dtype, name="encoder"
        )  # fmt: skip

        def pooled(x_BHWC):
            _, maps = encoder(x_BHWC, train)
            return maps["stage4"].astype(jnp.float32).mean((1, 2))

        B, S = x.shape[0], len(self.scales)
        if x.ndim == 5:
            f_BSD = pooled(x.reshape(B * S, *x.shape[2:])).reshape(B, S, -1)
        else:
            f_BSD = jnp.stack([pooled(shrunk(x, divisor)) for divisor in self.scales], axis=1)
        squares = jnp.square(f_BSD).sum(-1, keepdims=True)
        embedding_BF = (f_BSD * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))).reshape(B, -1)
        out = {"pooled": f_BSD[:, 0], "embedding": embedding_BF}
        return Regressor(name="regressor")(embedding_BF), out


def shrunk(x_BHWC, divisor: int):
    """Images with both sides divided by an integer: bilinear, antialiased, as Pillow resizes but without rounding."""
    if divisor == 1:
        return x_BHWC
    B, H, W, C = x_BHWC.shape
    return jax.image.resize(x_BHWC, (B, max(H // divisor, 1), max(W // divisor, 1), C), "linear")
