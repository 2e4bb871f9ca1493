"""Semantic features: the pooled last stage of a ResNet, at each image's own size. B batch, H W sides, D features.

Images are padded below and on the right to one of a few shapes, so that few shapes are compiled. The features are those
of the image without the padding: every convolution pads its input with zeros, so everything beyond the image is set to
zero again after each BatchNorm, and the mean at the end is over the image only.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxiqa.errors import CheckpointError, DataError
from jaxiqa.inputs.decode import image_size, read_image
from jaxiqa.inputs.transforms import normalise
from jaxiqa.models import create_model, resnet
from jaxiqa.models.blocks.layers import BatchNorm
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.saqt.feature_file import FeatureFile, read_features, write_features
from jaxiqa.scoring.engine import stream_outputs
from jaxiqa.training import sharding

_STRIDE = 32  # stride of the last stage
_TYPICAL = 384 * 512  # pixels; a batch holds batch_size images of this size, or fewer larger images


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A ResNet without its classifier, on the devices.

    Attributes:
      model, variables: the network.
      about: plain values that identify the weights: "network", and "source", {} if they are untrained.
    """

    model: nn.Module
    variables: dict
    about: dict


def load_backbone(checkpoint: str, mesh) -> Backbone:
    """Loads the ResNet of a converted checkpoint to this process's devices of the mesh; all processes must call this.

    Raises:
      CheckpointError: the checkpoint holds anything else.
    """
    saved = Saved(checkpoint)
    named = saved.meta.card.get("model", {})
    is_resnet = named.get("name") in ("resnet", *resnet.VARIANTS) and named.get("variant") in resnet.VARIANTS
    if not is_resnet or not saved.meta.source:
        holds = named.get("name", "no model") + ("" if saved.meta.source else " that was trained here")
        raise CheckpointError(
            f"checkpoint {saved.workdir} holds {holds}; features need a converted ResNet: jaxiqa convert "
            "--model resnet101 --source FILE --output DIR",
            code="mismatch",
            key=saved.workdir,
        )
    variables = sharding.local_copy(saved.load(("params", "batch_stats"), sharding.replicated(mesh)), mesh)
    return Backbone(_create(named["variant"]), variables, {"network": named["variant"], "source": saved.meta.source})


def untrained_backbone(variant: str, mesh) -> Backbone:
    """A ResNet with fixed random weights, on this process's devices; its similarities have no meaning."""
    model = _create(variant)
    init = jax.jit(model.init, out_shardings=sharding.replicated(sharding.local_mesh(mesh)))
    variables = init(jax.random.key(0), jnp.zeros((1, model.crop_size, model.crop_size, 3)))
    return Backbone(model, variables, {"network": variant, "source": {}})


def _create(variant: str) -> nn.Module:
    return create_model("resnet", variant, num_classes=0)


