"""Training on transferred labels through the real program: what it distorts, what it writes, and whom it refuses."""

import dataclasses
import json

import numpy as np
import pytest
from etils import epath
from PIL import Image
from tiny_run import ROOT

from jaxiqa import datasets
from jaxiqa.datasets import builder, saqt
from jaxiqa.datasets.leaks import lent_scores, refuse_leak, seen_references
from jaxiqa.datasets.splits import make_split
from jaxiqa.distortions import distort_exact
from jaxiqa.errors import ConfigError
from jaxiqa.inputs.render import seed_of
from jaxiqa.inputs.transforms import whole
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.runs.log import MetricLog, read_metrics
from jaxiqa.runs.meta import CheckpointMeta
from jaxiqa.train import train

CELLS = [(1, 1), (1, 5), (11, 5), (18, 1)]
REFERENCES = [f"content{i}" for i in range(5)]
MOS = np.round(np.random.default_rng(0).uniform(1, 5, (5, len(CELLS))), 2)


@pytest.fixture(scope="module")
def lender(pictures):
    """The rated dataset: 15 pictures of 5 contents."""
    return datasets.load("folder", pictures, group_column="content")


@pytest.fixture(scope="module")
def lent(lender, tmp_path_factory):
    """20 pristine pictures with scores of it."""
    folder, rng = tmp_path_factory.mktemp("saqt"), np.random.default_rng(0)
    (folder / "pool").mkdir()
    names = [f"p{i}.png" for i in range(20)]
    for name in names:
        image = np.linspace(20, 220, 120)[None, :, None] + rng.normal(0, 9, (90, 120, 3))
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(folder / "pool" / name)
    about = {"dataset": "folder", "fingerprint": lender.fingerprint, "labels": "top1", "trained": True, "matches": {}}
    about |= {"score_range": [1.0, 5.0], "higher_is_better": True, "pictures": str(folder / "pool")}
    saqt.write(folder, names, np.arange(20) % 5, REFERENCES, CELLS, MOS, about)
    return folder


def make_config(name, data, **changes):
    """A small config; `data` is all of config.dataset."""
    namespace: dict = {}
    exec(compile((ROOT / "configs" / "cnniqa_live.py").read_text(), name, "exec"), namespace)
    config = namespace["get_config"]("smoke")
    config.dataset = data
    small = {"model.variant": "test", "total": "3 steps", "eval_every": "3 steps", "eval_batch_size": 60}
    config.update_from_flattened_dict({**small, **changes})
    return config.lock()


@pytest.fixture(scope="module")
def pretrained(lent, tmp_path_factory):
    workdir = epath.Path(tmp_path_factory.mktemp("pretrained"))
    train(make_config("saqt", {"name": "saqt", "data_dir": str(lent), "round": 2}), workdir)
    return workdir


def test_what_a_run_leaves(pretrained, lent, lender):
    losses = [line["loss"] for line in read_metrics(pretrained) if "loss" in line]
    assert len(losses) == 3 and np.isfinite(losses).all()
    dataset = datasets.load("saqt", lent, round=2)
    split = make_split(dataset)
    written = json.loads((pretrained / "split.json").read_text())
    sizes = {part: len(written[part]) for part in ("train", "val", "test")}
    assert sizes == {"train": 12, "val": 4, "test": 4}  # three, one and one of the references
    report = json.loads((pretrained / "report.json").read_text())
    assert report["n"] == 4 and "nobody rated these pictures" in report["note"]

    rendered = {path.stem: path for path in lent.glob("distorted-*/*.png")}  # only what validates and tests
    assert rendered.keys() == {dataset.records[i].id for i in (*split.val, *split.test)}
    record = dataset.records[split.test[0]]
    expected = distort_exact(whole(np.asarray(Image.open(record.path))), *record.apply, seed_of(record))
    np.testing.assert_array_equal(np.asarray(Image.open(rendered[record.id])), expected)

    trained = {lender.records[i].reference for i in make_split(lender, 2).train}
    assert set(Saved(pretrained).meta.transferred["references"]) == trained


