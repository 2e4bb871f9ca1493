"""A checkpoint as plain files, as a hub holds it: read as any other, refused if it is not what was written."""

import dataclasses
import json
import pickle

import jax
import numpy as np
import pytest
import safetensors.numpy
from etils import epath
from ready_stand_in import CARD
from refused import refused

import jaxiqa
from jaxiqa.errors import CheckpointError, ConfigError
from jaxiqa.runs import digests, hub, portable
from jaxiqa.runs.checkpoint import Saved, save_once
from jaxiqa.runs.checkpoint_meta import CheckpointMeta
from jaxiqa.scoring.model_card import model_card
from jaxiqa.scoring.scorer import Scorer

STATE = {
    "params": {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "b": np.float32([1.5])},
    "batch_stats": {"mean": np.zeros((), np.float32)},
}
META = CheckpointMeta(card=CARD.to_dict(), source={"file": "x.pth"})


@pytest.fixture
def folder(tmp_path):
    path = epath.Path(tmp_path / "plain")
    path.mkdir()
    portable.write(path, STATE, META, 7)
    return path


def test_it_is_read_as_any_checkpoint(folder, tmp_path):
    saved = Saved(folder)
    assert (saved.step, saved.workdir, saved.meta) == (7, folder, META) and Saved(folder, 7).step == 7
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    found = saved.load(("params", "batch_stats", "ema"), device)
    assert found["ema"] == {} and jax.tree.structure(found) == jax.tree.structure(STATE | {"ema": {}})
    jax.tree.map(np.testing.assert_array_equal, found, STATE | {"ema": {}})
    assert saved.load(("batch_stats",), device).keys() == {"batch_stats"}
    save_once(tmp_path / "orbax", STATE, META)
    assert saved.digest() == Saved(tmp_path / "orbax").digest() != ""
    with refused(CheckpointError, "not_found", folder):
        Saved(folder, 8)


def rewritten(folder, change, sealed: bool) -> None:
    """Changes jaxiqa.json; `sealed`: with a right checksum, as only its author could."""
    found = json.loads((folder / portable.ABOUT).read_text())
    del found["sha256"]
    before = digests.of_json(found)
    change(found)
    (folder / portable.ABOUT).write_text(json.dumps(found | {"sha256": digests.of_json(found) if sealed else before}))


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["arrays"]["params/b"].update(sha256={"": "0" * 64}),
        lambda found: found["arrays"]["params/b"].update(shape=[2]),
        lambda found: found["arrays"].pop("params/b"),
        lambda found: found["arrays"].update({"params/c": found["arrays"]["params/b"]}),
        lambda found: found["arrays"].update({"params/b": None}),
        lambda found: found.pop("arrays"),
        lambda found: found.update(meta=[]),
    ],
)
def test_a_changed_description_is_refused(folder, change, sealed):
    rewritten(folder, change, sealed)
    with refused(CheckpointError, "damaged"):
        Saved(folder).load(("params",), jax.sharding.SingleDeviceSharding(jax.devices()[0]))


@pytest.mark.parametrize(
    "data",
    [
        safetensors.numpy.save({"params/a/kernel": np.zeros((2, 3), np.float32), "params/b": np.float32([1.5])}),
        pickle.dumps({"params/b": 1}),
        b"",
        None,
    ],
)
def test_other_weights_are_refused(folder, data):
    (folder / portable.WEIGHTS).unlink()
    if data is not None:
        (folder / portable.WEIGHTS).write_bytes(data)
    with refused(CheckpointError, "not_found" if data is None else "damaged"):
        Saved(folder).load(("params",), jax.sharding.SingleDeviceSharding(jax.devices()[0]))


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, "null"])
def test_what_is_no_description_is_refused(folder, text):
    (folder / portable.ABOUT).write_text(text)
    with refused(CheckpointError, "damaged", folder / portable.ABOUT):
        Saved(folder)


def test_a_card_imports_nothing(folder, tmp_path, monkeypatch):
    (tmp_path / "hostile_card.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    card = dataclasses.replace(CARD, model={"name": "hostile_card", "variant": "x"}, package="hostile_card")
    rewritten(folder, lambda found: found["meta"].update(card=card.to_dict()), sealed=True)
    with pytest.raises(CheckpointError):
        Scorer(folder)
    card = dataclasses.replace(CARD, model={"name": "hostile_card.net", "variant": "x"}, package="hostile_card")
    rewritten(folder, lambda found: found["meta"].update(card=card.to_dict()), sealed=True)
    with pytest.raises(CheckpointError):
        Scorer(folder)


@pytest.mark.parametrize(
    "name",
    [
        "hf://",
        "hf://owner",
        "hf://a/b/c",
        "hf://../b",
        "hf://a/..",
        "hf://a/b@",
        "hf://a/b@../c",
        "hf://a/b c",
        "hf://a/b\n",
    ],
)
def test_names_that_no_hub_has(name):
    with refused(CheckpointError, "value", name):
        hub.find(name)


def test_create_metric_takes_the_name_of_a_checkpoint_on_a_hub():
    with refused(CheckpointError, "value", "hf://owner"):
        jaxiqa.create_metric("hf://owner")


def test_other_paths_are_left_alone(tmp_path):
    assert hub.find(tmp_path) == tmp_path and hub.find("ready") == "ready"
    with refused(ConfigError, "value", "--push"):
        hub.upload(tmp_path, "no owner")


@pytest.mark.parametrize("licence, head", [("MIT", "license: mit\n"), ("My: own", 'license_name: "My: own"\n')])
def test_the_page_of_a_checkpoint(licence, head):
    report = {"dataset": "kadid10k", "part": "test", "n": 9, "split": "by content", "selection": "val", "srcc": 0.5}
    text = model_card("owner/name", CARD, 7, "d" * 64, licence, report)
    assert text.startswith("---\n") and head in text.split("---\n")[1] and "library_name: jaxiqa" in text
    for part in ("compact test, step 7", "noise", "hf://owner/name", "d" * 64, "SRCC 0.5000", "nobody rated noise"):
        assert part in text
    assert "No test result" in model_card("owner/name", CARD, 7, "", licence)
