"""Whole images that the step distorts: the draws, the resulting crops, and independence of the mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from PIL import Image
from refused import refused

from jaxiqa.datasets.records import Dataset, Record, Transferred
from jaxiqa.distortions import distort
from jaxiqa.distortions.eight_bits import to_uint8
from jaxiqa.errors import ConfigError
from jaxiqa.inputs.pipeline import train_batches
from jaxiqa.inputs.saqt import PoolImages, make_crops
from jaxiqa.inputs.transforms import Augment, images_of, whole
from jaxiqa.models import create_model
from jaxiqa.tasks.quality import quality_loss
from jaxiqa.training import optim, sharding
from jaxiqa.training.losses import parse_loss
from jaxiqa.training.state import TrainState, jit_once
from jaxiqa.training.step import make_train_step

CELLS = [(1, 3), (1, 5), (11, 5), (18, 1), (18, 5)]
MOS = np.random.default_rng(0).uniform(1, 5, (6, len(CELLS)))
CROP = 64
OF_ALL = {  # types and levels of eight images
    "type": np.array([1, 1, 11, 11, 18, 18, 1, 11], np.int32),
    "level": np.array([3, 5, 5, 5, 1, 5, 3, 5], np.int32),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Six noisy gradients of several sizes."""
    folder, rng, records = tmp_path_factory.mktemp("pristine"), np.random.default_rng(0), []
    for i, (height, width) in enumerate([(384, 512), (90, 120), (300, 200), (384, 512), (400, 500), (120, 160)]):
        image = np.linspace(20, 220, width)[None, :, None] + rng.normal(0, 9, (height, width, 3))
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(folder / f"{i}.png")
        records.append(Record(str(folder / f"{i}.png"), MOS[i, 0], f"{i}_01_03", f"R{i}", apply=(1, 3)))
    return Dataset("saqt", records, (1.0, 5.0), True, transferred=Transferred("folder", "", CELLS, MOS))


def take(dataset, count, cache_gb=1.0, native=True, **options):
    pool = PoolImages(dataset, [5, 0, 1, 3], native, cache_gb)
    batches = train_batches(
        pool, pool.labels, **{"crop": CROP, "batch_size": 4, "seed": 7, "draw": pool.draw, **options}
    )
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_what_is_drawn(dataset):
    """An epoch has every image once, with the score of the type and level that are drawn for it in this epoch."""
    epochs = take(dataset, 40)
    for batch in epochs:
        assert sorted(batch["index"]) == [0, 1, 2, 3]
        assert batch["image"].shape == (4, 384, 512, 3) and batch["image"].dtype == np.uint8
        for i, *cell, label in zip(*(batch[k].tolist() for k in ("index", "type", "level", "label")), strict=True):
            assert label == np.float32(MOS[[5, 0, 1, 3][i], CELLS.index(tuple(cell))])
    for i, n in enumerate([5, 0, 1, 3]):
        image = whole(np.asarray(Image.open(dataset.records[n].path)))
        np.testing.assert_array_equal(epochs[0]["image"][list(epochs[0]["index"]).index(i)], image)
    joined = {key: np.concatenate([batch[key] for batch in epochs]) for key in epochs[0]}
    drawn = [CELLS.index(cell) for cell in zip(joined["type"].tolist(), joined["level"].tolist(), strict=True)]
    assert min(np.bincount(drawn, minlength=5)) >= 15  # of 160, evenly drawn
    assert joined["corner"].min(0).tolist() < [30, 40] and (joined["corner"].max(0) > (290, 400)).all()
    assert (joined["corner"].max(0) <= (384 - CROP, 512 - CROP)).all()
    assert (abs(joined["mirror"].mean(0) - 0.5) < 0.15).all() and len(np.unique(joined["mirror"], axis=0)) == 4
    score01 = take(dataset, 1, native=False)[0]
    np.testing.assert_allclose(score01["label"], (epochs[0]["label"] - 1) / 4, rtol=1e-6)


