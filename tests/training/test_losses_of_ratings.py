"""Losses that read the spread of ratings: known values, and gradient descent on real ratings."""

import csv
import itertools
import sys
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refused import refused
from scipy.stats import norm

from jaxiqa.datasets.readers import kadid10k, koniq10k
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.tasks.quality import quality_loss
from jaxiqa.training.losses import COLUMNS, emd, gaussian, parse_loss

ACR = (1.0, 2.0, 3.0, 4.0, 5.0)
VOTES = (0.1, 0.2, 0.4, 0.2, 0.1)


def rated(*records, higher=True, **more):
    kept = [Record("", mos, str(i), std=std, histogram=votes) for i, (mos, std, votes) in enumerate(records)]
    return Dataset("mine", kept, (1.0, 5.0), higher, categories=ACR, **more)


def test_values():
    score, label, std = jnp.array([0.5, 0.2]), jnp.array([0.4, 0.6]), jnp.array([0.1, 0.2])
    np.testing.assert_allclose(gaussian(score, label, std), 0.5 * np.mean([1.0, 4.0]), rtol=1e-5)
    assert gaussian(label, label, std) == 0
    votes, categories = jnp.array([VOTES, (0, 0, 0, 0, 1)]), jnp.array([ACR, ACR])
    score = jnp.array([2.0, 4.0])
    first = norm.cdf([1.5, 2.5, 3.5, 4.5], 2, np.sqrt(1.2)) - np.cumsum(VOTES)[:4]
    second = norm.cdf([1.5, 2.5, 3.5, 4.5], 4, np.sqrt(1 / 12))  # as wide as one category, all votes being in one
    expected = np.mean([np.sum(first**2) / 5, np.sum(second**2) / 5])
    np.testing.assert_allclose(emd(score, label, votes, categories), expected, rtol=1e-5)
    slope = jax.grad(lambda s: emd(s, label, votes, categories))(jnp.array([3.1, 4.0]))
    assert slope[0] > 0 > slope[1]


def test_scaling_a_scale_changes_nothing():
    """An image has the same loss with score01 and native labels, also if a lower label is better."""
    both = rated((3.0, 0.8, VOTES), (4.5, 0.0, (0, 0, 0, 0.5, 0.5)))
    down = rated((3.0, 0.8, VOTES), (4.5, 0.0, (0, 0, 0, 0.5, 0.5)), higher=False)
    native, unit, flipped = (d.spread([0, 1], COLUMNS, n) for d, n in ((both, True), (both, False), (down, False)))
    np.testing.assert_allclose(native["std"], [0.8, 0.04])  # at least 1 % of the scale
    np.testing.assert_allclose(unit["std"], [0.2, 0.01])
    np.testing.assert_allclose(flipped["categories"], [[0, 0.25, 0.5, 0.75, 1]] * 2)
    np.testing.assert_allclose(flipped["histogram"][1], [0.5, 0.5, 0, 0, 0])
    losses = parse_loss("gaussian+2*emd")
    assert losses.columns == COLUMNS
    mos, score = np.array([3.0, 4.5]), np.array([2.0, 4.0])
    for columns, scale in ((unit, both.scale), (flipped, down.scale)):
        np.testing.assert_allclose(
            losses(scale.to_score01(score), scale.to_score01(mos), **columns), losses(score, mos, **native), rtol=1e-4
        )


def test_a_dataset_without_the_columns_is_refused():
    bare, half = rated((3.0, None, ())), rated((3.0, 0.5, VOTES), (3.0, None, VOTES[:4]))
    for names in (["std"], ["histogram", "categories"]):
        with refused(ConfigError, "missing", "config.loss", "mine"):
            bare.spread([0], names, True)
        with pytest.raises(DataError):
            half.spread([0, 1], names, True)
        half.spread([0], names, True)
    assert bare.spread([0], [], True) == {}