@pytest.mark.slow
def test_the_same_command_goes_on_with_the_same_losses(pretrained, lent, tmp_path):
    """Stopped after two steps, the third one draws and distorts as that of the unbroken run."""
    config = make_config("saqt", {"name": "saqt", "data_dir": str(lent), "round": 2}, save_every="1 steps")
    write_step = MetricLog.write_step

    def broken(self, last, *arguments, **options):
        if last is not None and last[0] == 2:
            raise RuntimeError("the power went")
        write_step(self, last, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MetricLog, "write_step", broken)
        with pytest.raises(RuntimeError, match="the power went"):
            train(config, epath.Path(tmp_path))
    assert Saved(tmp_path).step == 1
    train(config, epath.Path(tmp_path))
    ours, unbroken = ([line["loss"] for line in read_metrics(w) if "loss" in line] for w in (tmp_path, pretrained))
    assert ours == unbroken


def test_a_leak_is_refused(pretrained, pictures, tmp_path):
    """Through the program: pretrained without the test part of round 2, tested on that of round 1."""
    data = {"name": "folder", "data_dir": str(pictures), "group_column": "content"}
    with pytest.raises(ConfigError) as e:
        train(make_config("fine", data, **{"init.model": str(pretrained)}), epath.Path(tmp_path))
    message = str(e.value)
    assert str(pretrained) in message and "labels are of round 2 of folder" in message and "\n" not in message
    assert "this is round 1" in message and "--config.dataset.round=1" in message


def test_what_is_a_leak(pretrained, lender, lent):
    meta = Saved(pretrained).meta

    def refuse(meta, dataset, split, **data):
        refuse_leak(meta.transferred, meta.config.get("dataset", {}), "there", dataset, data, split)

    for selection in ("val", "legacy"):  # the test part is that of the pretraining
        refuse(meta, lender, make_split(lender, 2, selection))
    refuse(CheckpointMeta(), lender, make_split(lender))
    other = dataclasses.replace(lender, records=[dataclasses.replace(r, mos=r.mos / 2 + 1) for r in lender.records])
    refuse(meta, other, make_split(other))  # another folder, which has contents of the same names
    of_another = dataclasses.replace(meta, transferred=meta.transferred | {"dataset": "kadid10k"})
    refuse(of_another, lender, make_split(lender))

    everything = datasets.load("saqt", lent, round=2, hold_out=False)
    lent_all = CheckpointMeta(
        transferred=lent_scores(everything, make_split(everything)), config={"dataset": {"hold_out": False}}
    )
    with pytest.raises(ConfigError, match="hold_out=False, this is round 2"):
        refuse(lent_all, lender, make_split(lender, 2))
    again = datasets.load("saqt", lent, round=1)  # its scores are of the same references
    refuse(meta, datasets.load("saqt", lent, round=2), make_split(datasets.load("saqt", lent, round=2)), round=2)
    with pytest.raises(ConfigError, match="this is round 1"):
        refuse(meta, again, make_split(again), round=1)
    assert seen_references(meta.transferred, lender, lender.records) == meta.transferred["references"]


def test_a_split_that_shares_references_is_refused(lent, tmp_path):
    dataset = datasets.load("saqt", lent)
    ids = [r.id for r in dataset.records]
    about = {"dataset": "saqt", "name": "mine", "seed": None, "round": 1}
    (tmp_path / "mine.json").write_text(json.dumps(about | {"train": ids[:12], "val": ids[12:16], "test": ids[16:]}))
    split = make_split(dataset, file=str(tmp_path / "mine.json"))
    with pytest.raises(ConfigError, match="trains and tests with scores of 4 references, such as content"):
        lent_scores(dataset, split)
    with pytest.raises(ConfigError, match="there is nothing to prepare"):
        builder.make_plan(dataset, lent, {}, False, lambda path: 1)
