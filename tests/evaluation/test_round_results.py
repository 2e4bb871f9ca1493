"""Summaries of rounds on numbers that can be checked by hand."""

import json

import numpy as np
import pytest
from etils import epath

from jaxiqa.evaluation import round_results
from jaxiqa.evaluation.result_files import to_csv, write_predictions
from jaxiqa.figures import report
from jaxiqa.files import write_json


def cell(folder, row, selection, round_, srcc, score, mos, distortions, higher_is_better=True):
    folder = epath.Path(folder) / f"{row}_{selection}_{round_}"
    folder.mkdir()
    rows = [
        {"path": f"{i}.png", "score": s, "mos": m, "distortion": d, "level": 0}
        for i, (s, m, d) in enumerate(zip(score, mos, distortions, strict=True))
    ]
    write_predictions(folder / "predictions_test.csv", rows)
    report = {"dataset": "folder", "part": "test", "higher_is_better": higher_is_better, "srcc": srcc, "plcc": srcc}
    write_json(folder / "report.json", report | {"krcc": 0.5, "rmse": 2.0})
    return round_results.read_cell(folder, row, selection, round_)


@pytest.fixture
def cells(tmp_path):
    up, down = [1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]
    kinds = ["blur"] * 3 + ["noise"] * 3
    mixed = [1, 2, 3, 6, 5, 4]
    return [
        cell(tmp_path, "full", "val", 1, 0.5, up, up, kinds),
        cell(tmp_path, "full", "val", 2, 0.9, up, mixed, kinds),
        cell(tmp_path, "full", "val", 3, 0.7, up, up, kinds),
        cell(tmp_path, "full", "legacy", 1, 1.0, up, down, kinds, higher_is_better=False),
    ]


def test_summary(cells):
    val, legacy = round_results.summarise(cells)
    assert (val["row"], val["selection"], val["target"], val["rounds"]) == ("full", "val", "folder", 3)
    assert val["srcc_median"] == 0.7 and val["srcc_mean"] == pytest.approx(0.7)
    assert val["srcc_std"] == pytest.approx(0.2) and val["rmse_median"] == 2.0
    assert legacy["rounds"] == 1 and np.isnan(legacy["srcc_std"])


def test_by_distortion(cells):
    rows = {(r["selection"], r["distortion"]): r for r in round_results.by_group(cells, "distortion")}
    assert rows["val", "blur"]["srcc"] == pytest.approx(1) and rows["val", "blur"]["rounds"] == 3
    assert rows["val", "noise"]["srcc"] == pytest.approx(1)  # 1, -1 and 1
    assert rows["legacy", "noise"]["srcc"] == pytest.approx(1)  # the labels' direction is accounted for
    assert round_results.by_group(cells, "level") == []


def test_tables(cells, tmp_path):
    rows = round_results.summarise(cells)
    text = round_results.markdown(rows)
    assert text.splitlines()[0].split("|")[1].strip() == "row" and len(text.splitlines()) == 4
    assert " 0.7000 " in text and len({len(line) for line in text.splitlines()}) == 1
    assert to_csv(rows).splitlines()[0].startswith("row,selection,target,rounds,srcc_median")
    report.draw_rounds(tmp_path / "rounds.png", round_results.best_of_rounds(cells), "title")
    assert (tmp_path / "rounds.png").stat().st_size > 5000


def test_an_undefined_correlation_stays_undefined(tmp_path):
    one = cell(tmp_path, "a", "val", 1, float("nan"), [1, 1, 1], [1, 2, 3], ["x"] * 3)
    assert json.loads((tmp_path / "a_val_1" / "report.json").read_text())["srcc"] is None
    assert np.isnan(round_results.summarise([one])[0]["srcc_median"])
