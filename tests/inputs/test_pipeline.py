"""Batch k is a pure function of (seed, k)."""

import numpy as np
import pytest
from PIL import Image

from jaxiqa.datasets.records import Record
from jaxiqa.inputs import pipeline
from jaxiqa.inputs.image_source import Images


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return [Record(str(folder / f"{i}.png"), mos=float(i), id=f"{i}") for i in range(10)]


def take(records, count, **options):
    images = Images(records, 32, cache_gb=1.0)
    labels = [r.mos for r in records]
    batches = pipeline.train_batches(images, labels, **{"crop": 32, "batch_size": 4, "seed": 7, **options})
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def same(a, b):
    return all(np.array_equal(a[k], b[k]) for k in ("image", "label", "index"))


def test_starts_anywhere_and_does_not_depend_on_threads(records):
    whole = take(records, 8)
    assert all(same(a, b) for a, b in zip(whole[3:], take(records, 5, start=3, threads=1), strict=True))
    assert whole[0]["image"].shape == (4, 32, 32, 3) and whole[0]["image"].dtype == np.uint8
    assert not same(whole[0], take(records, 1, seed=8)[0])


def test_epochs_are_complete_and_labels_belong_to_their_images(records):
    batches = take(records, 5)  # two epochs of ten
    index = np.concatenate([b["index"] for b in batches])
    assert sorted(index[:10]) == sorted(index[10:]) == list(range(10))
    assert list(index[:10]) != list(index[10:])
    assert np.array_equal(np.concatenate([b["label"] for b in batches]), index.astype(np.float32))


def test_hosts_share_the_same_batches(records, monkeypatch):
    """The parts of 2 and 4 hosts, put together in host order, are the batch of one host."""
    whole = take(records, 3)
    for hosts in (2, 4):
        parts = []
        for host in range(hosts):
            monkeypatch.setattr(pipeline.jax, "process_count", lambda n=hosts: n)
            monkeypatch.setattr(pipeline.jax, "process_index", lambda i=host: i)
            parts.append(take(records, 3))
        for k, batch in enumerate(whole):
            joined = {key: np.concatenate([p[k][key] for p in parts]) for key in batch}
            assert same(joined, batch)


def test_small_images_are_enlarged_and_all_are_resized(records):
    assert Images(records, 64)[0].shape == (64, 80, 3)
    assert Images(records, 16, resize=20)[0].shape == (20, 25, 3)
    assert Images(records, 16)[0].shape == (40, 50, 3)


def test_cache_is_bounded(records):
    one = 40 * 50 * 3 / 2**30
    images = Images(records, 16, cache_gb=2.5 * one)
    first = [images[i] for i in range(10)]
    kept = [images[i] is first[i] for i in range(10)]
    assert kept == [True] * 2 + [False] * 8
