"""The built-in dataset: its crops, their labels, and how they are split."""

import collections

import numpy as np
import pytest
from PIL import Image
from refused import refused

from jaxiqa.datasets import load
from jaxiqa.datasets.readers import sample
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import ConfigError, DataError

SCENES = {"astronaut", "chelsea", "coffee", "rocket", "motorcycle"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sample")


def crops(dataset):
    return {path: np.asarray(Image.open(path)) for path in {r.path for r in dataset.records}}


def test_crops_are_what_kadid_was_rated_at(folder):
    images = crops(load("sample", folder))
    assert {(i.shape, i.dtype) for i in images.values()} == {((384, 512, 3), np.dtype(np.uint8))}
    assert len({i.tobytes() for i in images.values()}) == len(images) == 23


def test_scenes_have_equally_many_crops(folder):
    d = load("sample", folder)
    count = collections.Counter(reference for _, reference in {(r.path, r.reference) for r in d.records})
    assert {scene: count[scene] for scene in SCENES} == dict.fromkeys(SCENES, 4)
    assert {scene: count[scene] for scene in d.train_only} == {"hubble_deep_field": 1, "ihc": 1, "retina": 1}


def test_no_window_is_enlarged_much():
    for _, _, windows in sample._WINDOWS:
        assert len(set(windows)) == len(windows)
        assert all(width % 4 == 0 and sample.WIDTH / width <= 1.35 for _, _, width in windows)


def test_records(folder):
    d = load("sample", folder)
    assert len(d) == 23 * 25 * 5 and len({r.id for r in d.records}) == len(d)
    assert d.score_range == (1.0, 5.0) and d.higher_is_better
    by_id = {r.id: r for r in d.records}
    r = by_id["astronaut_0_01_03"]
    assert (r.mos, r.reference, r.distortion, r.level, r.apply) == (2.91, "astronaut", "gaussian_blur", 3, (1, 3))
    assert r.path == str(folder / "references/astronaut_0.png")
    assert by_id["motorcycle_3_25_01"].reference == by_id["motorcycle_0_25_01"].reference == "motorcycle"
    assert {r.apply[0] for r in d.records} == set(range(1, 26))
    assert {r.apply for r in load("sample", folder, types=(6,)).records} == {(6, level) for level in range(1, 6)}


def test_labels_are_the_means_of_kadid(shared):
    cells = collections.defaultdict(list)
    for line in (shared / "data/labels/VisualQuality-R1/KADID-10K_mos.txt").read_text().splitlines():
        _, name, mos, _ = line.split()
        cells[int(name[4:6]), int(name[7:9])].append(float(mos))
    assert len(cells) == 125
    for (type_, level), scores in cells.items():
        assert abs(np.mean(scores) - sample.KADID_MEANS[type_ - 1][level - 1]) <= 0.0051


def test_split_is_by_scene(folder):
    d = load("sample", folder)
    for round_ in range(1, 6):
        s = make_split(d, round=round_)
        parts = [{d.records[i].reference for i in part} for part in (s.train, s.val, s.test)]
        assert [len(p - d.train_only) for p in parts] == [3, 1, 1] and d.train_only <= parts[0]


def test_crops_are_written_once_and_put_back_if_lost(folder):
    first = load("sample", folder)
    paths = sorted(folder.glob("references/*"))
    assert [p.suffix for p in paths] == [".png"] * 23  # no unfinished file is left
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in paths}
    paths[5].unlink()
    assert load("sample", folder).fingerprint == first.fingerprint
    assert paths[5].read_bytes() == before[paths[5]][0]
    assert all(p.stat().st_mtime_ns == before[p][1] for p in paths if p != paths[5])


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXIQA_CACHE", str(tmp_path))
    monkeypatch.setattr(sample, "_write_crop", lambda *_: None)
    assert load("sample", types=(1,)).records[0].path == str(tmp_path / "sample/references/astronaut_0.png")


@pytest.mark.parametrize("types", [(), (0,), (26,), (1.5,), ("blur",)])
def test_bad_types(folder, types):
    with refused(ConfigError, "value", "types", "25", repr(list(types))):
        load("sample", folder, types=types)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "references").touch()
    with refused(DataError, "unwritable", tmp_path / "references/astronaut_0.png", "data_dir", "$JAXIQA_CACHE"):
        load("sample", tmp_path)


def test_the_labels_are_said_to_be_transferred():
    assert "TRANSFERRED" in sample.__doc__ and "TRANSFERRED" in sample.LICENSE
