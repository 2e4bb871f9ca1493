"""The most similar references: exact, with ties in order, in blocks; and which images of a pool are chosen."""

import resource
import time

import jax
import numpy as np
import pytest
from refused import refused

from jaxiqa.errors import ConfigError
from jaxiqa.saqt.matching import BLOCK, nearest
from jaxiqa.saqt.selection import choose
from jaxiqa.training import sharding


def unit(rng, *shape):
    x = rng.standard_normal(shape, np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def in_blocks(features, rows=BLOCK):
    return (features[i : i + rows] for i in range(0, len(features), rows))


@pytest.mark.parametrize("k", [1, 5, 81])
def test_equals_sorted_cosines(k):
    rng = np.random.default_rng(0)
    pool, references = unit(rng, 2 * BLOCK + 77, 64), unit(rng, 81, 64)
    numbers, cosines = nearest(in_blocks(pool), references, k, sharding.make_mesh())
    exact = pool.astype(np.float64) @ references.T.astype(np.float64)
    expected = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    assert numbers.shape == cosines.shape == (len(pool), k)
    clear = np.abs(np.take_along_axis(exact, expected, 1) - np.take_along_axis(exact, numbers, 1)) < 1e-6
    assert clear.all() and (numbers == expected).mean() > 0.999
    assert np.abs(np.take_along_axis(exact, numbers, 1) - cosines).max() < 1e-6


def test_ties_go_to_the_first_reference_on_any_devices():
    rng = np.random.default_rng(1)
    one = unit(rng, 10, 32)
    references = np.concatenate([one, one, one[::-1]])  # every reference is there three times
    pool = np.concatenate([one + 0.01 * unit(rng, 10, 32) for _ in range(30)])
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    found = []
    for devices in (1, 3, 4):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]).reshape(devices, 1), sharding.AXES)
        numbers, _ = nearest(in_blocks(pool, 100), references, 3, mesh)
        found.append(numbers)
    assert (found[0][:, 0] == np.tile(np.arange(10), 30)).all()
    assert (found[0] == np.tile(np.stack([np.arange(10), 10 + np.arange(10), 29 - np.arange(10)], 1), (30, 1))).all()
    assert all((numbers == found[0]).all() for numbers in found)


@pytest.mark.slow
def test_a_whole_pool_in_seconds_and_in_little_memory():
    """KADIS-700k's size: 140,000 x 81 features of 2048, the pool's never in memory at once."""
    rng = np.random.default_rng(2)
    references, base = unit(rng, 81, 2048), unit(rng, BLOCK, 2048)
    count, made = 140_000, 0.0

    def blocks():
        for start in range(0, count, BLOCK):
            yield np.roll(base, start // BLOCK, axis=1)[: min(BLOCK, count - start)]

    for _ in blocks():  # the time to make the blocks is subtracted below
        pass
    began = time.monotonic()
    for _ in blocks():
        pass
    made, before = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    numbers, _ = nearest(blocks(), references, 1, sharding.make_mesh())
    took = time.monotonic() - began - made
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"140,000 x 81 features of 2048: {took:.1f} s with compilation, {grown:.0f} MiB (all features: 1,094 MiB)")
    assert numbers.shape == (count, 1) and took < 10 and grown < 500


def test_option_2_takes_the_union_and_fills_it_up():
    rng = np.random.default_rng(3)
    n = 3000
    names = [f"{x:06d}.png" for x in rng.permutation(n)]
    similarity, tid, csiq, pipal = (np.round(rng.random(n), 2) for _ in range(4))  # with many ties
    chosen = choose(names, {"tid2013": tid, "csiq": csiq, "pipal": pipal}, similarity, 200, 1000)
    best = {i for values in (tid, csiq, pipal) for i in sorted(range(n), key=lambda i: (-values[i], i))[:200]}
    assert 500 < len(best) < 600 and len(chosen) == len(set(chosen.tolist())) == 1000
    assert [names[i] for i in chosen[: len(best)]] == sorted(names[i] for i in best)
    rest = sorted((i for i in range(n) if i not in best), key=lambda i: (-similarity[i], i))
    assert chosen[len(best) :].tolist() == rest[: 1000 - len(best)]
    assert len(choose(names, {"csiq": csiq}, similarity, 10, 50_000)) == n
    with refused(ConfigError, "conflict", "--top", "--choose 300"):
        choose(names, {"tid2013": tid, "csiq": csiq}, similarity, 200, 300)
