"""From images to outputs: an image's score does not depend on its neighbours, and few shapes are compiled."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refused import refused

from jaxiqa.errors import ConfigError, DataError
from jaxiqa.models import create_model
from jaxiqa.scoring.predict import Predictor
from jaxiqa.training import sharding
from jaxiqa.training.state import jit_once


@pytest.fixture(scope="module")
def glintiqa():
    model = create_model("glintiqa", "test")
    return model, jit_once(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))


def predictor(model, policy="grid", sizes=(4, 8, 16)):
    return Predictor(model, policy, sharding.batch_sharding(sharding.make_mesh()), sizes)


def noise(rng, height, width):
    """An image with its own brightness and contrast, so that scores differ."""
    return np.clip(rng.normal(rng.uniform(0, 255), rng.uniform(5, 90), (height, width, 3)), 0, 255).astype(np.uint8)


class Sum(nn.Module):
    """A "model" whose output is the sum over a crop."""

    crop_size: int = 5
    mean = (0.0, 0.0, 0.0)
    std = (1 / 255, 1 / 255, 1 / 255)
    dtype = jnp.float32

    def __call__(self, images_BHWC, train):
        return images_BHWC.sum((1, 2, 3)), {}


def test_one_pixel_at_a_time_is_seen():
    """End to end: wherever the one bright pixel is, the grid's score is above zero."""
    height, width = 13, 11
    images = np.zeros((height * width, height, width, 3), np.uint8)
    images[np.arange(height * width), *np.divmod(np.arange(height * width), width)] = 90
    outputs = [p.output for p in predictor(Sum())({}, images)]
    assert min(outputs) >= 90 * 3 / 9 - 1e-3  # in at least one of 3 x 3 crops


def test_mean_standard_error_and_count():
    image = np.zeros((5, 10, 3), np.uint8)
    image[:, :5], image[:, 5:] = 1, 3  # two crops: sums 75 and 225
    (prediction,) = predictor(Sum())({}, [image])
    assert prediction.output == pytest.approx(150) and prediction.crops == 2 and prediction.reason == ""
    assert prediction.error == pytest.approx(np.std([75, 225], ddof=1) / np.sqrt(2))
    (single,) = predictor(Sum())({}, [image[:, :5]])
    assert single.output == pytest.approx(75) and np.isnan(single.error)


@pytest.mark.slow
def test_200_random_sizes_need_few_shapes(glintiqa):
    model, variables = glintiqa
    rng = np.random.default_rng(0)
    images = [noise(rng, *rng.integers(64, 200, 2)) for _ in range(200)]
    one = predictor(model)
    predictions = one(variables, images)
    alone = [one(variables, [image])[0] for image in images[:20]]
    assert one.compiled_shapes <= 8
    assert len(predictions) == 200 and np.isfinite([p.output for p in predictions]).all()
    for image, prediction in zip(images, predictions, strict=True):
        assert prediction.crops == -(-image.shape[0] // 64) * -(-image.shape[1] // 64)
    np.testing.assert_allclose([p.output for p in alone], [p.output for p in predictions[:20]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("policy", ["grid", "random:5"])
def test_neighbours_order_and_batches_do_not_matter(glintiqa, policy, capsys):
    model, variables = glintiqa
    rng = np.random.default_rng(1)
    images = [noise(rng, *rng.integers(64, 200, 2)) for _ in range(12)]
    one, padded = predictor(model, policy), predictor(model, policy, (64,))
    together = np.array([p.output for p in one(variables, images)])
    order = rng.permutation(12)
    shuffled = np.empty(12)
    shuffled[order] = [p.output for p in one(variables, [images[i] for i in order])]
    alone = np.array([padded(variables, [image])[0].output for image in images])
    broken = one(variables, [images[0], DataError("broken"), *images[1:]])
    among = np.array([p.output for p in broken if not p.reason])
    largest = max(np.abs(other - together).max() for other in (shuffled, alone, among))
    with capsys.disabled():
        print(f"\nlargest difference alone, padded, shuffled, {policy}: {largest:.1e}")
    assert largest <= 1e-5 and np.ptp(together) > 1e-3


def test_an_image_that_cannot_be_read_has_a_reason(glintiqa):
    model, variables = glintiqa
    rng = np.random.default_rng(2)
    good = noise(rng, 70, 70)
    first, second, third = predictor(model)(variables, [DataError("cannot read a"), good, DataError("cannot read b")])
    assert (first.reason, third.reason) == ("cannot read a", "cannot read b")
    assert np.isnan(first.output) and first.crops == 0 and np.isfinite(second.output) and second.reason == ""
    assert predictor(model)(variables, []) == []


def test_an_output_that_is_no_number_has_a_reason(glintiqa):
    model, variables = glintiqa
    broken = jax.tree.map(lambda x: x * np.nan, variables)
    (prediction,) = predictor(model)(broken, [noise(np.random.default_rng(0), 64, 64)])
    assert prediction.reason and prediction.code == "non_finite"


def test_results_come_before_the_last_image_is_read(glintiqa):
    """A folder may be endless: predictions come while later images are still unread."""
    model, variables = glintiqa
    read = []
    image = noise(np.random.default_rng(3), 64, 64)

    class Images:
        def __len__(self):
            return 1000

        def __getitem__(self, i):
            read.append(i)
            return image

    images = Images()
    stream = predictor(model).stream(variables, images)
    assert np.isfinite(next(stream).output)
    assert len(read) < 200
    stream.close()


def test_whole_images_are_refused_by_a_model_of_crops(glintiqa):
    with refused(ConfigError, "conflict", "crops", "64"):
        predictor(glintiqa[0], "whole")
