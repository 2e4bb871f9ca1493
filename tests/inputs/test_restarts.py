"""Every training pipeline resumes at any batch as if it had never stopped, by Grain's own check (R14)."""

import contextlib
import itertools

import numpy as np
import pytest
from grain.experimental import assert_equal_output_after_checkpoint
from PIL import Image

from jaxiqa.datasets.records import Dataset, Record, Transferred
from jaxiqa.distortions import label_classes
from jaxiqa.distortions.draw import LABEL_MODES
from jaxiqa.inputs.contrastive import region_side, with_distortions
from jaxiqa.inputs.image_source import Images
from jaxiqa.inputs.pipeline import train_batches
from jaxiqa.inputs.saqt import PoolImages

SIZE, SEED, CELLS = 4, 7, [(1, 3), (11, 5), (18, 1)]


class Pipeline:
    """`total` batches of batches_from(start), whose checkpoint is what a run keeps of them: the number of the next."""

    def __init__(self, batches_from, total: int):
        self._batches_from, self._total = batches_from, total

    def __iter__(self):
        return _Position(self._batches_from, self._total)


class _Position:
    def __init__(self, batches_from, total: int):
        self._batches_from, self._total = batches_from, total
        self.set_state({"step": 0})

    def get_state(self) -> dict:
        return {"step": self._step}

    def set_state(self, state: dict) -> None:
        self._step = state["step"]
        self._batches = itertools.islice(self._batches_from(self._step), self._total - self._step)

    def __iter__(self):
        return self

    def __next__(self) -> dict:
        batch = next(self._batches)
        self._step += 1
        return batch


def make_records(folder) -> list[Record]:
    """Six images: an epoch is not a whole number of batches."""
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (96, 128, 3), np.uint8)).save(folder / f"{i}.png")
    return [Record(str(folder / f"{i}.png"), 1.0 + i, f"{i}", f"R{i}", apply=CELLS[0]) for i in range(6)]


def batches_from(start: int, images, labels, **options):
    options = {"crop": 64, **options}
    with contextlib.closing(
        train_batches(images, labels, batch_size=SIZE, seed=SEED, start=start, **options)
    ) as batches:
        yield from batches


def rated(records, start):
    return batches_from(start, Images(records, 64), np.array([r.mos for r in records]))


def contrastive(records, start, mode):
    batches = batches_from(start, Images(records, 64), np.zeros(6), crop=region_side(64, mode == "instance"))
    return with_distortions(batches, SEED, start, SIZE, label_classes(mode))


def transferred(records, start):
    mos_NC = np.random.default_rng(0).uniform(1, 5, (6, len(CELLS)))
    dataset = Dataset("saqt", records, (1.0, 5.0), True, transferred=Transferred("folder", "", CELLS, mos_NC))
    pool = PoolImages(dataset, list(range(6)), native=False, cache_gb=1.0)
    return batches_from(start, pool, pool.labels, draw=pool.draw)


PIPELINES = {
    "rated": rated,
    **{mode: lambda records, start, mode=mode: contrastive(records, start, mode) for mode in LABEL_MODES},
    "transferred": transferred,
}


def restarts(folder, name: str, total: int) -> None:
    """Raises AssertionError if any of `total` batches differs after a restart before it."""
    records = make_records(folder)
    assert_equal_output_after_checkpoint(Pipeline(lambda start: PIPELINES[name](records, start), total))


@pytest.mark.parametrize("name", PIPELINES)
def test_every_position(tmp_path, name):
    restarts(tmp_path, name, 7)


def test_a_pipeline_that_forgets_its_position_is_found(tmp_path):
    records = make_records(tmp_path)
    with pytest.raises(AssertionError, match="mismatch at step 1"):
        assert_equal_output_after_checkpoint(Pipeline(lambda start: rated(records, 0), 3))
