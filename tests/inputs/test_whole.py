"""Whole images at KADID-10k's size, and distorted files of them."""

import os
import pathlib

import numpy as np
import pytest
from PIL import Image
from refused import refused

from jaxiqa.datasets.records import Record
from jaxiqa.distortions import distort_exact
from jaxiqa.errors import DataError
from jaxiqa.inputs.render import render_whole, seed_of
from jaxiqa.inputs.transforms import whole


def test_an_image_of_that_size_is_left_alone():
    image = np.random.default_rng(0).integers(0, 256, (384, 512, 3), np.uint8)
    assert whole(image) is image


@pytest.mark.parametrize("shape", [(768, 1024), (600, 1000), (900, 400), (96, 128), (385, 512), (1, 7)])
def test_others_keep_their_proportions_and_their_middle(shape):
    """A ramp in both directions: its slope shows the scale, its middle value shows the part that was kept."""
    height, width = shape
    y, x = np.mgrid[:height, :width]
    image = np.stack([255 * (y + 0.5) / height, 255 * (x + 0.5) / width, 0 * x], -1).round().astype(np.uint8)
    result = whole(image).astype(float)
    assert result.shape == (384, 512, 3)
    scale = min(height / 384, width / 512)
    for axis, (size, side) in enumerate(((384, height), (512, width))):
        along = result[..., axis].mean(1 - axis)
        expected = 255 * ((np.arange(size) + 0.5 - size / 2) * scale / side + 0.5)
        if side > 30:  # the ends are where bicubic interpolation has no neighbours
            assert np.abs(along - expected)[size // 20 : -size // 20].max() < 1.5


@pytest.fixture
def records(tmp_path):
    rng, found = np.random.default_rng(1), []
    for name, size in (("a", (384, 512)), ("b", (100, 90))):
        path = str(tmp_path / f"{name}.png")
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path)
        found += [Record(path, 1.0, f"{name}_{t:02d}_{i:02d}", apply=(t, i)) for t, i in ((11, 1), (11, 5), (18, 2))]
    return found


def test_files(records, tmp_path):
    def target(record):
        return str(tmp_path / "out" / record.id[0] / f"{record.id}.bmp")

    assert render_whole(records, target, len(records)) == 6
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.*")) == sorted(f"{r.id}.bmp" for r in records)
    for record in records:
        source = whole(np.asarray(Image.open(record.path)))
        expected = distort_exact(source, *record.apply, seed_of(record))
        np.testing.assert_array_equal(np.asarray(Image.open(target(record))), expected)
    before = {r.id: (os.stat(target(r)).st_mtime_ns, pathlib.Path(target(r)).read_bytes()) for r in records}
    os.remove(target(records[4]))
    assert render_whole(records, target, len(records)) == 1  # a random one: drawn by its record alone
    assert pathlib.Path(target(records[4])).read_bytes() == before[records[4].id][1]
    others = [r for r in records if r is not records[4]]
    assert all(os.stat(target(r)).st_mtime_ns == before[r.id][0] for r in others)


def test_a_bad_image_stops_after_those_before_it(records, tmp_path):
    pathlib.Path(records[3].path).write_bytes(b"no image")
    with refused(DataError, "format", records[3].path, "b.png"):
        render_whole(records, lambda r: str(tmp_path / "out" / f"{r.id}.bmp"), len(records))
    assert len(list((tmp_path / "out").iterdir())) == 3
