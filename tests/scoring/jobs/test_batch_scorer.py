"""BatchScorer: columns in, columns out, in one call or in two stages, in this process or in a copy."""

import pathlib
import pickle

import numpy as np
import pyarrow as pa
import pytest
from refused import refused

import jaxiqa
from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import read_image
from jaxiqa.scoring.batch_scorer import BatchScorer
from jaxiqa.scoring.engine import END

ADDED = {"score", "native", "lo", "hi", "status", "reason", "model"}


def same(a: dict, b: dict, names=("score", "se", "percentile")) -> None:
    for name in names:
        np.testing.assert_allclose(a[name].astype(float), b[name].astype(float), atol=1e-5, rtol=0)
    assert list(a["reason"]) == list(b["reason"])


@pytest.fixture(scope="module")
def found(scorer, some):
    return scorer({"path": some, "key": list(range(20))})


def test_a_call_adds_columns(scorer, some, found, checkpoint):
    assert list(found)[:2] == ["path", "key"] and set(found) >= ADDED and list(found["path"]) == some
    bad = found["status"] == "refused"
    assert np.flatnonzero(bad).tolist() == [5, 8] and "05.jpg" in found["reason"][5]
    assert np.isnan(found["score"][bad]).all() and np.isfinite(found["score"][~bad]).all()
    assert np.isnan(found["lo"]).all() and np.isnan(found["hi"]).all() and np.isnan(found["native"]).all()
    assert set(found["model"]) == {scorer.model} and scorer.digest[:12] in scorer.model
    metric = jaxiqa.create_metric(checkpoint=checkpoint, crops="auto:2")
    assert found["score"][0] == pytest.approx(metric(some[0]), abs=1e-4)


@pytest.mark.parametrize("form", ["bytes", "image", "hugging face", "pyarrow", "missing bytes"])
def test_forms_of_columns(scorer, some, found, form):
    data = [pathlib.Path(path).read_bytes() for path in some]
    columns = {
        "bytes": {"bytes": data, "path": ["a name"] * 20},
        "image": {"image": [read_image(path) if i not in (5, 8) else None for i, path in enumerate(some)]},
        "hugging face": {"image": [{"bytes": one, "path": "a name"} for one in data]},
        "pyarrow": {"bytes": pa.chunked_array([pa.array(data)])},
        "missing bytes": {"bytes": [None] * 20, "path": np.array(some, object)},
    }[form]
    got = scorer(columns)
    np.testing.assert_allclose(got["score"], found["score"], atol=1e-5, rtol=0)
    assert list(got["status"]) == list(found["status"])


def test_nothing_that_an_image_can_be_ends_a_call(scorer):
    class Hostile:
        shape = (3, 3, 3)

        def __array__(self, *_, **__):
            raise ZeroDivisionError

    images = [
        None,
        5,
        "gone.png",
        b"",
        "",
        object(),
        Hostile(),
        {},
        np.zeros((2, 2), int),
        "nowhere://host/a.jpg",
        float("nan"),
    ]
    got = scorer({"image": images})
    assert set(got["status"]) == {"refused"} and all(got["reason"])
    assert scorer({"path": []})["score"].shape == (0,)
    with refused(DataError, "missing", "bytes"):
        scorer({"name": ["a.jpg"]})


def test_two_stages_are_one_call(checkpoint, some):
    """The first stage needs no weights. What goes between them is bytes, which every engine can hand on."""
    scorer = BatchScorer(checkpoint, "auto:2", batch_size=8, fingerprints=True)
    between = scorer.decode({"path": some, "key": list(range(20))})
    table = pa.table({name: list(column) for name, column in between.items()})
    apart = scorer.score({name: table[name].to_pylist() for name in table.column_names})
    whole = scorer({"path": some, "key": list(range(20))})
    same(apart, whole)
    assert set(apart) == set(whole) and list(apart["dhash"]) == list(whole["dhash"]) and "tiles" not in apart


def test_a_copy_loads_the_weights_once(scorer, some, found):
    data = pickle.dumps(scorer)
    assert len(data) < 10_000
    copies = [pickle.loads(data), pickle.loads(data)]
    assert copies[0].scorer is copies[1].scorer
    same(copies[0]({"path": some}), found)


def test_few_shapes_and_none_after_the_first_batches(checkpoint, some):
    scorer = BatchScorer(checkpoint, "auto:3", batch_size=16)
    for start in (0, 3, 8):
        scorer({"path": some[start : start + 7]})
    shapes = scorer.scorer.predictor.compiled_shapes
    assert 1 <= shapes <= 3
    for i in range(1, 9):
        scorer({"path": some[:i]})
    assert scorer.scorer.predictor.compiled_shapes <= 3


def test_a_mark_keeps_batches_apart(scorer, some):
    """The rows after a mark are the same, bit by bit, whatever is before it."""
    rows = list(scorer.rows([*some[:3], END, *some[9:15], END]))
    assert [row is END for row in rows] == [False] * 3 + [True] + [False] * 6 + [True]
    alone = list(scorer.rows(some[9:15]))
    assert [row["score"] for row in rows[4:-1]] == [row["score"] for row in alone]


def test_images_are_taken_when_they_are_needed(scorer, some):
    taken = []

    def endless():
        while True:
            taken.append(0)
            yield some[0] if len(taken) % 5 == 0 else b"no image"

    rows = scorer.rows(endless())
    for _ in range(300):
        next(rows)
    assert len(taken) < 600
    rows.close()
