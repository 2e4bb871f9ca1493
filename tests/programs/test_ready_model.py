"""launch/ready_model: how the weights that ship are made, on two photographs and with few distortions."""

import csv
import hashlib
import importlib.resources
import pathlib
import shutil
import sys

import numpy as np
import pytest
from scipy.stats import spearmanr

HERE = pathlib.Path(__file__).resolve().parents[2] / "launch" / "ready_model"
LICENCES = {"CC0-1.0", "public domain", "Unsplash", "CC-BY-4.0"}


@pytest.fixture(scope="module")
def parts():
    """The modules of the folder."""
    sys.path.insert(0, str(HERE))
    try:
        import damage
        import render

        yield damage, render
    finally:
        sys.path.remove(str(HERE))
        for name in ("damage", "render"):
            sys.modules.pop(name, None)


def test_every_photograph_is_free_and_in_one_part():
    with open(HERE / "photographs.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["name"] for row in rows}) == len({row["sha256"] for row in rows}) == len(rows) == 102
    assert {row["licence"] for row in rows} <= LICENCES
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert all(row["author"] for row in rows if row["licence"] == "CC-BY-4.0")


def test_render(parts, tmp_path, monkeypatch):
    _, render = parts
    photographs = tmp_path / "photographs" / "below"
    photographs.mkdir(parents=True)
    rows = []
    for name, split in (("coffee.png", "train"), ("rocket.jpg", "val")):
        with importlib.resources.as_file(importlib.resources.files("skimage") / "data" / name) as source:
            shutil.copy(source, photographs / name)
        digest = hashlib.sha256((photographs / name).read_bytes()).hexdigest()
        rows.append({"name": name, "split": split, "licence": "CC0-1.0", "author": "", "where": "", "sha256": digest})
    with open(tmp_path / "photographs.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)

    def versions(source, rng):
        yield source, 0, 0
        for level in (1, 5):
            yield render.degrade(source, 1, level, rng), 1, level
        yield render.chain(source, rng), render.CHAIN, 0
        yield render.coded(source, rng), render.CODEC, 0

    monkeypatch.setattr(render, "HERE", tmp_path)
    monkeypatch.setattr(render, "versions", versions)
    for part in ("0/2", "1/2"):
        monkeypatch.setattr(
            sys,
            "argv",
            ["render", str(tmp_path / "photographs"), str(tmp_path / "pool"), "--views=1", f"--only={part}"],
        )
        render.main()
    with open(tmp_path / "pool" / "index.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 2 * 5 * render.CROPS
    assert {(row["content"], row["split"]) for row in found} == {("coffee.png", "train"), ("rocket.jpg", "val")}
    assert all((tmp_path / "pool" / row["path"]).exists() for row in found)
    mean = {
        key: np.mean([float(row["mos"]) for row in found if (row["distortion"], row["level"]) == key])
        for key in {(row["distortion"], row["level"]) for row in found}
    }
    blur = next(name for name, level in mean if level == "5")
    assert mean["", ""] > 4.6 and mean[blur, "1"] == pytest.approx(4.61, abs=0.1)  # KADID-10k's means of the cells
    assert mean[blur, "5"] == pytest.approx(1.30, abs=0.1)

    (photographs / "coffee.png").write_bytes(b"another photograph")
    with pytest.raises(SystemExit, match=r"coffee\.png"):
        render.find_photographs(tmp_path / "photographs")


def test_damage_grows_with_the_level_and_is_zero_without_a_distortion(parts):
    damage, _ = parts
    rng = np.random.default_rng(0)
    source = rng.integers(60, 200, (64, 64, 3), np.uint8)
    noisy = [np.clip(source + s * rng.standard_normal(source.shape), 0, 255).astype(np.uint8) for s in (0, 4, 16, 48)]
    rows = np.concatenate([damage.damage(source, image, [(0, 0)], 64) for image in noisy])
    assert rows.shape == (4, 16) and np.abs(rows[0]).max() < 1e-3
    for column in (0, 1, 12):
        assert spearmanr(rows[:, column], range(4)).statistic == 1.0
