"""Packages outside jaxiqa, installed into a folder without an index, and ratings for the example package."""

import csv
import pathlib
import shutil
import tomllib

import numpy as np
from PIL import Image
from programs import ROOT

OWN_MODEL = ROOT / "examples" / "own_model"


def install(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """Installs the packages and entry points of a pyproject.toml below `target`, as pip does."""
    project = tomllib.loads((source / "pyproject.toml").read_text())
    about, packages = project["project"], project["tool"]["setuptools"]["packages"]
    for package in packages:
        shutil.copytree(source / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    return describe(target, about["name"], packages, about["entry-points"], about["version"])


def describe(target: pathlib.Path, name: str, packages, entry_points, version: str = "1.0") -> pathlib.Path:
    """Writes NAME.dist-info of a package in `target`; entry points are {group: {name: value}}."""
    info = target / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "top_level.txt").write_text("".join(f"{package}\n" for package in packages))
    groups = ("\n".join([f"[{group}]", *(f"{n} = {v}" for n, v in of.items())]) for group, of in entry_points.items())
    (info / "entry_points.txt").write_text("\n\n".join(groups) + "\n")
    return target


def write_ratings(folder: pathlib.Path, count: int = 20) -> pathlib.Path:
    """Writes noise images of 10 scenes with ratings.csv, as examples/own_model reads them."""
    rng = np.random.default_rng(0)
    with open(folder / "ratings.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "mos", "std", "scene"])
        for i in range(count):
            image = np.clip(rng.normal(128, 10 + 20 * (i % 3), (64, 70, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / f"{i}.png")
            rows.writerow([f"{i}.png", 4.5 - i % 3, 0.5 + 0.1 * (i % 4), f"scene{i % 10}"])
    return folder
