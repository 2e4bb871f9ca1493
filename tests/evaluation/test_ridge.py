"""Ridge regression: the formula for left-out contents is what fits without them predict."""

import numpy as np
import pytest

from jaxiqa.evaluation.ridge import fit_ridge


def made(features: int, noise: float = 1.0):
    """40 images of 10 contents; the target follows the first feature."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, features)) * rng.uniform(2, 9, features) + 3
    return x, 0.3 * x[:, 0] + noise * rng.normal(size=40), np.arange(40) // 4


@pytest.mark.parametrize("features", [7, 90])
@pytest.mark.parametrize("free", [0, 1])
def test_left_out_contents_are_predicted_without_their_images(features, free):
    x, y, groups = made(features)
    found = fit_ridge(x, y, groups, free)
    z = (x - x.mean(0)) / x.std(0)
    z[:, free:] /= np.sqrt(features - free)
    penalty = np.full(features + 1, found.penalty)
    penalty[:free] = penalty[-1] = found.penalty * 1e-4
    z, y0 = np.concatenate([z, np.ones((40, 1))], axis=1), y - y.mean()
    for content in range(10):
        kept = groups != content
        weight = np.linalg.solve(z[kept].T @ z[kept] + np.diag(penalty), z[kept].T @ y0[kept])
        np.testing.assert_allclose(found.left_out[~kept], z[~kept] @ weight + y.mean(), atol=1e-8)
    weight = np.linalg.solve(z.T @ z + np.diag(penalty), z.T @ y0)
    np.testing.assert_allclose(found(x), z @ weight + y.mean(), atol=1e-8)


def test_noise_gets_a_large_penalty_and_a_clear_signal_a_small_one():
    x, y, groups = made(30, 0.01)
    clear, noise = fit_ridge(x, y, groups), fit_ridge(x, np.random.default_rng(1).normal(size=40), groups)
    assert clear.penalty < 1e-2 and noise.penalty > 1
    assert np.std(noise.left_out) < 0.5


def test_a_feature_that_hardly_varies_does_not_explode_on_other_images():
    x, y, groups = made(20, 0.1)
    x[:, 5] = 1.0
    x[0, 5] += 1e-6
    other = x.mean(0)
    other[5] = 2.0
    assert abs(fit_ridge(x, y, groups)(other[None])[0] - y.mean()) < 3 * y.std()
