"""A scorer with a small checkpoint, and a folder of small images of which two are broken."""

import numpy as np
import pytest
from PIL import Image
from ready_stand_in import write_stand_in

from jaxiqa.scoring.batch_scorer import BatchScorer


@pytest.fixture(scope="session")
def checkpoint(once):
    return once("ready", write_stand_in)


@pytest.fixture(scope="session")
def scorer(checkpoint):
    return BatchScorer(checkpoint, "auto:2", batch_size=8)


@pytest.fixture(scope="session")
def some(once):
    """Paths of 20 JPEG files of different sizes. Number 5 is not an image, number 8 is cut off."""
    return once("some", write_some)


def write_some(folder):
    rng = np.random.default_rng(0)
    paths = [folder / f"{'a' if i % 2 else 'a-b'}" / f"{i:02d}.jpg" for i in range(20)]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*rng.integers(20, 120, 2), 3), np.uint8)).save(path)
    paths[5].write_bytes(b"no image")
    paths[8].write_bytes(paths[8].read_bytes()[:300])
    return [str(path) for path in paths]
