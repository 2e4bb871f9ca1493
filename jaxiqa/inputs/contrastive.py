"""Data of contrastive pretraining: pristine images, and the distortions that the device applies to their crops."""

import os

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.datasets.records import Record
from jaxiqa.distortions import CONTRASTIVE, distort_batch, draw_classes
from jaxiqa.distortions.eight_bits import to_uint8
from jaxiqa.errors import ConfigError
from jaxiqa.inputs.image_paths import images_in
from jaxiqa.inputs.transforms import normalise


def split_images(folder: str, held_out: int) -> tuple[list[Record], list[Record]]:
    """Splits the images in a folder into records for training and `held_out` records for the probe.

    Raises:
      ConfigError: no folder is named, `held_out` is below 4, or nothing is left to train on.
      DataError: the folder has no images.
    """
    if not folder:
        raise ConfigError(
            "config.pictures is empty; name a folder of pristine images: --config.pictures=/path",
            code="missing",
            key="config.pictures",
        )
    paths = images_in(os.path.expanduser(folder))
    records = [Record(path, float("nan"), os.path.relpath(path, folder)) for path in paths]
    if held_out < 4 or len(records) <= held_out:
        raise ConfigError(
            f"config.probe_pictures={held_out} must be 4 or more and leave some of the {len(records)} images in "
            f"{folder} to train on",
            code="value",
            key="config.probe_pictures",
        )
    order = np.random.default_rng(0).permutation(len(records))
    return [records[i] for i in sorted(order[held_out:])], [records[i] for i in order[:held_out]]


def with_distortions(batches, seed: int, start: int, size: int, classes):
    """Adds the type, level and label of each image's distortion to the batches; batch k is a function of (seed, k)."""
    for number, batch in enumerate(batches, start):
        type_B, level_B, label_B = draw_classes(seed, number, size, classes)
        hosts, host = jax.process_count(), jax.process_index()
        mine = slice(host * size // hosts, (host + 1) * size // hosts)
        yield {"image": batch["image"], "type": type_B[mine], "level": level_B[mine], "label": label_B[mine]}


def region_side(crop: int, instance: bool) -> int:
    """Side in pixels of the region that is read of an image: the crop, or with `instance` a region for two crops."""
    return crop * 10 // 7 if instance else crop  # 320 for 224


def make_views(encoder, instance: bool, mesh, bank=CONTRASTIVE):
    """Returns views(batch, key) -> (normalised images, labels), which distorts the crops of a batch on the device.

    With `instance` the batch holds regions larger than the model's crop. Each region is distorted, then two crops are
    cut from it; these two crops have the same label, and no others have it.
    """

    def two_crops(images_BHWC, key_B):
        def cut(image_HWC, key):
            free = image_HWC.shape[0] - encoder.crop_size + 1
            top, left = jax.random.randint(key, (2,), 0, free)
            return jax.lax.dynamic_slice(image_HWC, (top, left, 0), (encoder.crop_size, encoder.crop_size, 3))

        pairs = jax.vmap(lambda image, key: jnp.stack([cut(image, k) for k in jax.random.split(key)]))
        return pairs(images_BHWC, key_B).reshape(-1, encoder.crop_size, encoder.crop_size, 3)

    def views(batch, key):
        label = batch["label"]
        keys_B = jax.random.split(key, label.size)
        images = batch["image"].astype(jnp.float32) / 255
        images = distort_batch(images, batch["type"], batch["level"], keys_B, stretch=False, bank=bank, mesh=mesh)
        if instance:
            images = two_crops(images, jax.vmap(lambda k: jax.random.fold_in(k, 1))(keys_B))
            label = jnp.repeat(jnp.arange(label.size), 2)
        return normalise(to_uint8(images), encoder.mean, encoder.std, encoder.dtype), label

    return views
