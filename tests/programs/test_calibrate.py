"""jaxiqa calibrate: one run, and what it refuses."""

import csv

import numpy as np
import pytest
from PIL import Image
from tiny_run import check_refusals, filled, run_program

from jaxiqa.datasets import load
from jaxiqa.datasets.formats.split_files import read_own
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.scoring.calibration import open_source, seen_in_training


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    """24 images of 12 contents, whose column the program finds; the opinion falls with the contrast of the noise."""
    folder, rng = tmp_path_factory.mktemp("ratings"), np.random.default_rng(0)
    with open(folder / "mine.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "mos", "scene"])
        for i in range(24):
            sigma = rng.uniform(5, 60)
            image = np.clip(rng.normal(128, sigma, (100, 100, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / f"{i}.png")
            rows.writerow([f"{i}.png", 5 - sigma / 20, f"scene{i // 2}"])
    return folder


@pytest.mark.slow
def test_calibrate_score_and_export(ratings, tmp_path):
    new = tmp_path / "new"
    done = run_program("calibrate", ratings / "mine.csv", "--checkpoint=ready", "--output", new, "--crops=auto:1")
    assert done.returncode == 0, done.stderr
    assert "'scene' names the contents" in done.stdout and "no calibration" in done.stdout
    card = Saved(new).meta.card
    assert (card["scale"]["lo"], card["scale"]["hi"], card["interval"]["contents"]) == (1.0, 5.0, 12)
    scored = run_program("score", "--checkpoint", new, ratings / "0.png", "--explain")
    (row,) = csv.DictReader(scored.stdout.splitlines())
    ships = run_program("score", ratings / "0.png", "--explain", "--crops=auto:1")
    (plain,) = csv.DictReader(ships.stdout.splitlines())
    for name in ("pristine", "noise", "severity"):  # the reasons of the model that ships
        assert float(row[name]) == pytest.approx(float(plain[name]), abs=0.01)
    assert float(row["lo"]) < float(row["score"]) < float(row["hi"])
    leak = run_program(
        "evaluate", "--checkpoint", new, "--dataset=folder", "--data_dir", ratings, "--option=csv=mine.csv"
    )
    assert leak.returncode == 3 and "24 of 24 images" in leak.stderr
    exported = run_program("convert", "--source", new, "--target", tmp_path / "new.safetensors")
    assert exported.returncode == 0 and (tmp_path / "new.safetensors").stat().st_size > 200_000


def test_images_that_trained_the_checkpoint_are_named(ratings, trained):
    """They have other pixels here, but the names of the images of the run, whose test part may be used."""
    dataset = load("folder", ratings, csv="mine.csv")
    source = open_source(trained[0], None, None, None, ())
    split = read_own(trained[0] / "split.json")
    assert {*seen_in_training(source, dataset)} == {*split["train"], *split["val"]} and split["test"]
    assert seen_in_training(open_source("ready", None, None, None, ()), dataset) == []


REFUSED = [
    ([], 2, "RATINGS.csv"),
    (["{ratings}/mine.csv"], 2, "--output"),
    (["{ratings}/other.csv", "--output=new"], 2, "other.csv"),
    (["{ratings}/mine.csv", "--output={workdir}"], 2, "--output"),
    (["{ratings}/mine.csv", "--output=new", "--option=group_column=path", "--checkpoint=none"], 4, "none"),
]


def test_refusals(ratings, trained):
    check_refusals("calibrate", filled(REFUSED, ratings=ratings, workdir=trained[0]))
