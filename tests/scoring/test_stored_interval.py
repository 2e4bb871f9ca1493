"""Intervals of a run: stored by step beside the checkpoints, read with them, and measured on other images."""

import dataclasses

import numpy as np
import pytest
from refused import refused
from small_checkpoint import write_source

from jaxiqa.datasets.records import Dataset, Record, Scale
from jaxiqa.errors import CheckpointError
from jaxiqa.scoring.card import Card
from jaxiqa.scoring.predict import Prediction
from jaxiqa.scoring.rated import evaluate
from jaxiqa.scoring.scorer import Scorer
from jaxiqa.scoring.stored_interval import FILE, read_interval, write_interval

INTERVAL = {"level": 0.9, "half_width": 12.5, "spread_weight": 0.0, "median_spread": 0.0, "of": "some images"}


def test_a_run_keeps_the_intervals_of_its_steps(tmp_path):
    assert read_interval(tmp_path, 3) == {}
    write_interval(tmp_path, 3, {})
    assert not (tmp_path / FILE).exists()
    write_interval(tmp_path, 3, INTERVAL)
    write_interval(tmp_path, 6, INTERVAL | {"half_width": 9.0})
    assert read_interval(tmp_path, 3) == INTERVAL and read_interval(tmp_path, 6)["half_width"] == 9.0
    assert read_interval(tmp_path, 9) == {}


@pytest.mark.parametrize("text", ["", "[]", '{"3": {}}', '{"3": {"level": "high"}}'])
def test_a_damaged_file_is_refused(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with refused(CheckpointError, "damaged", tmp_path / FILE):
        read_interval(tmp_path, 3)


def test_a_scorer_reads_it_unless_the_card_has_one(tmp_path):
    write_source(tmp_path / "plain", "cnniqa")
    write_interval(tmp_path / "plain", 0, INTERVAL)
    assert Scorer(tmp_path / "plain").card.interval == INTERVAL
    own = INTERVAL | {"half_width": 3.0}
    write_source(tmp_path / "own", "cnniqa", interval=own)
    write_interval(tmp_path / "own", 0, INTERVAL)
    assert Scorer(tmp_path / "own").card.interval == own


def test_validation_gives_an_interval_and_a_test_its_coverage():
    """24 images of 12 contents whose scores are 10 too high or too low, on a scale where lower is better."""
    records = [Record(f"{i}.png", 20.0 + i, f"{i}.png", f"c{i // 2}") for i in range(24)]
    dataset = Dataset("mine", records, (0.0, 100.0), False)
    card = Card({"name": "x", "variant": "y"}, "float32", "score01", "mine", Scale(0.0, 100.0, False), "grid")
    outputs = [(80 - i + (10 if i % 3 else -10)) / 100 for i in range(24)]
    predictions = [Prediction(output, 0.01, 4) for output in outputs]
    without = evaluate(predictions, records, dataset, card)
    assert without.coverage() == {} and np.isnan(without.lo).all()
    interval = without.interval()
    assert (interval["half_width"], interval["contents"]) == (pytest.approx(10), 12)
    narrow = dataclasses.replace(card, interval=interval | {"half_width": 9.0})
    for one, covered in ((dataclasses.replace(card, interval=interval | {"half_width": 10.1}), 1.0), (narrow, 0.0)):
        found = evaluate(predictions, records, dataset, one).coverage()
        width = 2 * one.interval["half_width"]
        assert found == {"coverage": covered, "interval_width": pytest.approx(width)}