def kadid(labels):
    rows = [line.split() for line in (labels / "VisualQuality-R1/KADID-10K_mos.txt").read_text().splitlines()[::7]]
    records = [Record("", float(mos), name, std=float(std)) for _, name, mos, std in rows]
    return Dataset("kadid10k", records, kadid10k.SCORE_RANGE, True)


def koniq(labels):
    with open(labels / "koniq/koniq10k_distributions_sets.csv", newline="") as file:
        rows = list(csv.DictReader(file))[::7]
    votes = [tuple(float(row[f"c{i}"]) for i in range(1, 6)) for row in rows]
    records = [
        Record("", float(row["MOS"]), row["image_name"], std=koniq10k.STEP * float(row["SD"]), histogram=histogram)
        for row, histogram in zip(rows, votes, strict=True)
    ]
    return Dataset("koniq10k", records, koniq10k.SCORE_RANGE, True, categories=koniq10k.CATEGORIES)


@pytest.mark.parametrize(("make", "loss"), [(kadid, "gaussian"), (koniq, "gaussian"), (koniq, "emd")])
def test_real_ratings_are_approached(make, loss, shared):
    """A line over noisy labels is fitted by gradient descent. The loss falls at every step."""
    dataset, function = make(shared / "data/labels"), parse_loss(loss)
    label = jnp.asarray(dataset.scale.to_score01([r.mos for r in dataset.records]), jnp.float32)
    columns = dataset.spread(range(len(dataset)), function.columns, native=False)
    columns = {name: jnp.asarray(values, jnp.float32) for name, values in columns.items()}
    feature = label + 0.1 * jnp.asarray(np.random.default_rng(0).normal(size=label.size), jnp.float32)

    @jax.jit
    def step(line):
        value, slope = jax.value_and_grad(lambda a: function(a[0] * feature + a[1], label, **columns))(line)
        return value, line - {"gaussian": 0.01, "emd": 0.2}[loss] * slope

    line, losses = jnp.array([0.0, 0.5]), []
    for _ in range(100):
        value, line = step(line)
        losses.append(float(value))
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < 0.6 * losses[0] and line[0] > 0.1, (losses[0], losses[-1], line)


def test_categories_of_koniq_are_on_the_scale_of_its_label(shared):
    dataset = koniq(shared / "data/labels")
    mean = np.array([np.dot(r.histogram, dataset.categories) for r in dataset.records])
    mos = np.array([r.mos for r in dataset.records])
    assert abs(np.mean(mean - mos)) < 0.1 and np.std(mean - mos) < 2
    fit = np.polyfit([np.dot(r.histogram, ACR) for r in dataset.records], mos, 1)
    np.testing.assert_allclose(fit, [koniq10k.STEP, koniq10k.CATEGORIES[0] - koniq10k.STEP], rtol=0.01)


class Mean(nn.Module):
    """The score is the mean of an image's pixels; `out` has twice the mean."""

    @nn.compact
    def __call__(self, x_BHWC, train=False):
        mean_B = x_BHWC.mean((1, 2, 3)) * self.param("gain", nn.initializers.ones, ())
        return mean_B, {"double": 2 * mean_B}


def test_a_loss_may_read_what_the_model_returns(monkeypatch):
    module = types.ModuleType("mylab_losses")
    module.of_out = lambda score_B, label_B, out, *, std, scale=2.0: scale * (std * out["double"]).mean()
    monkeypatch.setitem(sys.modules, "mylab_losses", module)
    loss = parse_loss("0.5*mylab_losses:of_out+l1")
    assert loss.needs == ("out", "std") and loss.columns == ("std",)
    batch = {"image": jnp.full((2, 4, 4, 3), 3.0), "label": jnp.array([1.0, 2.0]), "std": jnp.array([0.1, 0.3])}
    of_batch = quality_loss(Mean(), loss, lambda batch: batch["image"])
    value, _ = of_batch({"gain": jnp.ones(())}, {}, batch, jax.random.key(0))
    np.testing.assert_allclose(value, 0.5 * 2.0 * 0.2 * 6.0 + 1.5, rtol=1e-6)