def test_what_a_config_allows(dataset):
    usual = take(dataset, 8)
    for batch, allowed in zip(usual, take(dataset, 8, augment=Augment(horizontal=False)), strict=True):
        np.testing.assert_array_equal(allowed["corner"], batch["corner"])
        np.testing.assert_array_equal(allowed["mirror"], batch["mirror"] & [True, False])
    for batch in take(dataset, 2, augment=Augment(vertical=False, crop="centre")):
        assert (batch["corner"] == ((384 - CROP) // 2, (512 - CROP) // 2)).all() and not batch["mirror"][:, 0].any()


def test_another_size_is_refused(dataset):
    with refused(ConfigError, "conflict", "config.resize", "384x512"):
        PoolImages(dataset, [0], False, 0.0, resize=384)


def test_a_batch_depends_on_its_number_alone(dataset):
    batches = take(dataset, 8)
    again = take(dataset, 5, start=3, threads=1, cache_gb=0.0)
    assert all(same(a, b) for a, b in zip(batches[3:], again, strict=True))
    assert not same(batches[0], take(dataset, 1, seed=8)[0])


def mesh_of(devices):
    return jax.make_mesh((devices, 1), sharding.AXES, (AxisType.Auto,) * 2, devices=jax.devices()[:devices])


def test_crops_are_those_of_distorted_whole_images(dataset):
    """Each image distorted by itself, rounded to 8 bits, cut and mirrored by hand."""
    batch = take(dataset, 1, start=2, batch_size=8)[0] | OF_ALL
    key, mesh = jax.random.key(3), mesh_of(4)
    crops_of = jax.jit(make_crops(CELLS, CROP, mesh))
    found = jax.device_get(crops_of(jax.device_put(batch, sharding.batch_sharding(mesh)), key))
    assert found.keys() == {"image", "label", "index"} and found["image"].dtype == np.uint8
    np.testing.assert_array_equal(found["label"], batch["label"])
    worst = 0
    for i, key_i in enumerate(jax.random.split(jax.random.fold_in(key, 2**31), 8)):
        image = distort(batch["image"][i].astype(np.float32) / 255, int(batch["type"][i]), batch["level"][i], key_i)
        (y, x), (top_down, left_right) = batch["corner"][i], batch["mirror"][i]
        expected = np.asarray(to_uint8(image))[y : y + CROP, x : x + CROP]
        expected = expected[::-1] if top_down else expected
        expected = expected[:, ::-1] if left_right else expected
        worst = max(worst, abs(expected.astype(int) - found["image"][i]).max())
    print("largest difference of a step's crop and one made by hand:", worst)
    assert worst == 0


def test_several_crops_of_an_image(dataset):
    """The crops of an image are those that each of its corners and mirrors alone would give."""
    batch = take(dataset, 1, start=2, batch_size=8, crops_per_image=3)[0] | OF_ALL
    first = take(dataset, 1, start=2, batch_size=8)[0]
    for name in ("image", "label", "index"):
        np.testing.assert_array_equal(batch[name], first[name])
    assert batch["corner"].shape == batch["mirror"].shape == (8, 3, 2)
    assert len(np.unique(batch["corner"].reshape(-1, 2), axis=0)) == 24
    key, mesh = jax.random.key(3), mesh_of(4)
    crops_of, rows = jax.jit(make_crops(CELLS, CROP, mesh)), sharding.batch_sharding(mesh)
    found = jax.device_get(crops_of(jax.device_put(batch, rows), key))
    assert found["image"].shape == (24, CROP, CROP, 3)
    for name in ("label", "index"):
        np.testing.assert_array_equal(found[name], np.repeat(batch[name], 3))
    for n in range(3):
        alone = batch | {name: batch[name][:, n] for name in ("corner", "mirror")}
        np.testing.assert_array_equal(found["image"][n::3], crops_of(jax.device_put(alone, rows), key)["image"])


@pytest.mark.slow
def test_the_step_is_the_same_on_any_mesh_and_in_parts(dataset):
    """The key is that of the step: neither devices nor accumulation change the distortion of an image."""
    model = create_model("cnniqa", "test", dropout=0.0)
    tx = optax.sgd(0.03)  # Adam's first step is a sign, so the rounding of a zero gradient would become a whole step
    variables = jit_once(model.init)(jax.random.key(0), np.zeros((1, CROP, CROP, 3), np.float32))
    trainable, _ = optim.split_frozen(variables["params"], ())
    state = TrainState.create(variables, tx, trainable, with_ema=False)
    batch = take(dataset, 1, start=2, batch_size=8, native=False)[0] | OF_ALL
    found = {}
    for devices, parts in ((1, 1), (2, 2), (4, 1)):
        mesh = mesh_of(devices)
        loss, crops = quality_loss(model, parse_loss("l2"), images_of(model)), make_crops(CELLS, CROP, mesh)
        step = jax.jit(make_train_step(loss, tx, lambda _: jnp.float32(0.03), prepare=crops, parts=parts))
        placed, losses = jax.device_put(state, sharding.replicated(mesh)), []
        for _ in range(2):
            placed, metrics = step(placed, jax.device_put(batch, sharding.batch_sharding(mesh)), jax.random.key(1))
            losses.append(float(metrics["loss"]))
        found[devices, parts] = losses
    print(found)
    assert found[1, 1][0] != found[1, 1][1]
    for losses in found.values():
        np.testing.assert_allclose(losses, found[1, 1], rtol=1e-5)