def pooled_features(model: nn.Module, variables, images_BHWC, sizes_B2):
    """Computes the features of padded images.

    Args:
      model, variables: of a Backbone.
      images_BHWC: uint8 (B, H, W, 3), H and W multiples of 32; each image is in the upper left corner.
      sizes_B2: int (B, 2), height and width of each image; zeros in a row without an image.

    Returns:
      fp32 (B, D) of length 1: the mean of out["stage4"] over the image's grid, as without padding.
    """

    def cut(x_BHWC):
        """Zeros beyond the images, whatever the stride of the grid."""
        reach_B2 = -(-sizes_B2 * x_BHWC.shape[1] // images_BHWC.shape[1])
        rows, columns = (jnp.arange(n)[None] < reach_B2[:, i, None] for i, n in enumerate(x_BHWC.shape[1:3]))
        return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], x_BHWC, 0)

    def cut_after_norm(layer, args, kwargs, context):
        y = layer(*args, **kwargs)
        return cut(y) if isinstance(context.module, BatchNorm) else y

    images_BHWC = cut(normalise(images_BHWC, model.mean, model.std))
    # In fp32 throughout, as the public features are: near-ties decide matches.
    with nn.intercept_methods(cut_after_norm), jax.default_matmul_precision("highest"):
        _, out = model.apply(variables, images_BHWC, train=False)
    reach_B2 = -(-sizes_B2 // _STRIDE)
    pooled_BD = out["stage4"].sum((1, 2)) / jnp.maximum(reach_B2.prod(1), 1)[:, None]
    return pooled_BD / jnp.maximum(jnp.linalg.norm(pooled_BD, axis=1, keepdims=True), 1e-12)


def padded_side(side: int) -> int:
    """The smallest of four lengths per doubling (256, 320, 384, 448, 512, 640, ...) that is at least `side` pixels."""
    step = max(_STRIDE, 2 ** ((side - 1).bit_length() - 3))
    return -(-side // step) * step


class Extractor:
    """Computes features of image files, batch by batch on all devices.

    Args:
      backbone: the network.
      mesh: mesh of this process's devices.
      batch_size: number of images of 384 x 512 in a batch; a batch of larger images holds fewer.
    """

    def __init__(self, backbone: Backbone, mesh, batch_size: int):
        self.about = backbone.about
        self._variables, self._batch_size, self._devices = backbone.variables, batch_size, mesh.size
        self._sharding = sharding.batch_sharding(mesh)
        self._forward = jax.jit(functools.partial(pooled_features, backbone.model))
        one = np.zeros((1, _STRIDE, _STRIDE, 3), np.uint8), np.zeros((1, 2), np.int32)
        self._size = jax.eval_shape(self._forward, self._variables, *one).shape[1]

    @property
    def compiled_shapes(self) -> int:
        """The number of shapes that have been compiled so far."""
        return self._forward._cache_size()

    def __call__(self, paths: Sequence[str], title: str) -> tuple[np.ndarray, dict[int, str]]:
        """Computes the features of N files, with a progress bar.

        Returns:
          fp32 (N, D) of length 1, and {index: reason} for the images that cannot be read, whose rows are zeros.
        """
        shapes, refused = {}, {}
        for i, path in enumerate(paths):
            try:
                shapes[i] = tuple(map(padded_side, image_size(path)))
            except DataError as error:
                refused[i] = str(error)
        order = sorted(shapes, key=shapes.get)  # images of the same shape come together
        features_ND = np.zeros((len(paths), self._size), np.float32)
        threads = max(2, os.cpu_count() or 1)
        found = stream_outputs([paths[i] for i in order], self._tile, self._compute, read_image, threads)
        bar = tqdm(found, title, len(order), unit=" images", mininterval=1, disable=None)
        for i, output_1D in zip(order, bar, strict=True):
            if isinstance(output_1D, DataError):
                refused[i] = str(output_1D)
            else:
                features_ND[i] = output_1D[0]
        return features_ND, refused

    def _tile(self, image_HWC: np.ndarray):
        height, width = map(padded_side, image_HWC.shape[:2])
        most = self._batch_size * _TYPICAL // max(_TYPICAL, height * width)
        return [image_HWC], (height, width), [max(1, most // self._devices) * self._devices]

    def _compute(self, *batch) -> jax.Array:
        return self._forward(self._variables, *jax.device_put(batch, self._sharding))


def features_of(images: Mapping[str, str], file: str, extractor: Extractor, title: str) -> FeatureFile:
    """Reads the features of images from `file` if it has those of the same images and network; else computes them.

    Args:
      images: {name: path}.
      file: .npz file, which is written; its `about["refused"]` is {name: reason} for the images that cannot be read.
      extractor: computes the features.
      title: title of the progress bar.
    """
    about = describe(images, extractor)
    if found := current_features(file, about):
        return found
    names = list(images)
    features_ND, refused = extractor(list(images.values()), title)
    usable = [i for i in range(len(names)) if i not in refused]
    about["refused"] = {names[i]: reason for i, reason in sorted(refused.items())}
    write_features(file, [names[i] for i in usable], features_ND[usable] if refused else features_ND, about)
    return read_features(file)


def describe(images: Mapping[str, str], extractor: Extractor) -> dict:
    """Identifies the features of images: the network, and a digest of the names and file sizes of the images."""
    lines = (f"{name}\t{os.path.getsize(path)}" for name, path in images.items())
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    return {**extractor.about, "pictures": digest}


def current_features(file: str, about: Mapping) -> FeatureFile | None:
    """The features in `file`, if it exists and describe() of its features is `about`."""
    found = read_features(file) if os.path.exists(file) else None
    return found if found and about.items() <= found.about.items() else None
