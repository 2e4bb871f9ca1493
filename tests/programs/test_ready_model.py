"""launch/ready_model: how the weights that ship are made, on two photographs and with few distortions."""

import collections
import csv
import hashlib
import importlib.resources
import pathlib
import shutil
import sys
import types

import numpy as np
import pytest
from scipy.stats import spearmanr

from jaxiqa.models import create_model

HERE = pathlib.Path(__file__).resolve().parents[2] / "launch" / "ready_model"
LICENCES = {"CC0-1.0", "public domain", "Unsplash", "CC-BY-4.0"}


@pytest.fixture(scope="module")
def parts():
    """The modules of the folder."""
    sys.path.insert(0, str(HERE))
    try:
        import damage
        import fit
        import measure
        import render

        yield types.SimpleNamespace(damage=damage, fit=fit, measure=measure, render=render)
    finally:
        sys.path.remove(str(HERE))
        for name in ("damage", "fit", "measure", "render"):
            sys.modules.pop(name, None)


def test_every_photograph_is_free_and_in_one_part():
    with open(HERE / "photographs.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["name"] for row in rows}) == len({row["sha256"] for row in rows}) == len(rows) == 102
    assert {row["licence"] for row in rows} <= LICENCES
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert all(row["author"] for row in rows if row["licence"] == "CC-BY-4.0")


@pytest.mark.slow
def test_render(parts, tmp_path, monkeypatch):
    render = parts.render
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

    def few(source, rng):
        yield source, ()
        for level in (1, 5):
            yield render.degrade(source, 1, level, rng), ("cell", 1, level)

    monkeypatch.setattr(render, "HERE", tmp_path)
    monkeypatch.setattr(render, "SERIES_TYPES", (1, 16))
    monkeypatch.setattr(render, "VIEWS", render.VIEWS | {"full": (few, 5)})
    monkeypatch.setattr(
        render, "JOBS", {"train": (("full", 0, 1), ("light", 200, 1), ("series", 300, 1)), "val": (("clean", 100, 2),)}
    )
    for part in ("0/2", "1/2"):
        monkeypatch.setattr(
            sys, "argv", ["render", str(tmp_path / "photographs"), str(tmp_path / "pool"), "--only", part]
        )
        render.main()
    with open(tmp_path / "pool" / "index.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert collections.Counter((row["content"], row["split"]) for row in found) == {
        ("coffee.png", "train"): 3 * 5 + 8 * 3,
        ("coffee.png", "train_series"): (1 + 2 * 5) * 8,
        ("rocket.jpg", "val"): 2 * 8,
    }
    assert all((tmp_path / "pool" / row["path"]).exists() for row in found)
    mos = collections.defaultdict(set)
    for row in found:
        if row["split"] == "train_series":
            assert row["mos"] == "" and row["distortion"] in ("", "gaussian_blur", "brighten")
        else:
            mos[row["distortion"], row["level"]].add(float(row["mos"]))
    assert mos["", ""] == {4.7}
    assert mos["gaussian_blur", "1"] == {4.61} and mos["gaussian_blur", "5"] == {1.30}  # KADID-10k's means
    assert {name for name, _ in mos} == {"", "gaussian_blur", "codec", "blur", "noise"}

    (photographs / "coffee.png").write_bytes(b"another photograph")
    with pytest.raises(SystemExit, match=r"coffee\.png"):
        render.find_photographs(tmp_path / "photographs")


def test_damage_grows_with_the_level_and_is_zero_without_a_distortion(parts):
    damage = parts.damage
    rng = np.random.default_rng(0)
    source = rng.integers(60, 200, (64, 64, 3), np.uint8)
    noisy = [np.clip(source + s * rng.standard_normal(source.shape), 0, 255).astype(np.uint8) for s in (0, 4, 16, 48)]
    rows = np.concatenate([damage.damage(source, image, [(0, 0)], 64) for image in noisy])
    assert rows.shape == (4, 16) and np.abs(rows[0]).max() < 1e-3
    for column in (0, 1, 12):
        assert spearmanr(rows[:, column], range(4)).statistic == 1.0


def test_scores_without_a_cell_follow_the_strength(parts):
    damage = parts.damage
    rng = np.random.default_rng(0)
    strength = np.repeat([0.5, 1.0, 1.5, 2.0, 2.5], 20)
    kinds = [("cell", 1, level) for level in (1, 2, 3, 4, 5) for _ in range(20)] + [("blur", s) for s in strength]
    kinds += [()] * 20
    loss = np.concatenate([np.repeat([0.05, 0.1, 0.4, 0.8, 1.0], 20), strength / 2.5, np.zeros(20)])
    rows = np.zeros((len(kinds), 16), np.float32)
    rows[:, :] = np.maximum(loss * (1 + 0.2 * rng.standard_normal(len(loss))), 0)[:, None]
    found = damage.scores(rows, kinds, np.arange(len(kinds)))
    assert (found[-20:] == damage.CLEAN).all() and found[0] == 4.61
    blurred = found[100:200].reshape(5, 20)
    assert np.ptp(blurred, axis=1).max() < 1e-9 and (np.diff(blurred[:, 0]) < 0).all()


def test_the_crops_of_a_view_that_are_compared(parts):
    done = [("", ""), ("mean_shift", "2"), ("mean_shift", "4"), ("mean_shift", "5"), ("jpeg", "1"), ("jpeg", "4")]
    rows = [
        {"path": f"images/a_b_0_{i:02d}_{k}.png", "distortion": name, "level": level}
        for i, (name, level) in enumerate(done)
        for k in range(5)
    ]
    rows.append({"path": "images/a_b_1_00_0.png", "distortion": "", "level": ""})
    found = parts.fit.series(rows)
    assert (found[..., 0] // 5).tolist() == [[0, 4, 5, 5, 5, 5], [0, 2, 3, 3, 3, 3]]  # not 2 and 4 of mean_shift
    assert (found - found[..., :1] == [0, 1, 2, 3, 4, 0, 1, 2]).all()


@pytest.mark.slow
def test_fit_learns_the_order(parts, monkeypatch):
    """A perceptron on one statistic that is the damage, with labels that say nothing."""
    monkeypatch.setattr(parts.fit, "STEPS", 60)
    split = (*["train"] * 7, "val", "val_series")
    rows = [
        {
            "path": f"images/{v}_0_{lv:02d}_{k}.png",
            "mos": f"{1 + (v * 7 + lv * 3 + k) % 4}",
            "split": split[v],
        }
        | {"distortion": "jpeg" if lv else "", "level": str(lv or "")}
        for v in range(9)
        for lv in range(6)
        for k in range(5)
    ]
    level = np.array([int(row["level"] or 0) for row in rows], np.float32)
    values = np.random.default_rng(0).standard_normal((len(rows), 4)).astype(np.float32)
    values[:, 0] = level
    model = create_model("compact", hidden=(16, 8), eval_bn=("normalise",))
    state, agreement, falls = parts.fit.fit(model, values, rows, 0)
    assert -1 <= agreement <= 1 and falls == 1.0
    assert spearmanr(parts.fit.scores_of(model, state, values), level).statistic < -0.8
