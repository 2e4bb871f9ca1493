"""The weights that come with jaxiqa: the name, what reads it, the files in the package, and their card."""

import pathlib
import shutil
import tomllib

import numpy as np
import pytest
from programs import ROOT
from ready_stand_in import CARD
from refused import refused

import jaxiqa
from jaxiqa.errors import CheckpointError, ConfigError
from jaxiqa.models import ready
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.scoring.card import WORDS, Card


def listed(folder) -> dict:
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(pathlib.Path(folder).rglob("*"))}


def test_the_name(ready_stand_in, tmp_path, monkeypatch):
    assert Saved("ready").workdir == ready_stand_in
    assert ready.find("workdir/mine") == "workdir/mine"
    shutil.copytree(ready_stand_in, tmp_path / "ready")
    monkeypatch.chdir(tmp_path)
    for other in ("./ready", pathlib.Path("ready")):  # a folder of this name
        assert Saved(other).workdir == tmp_path / "ready"


def test_an_installation_without_the_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(ready, "FOLDER", tmp_path / "absent")
    with refused(CheckpointError, "not_found", "ready", str(tmp_path / "absent")):
        Saved("ready")


def test_damaged_weights(ready_stand_in, tmp_path, monkeypatch):
    copy = pathlib.Path(shutil.copytree(ready_stand_in, tmp_path / "copy"))
    monkeypatch.setattr(ready, "FOLDER", copy)
    largest = max(copy.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with refused(CheckpointError, "damaged", copy / "checkpoints" / "0"):
        jaxiqa.create_metric()


def test_a_metric_without_a_checkpoint(ready_stand_in, pictures, capsys):
    """It says so in one line, reads only, and describes a score."""
    before = listed(ready_stand_in)
    metric = jaxiqa.create_metric()
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1 and '"ready"' in said.err
    assert jaxiqa.create_metric("compact", "ready")(pictures / "4.png") == metric(pictures / "4.png")
    assert capsys.readouterr().err == ""
    found = metric.describe(pictures / "4.png")
    assert found.score == metric(pictures / "4.png") and found.se > 0 and np.isnan(found.native)
    assert found.percentile == pytest.approx(np.clip(found.score, 0, 100)) and found.word in WORDS
    assert metric.scorer.card == CARD
    with refused(ConfigError, "missing", "checkpoint", "glintiqa", "compact"):
        jaxiqa.create_metric("glintiqa")
    assert listed(ready_stand_in) == before


# What follows reads the weights that ship.


def test_the_card_describes_the_file():
    saved, text = Saved("ready"), ready.CARD.read_text()
    card = Card.from_dict(saved.meta.card, saved.workdir)
    assert f"SHA-256 of the arrays: {saved.digest()}\n" in text
    assert card.model["name"] == ready.MODEL and f"Model: {ready.MODEL} {card.model['variant']}\n" in text
    one_line = " ".join(text.split())
    for fact in (card.dataset, card.note, card.reference["of"]):
        assert fact and " ".join(fact.split()) in one_line
    assert card.scale is None and card.labels == "score01" and card.crops.startswith("auto:")
    assert "TODO" not in text


def test_the_wheel_holds_every_file():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["jaxiqa"]
    package = ROOT / "jaxiqa"
    held = {path for pattern in patterns for path in package.glob(pattern) if path.is_file()}
    files = {path for path in ready.FOLDER.rglob("*") if path.is_file()} | {ready.CARD}
    assert len(files) > 5 and files <= held
