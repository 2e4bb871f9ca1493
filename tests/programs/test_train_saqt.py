"""Training on transferred labels through the real program: distortions, files, refused leaks."""

import dataclasses
import json

import numpy as np
import pytest
from etils import epath
from PIL import Image
from refused import refused
from tiny_run import ROOT

from jaxiqa import datasets
from jaxiqa.datasets.leakage import lent_scores, refuse_leak, seen_references
from jaxiqa.datasets.prepared import builder
from jaxiqa.datasets.readers import saqt
from jaxiqa.datasets.splits import make_split
from jaxiqa.distortions import distort_exact
from jaxiqa.errors import ConfigError
from jaxiqa.inputs.render import seed_of
from jaxiqa.inputs.transforms import whole
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.runs.checkpoint_meta import CheckpointMeta
from jaxiqa.runs.log import MetricLog, read_metrics
from jaxiqa.train import train

CELLS = [(1, 1), (1, 5), (11, 5), (18, 1)]
STORED = [0.6531277298927307, 0.35506340861320496, 0.5714806914329529]  # of three steps with one crop of each image
STORED_OF_FOUR = [0.701583743095398, 0.5682077407836914, 0.2330096960067749]
REFERENCES = [f"content{i}" for i in range(5)]
MOS = np.round(np.random.default_rng(0).uniform(1, 5, (5, len(CELLS))), 2)


@pytest.fixture(scope="module")
def rated(pictures):
    """The rated dataset: 15 images of 5 contents."""
    return datasets.load("folder", pictures, group_column="content")


@pytest.fixture(scope="module")
def labelled(rated, tmp_path_factory):
    """20 pristine images with transferred labels."""
    folder, rng = tmp_path_factory.mktemp("saqt"), np.random.default_rng(0)
    (folder / "pool").mkdir()
    names = [f"p{i}.png" for i in range(20)]
    for name in names:
        image = np.linspace(20, 220, 120)[None, :, None] + rng.normal(0, 9, (90, 120, 3))
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(folder / "pool" / name)
    about = {"dataset": "folder", "fingerprint": rated.fingerprint, "labels": "top1", "trained": True, "matches": {}}
    about |= {"score_range": [1.0, 5.0], "higher_is_better": True, "pictures": str(folder / "pool")}
    saqt.write(folder, names, np.arange(20) % 5, REFERENCES, CELLS, MOS, about)
    return folder


def make_config(name, data, **changes):
    """A small config; `data` becomes config.dataset."""
    namespace: dict = {}
    exec(compile((ROOT / "configs" / "cnniqa_live.py").read_text(), name, "exec"), namespace)
    config = namespace["get_config"]("smoke")
    config.dataset = data
    small = {"model.variant": "test", "total": "3 steps", "eval_every": "3 steps", "eval_batch_size": 60}
    config.update_from_flattened_dict({**small, **changes})
    return config.lock()


@pytest.fixture(scope="module")
def pretrained(labelled, tmp_path_factory):
    workdir = epath.Path(tmp_path_factory.mktemp("pretrained"))
    train(make_config("saqt", {"name": "saqt", "data_dir": str(labelled), "round": 2}), workdir)
    return workdir


def test_what_a_run_leaves(pretrained, labelled, rated):
    losses = [line["loss"] for line in read_metrics(pretrained) if "loss" in line]
    assert len(losses) == 3 and np.isfinite(losses).all()
    dataset = datasets.load("saqt", labelled, round=2)
    split = make_split(dataset)
    written = json.loads((pretrained / "split.json").read_text())
    sizes = {part: len(written[part]) for part in ("train", "val", "test")}
    assert sizes == {"train": 12, "val": 4, "test": 4}  # three, one and one references
    report = json.loads((pretrained / "report.json").read_text())
    assert report["n"] == 4 and report["note"]

    rendered = {path.stem: path for path in labelled.glob("distorted-*/*.bmp")}  # of the validation and test parts only
    assert rendered.keys() == {dataset.records[i].id for i in (*split.val, *split.test)}
    record = dataset.records[split.test[0]]
    expected = distort_exact(whole(np.asarray(Image.open(record.path))), *record.apply, seed_of(record))
    np.testing.assert_array_equal(np.asarray(Image.open(rendered[record.id])), expected)

    trained = {rated.records[i].reference for i in make_split(rated, 2).train}
    assert set(Saved(pretrained).meta.transferred["references"]) == trained


def test_stored_losses(pretrained, labelled, tmp_path):
    """With one crop of each image the losses are those before there was a choice; with four they have their own."""
    config = make_config(
        "saqt", {"name": "saqt", "data_dir": str(labelled), "round": 2}, crops_per_image=4, batch_size=16
    )
    train(config, epath.Path(tmp_path))
    for workdir, stored in ((pretrained, STORED), (tmp_path, STORED_OF_FOUR)):
        losses = [line["loss"] for line in read_metrics(workdir) if "loss" in line]
        np.testing.assert_allclose(losses, stored, rtol=1e-5)


@pytest.mark.slow
def test_a_resumed_run_has_the_same_losses(pretrained, labelled, tmp_path):
    """Stopped after two steps, the third draws and distorts the images of an unbroken run."""
    config = make_config("saqt", {"name": "saqt", "data_dir": str(labelled), "round": 2}, save_every="1 steps")
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
    """Through the program: pretrained without the test part of round 2, tested on the test part of round 1."""
    data = {"name": "folder", "data_dir": str(pictures), "group_column": "content"}
    names = (str(pretrained), "round 2 of folder", "round 1", "--config.dataset.round=1")
    with refused(ConfigError, "leak", pretrained, *names) as e:
        train(make_config("fine", data, **{"init.model": str(pretrained)}), epath.Path(tmp_path))
    assert "\n" not in str(e.value)


def test_what_is_a_leak(pretrained, rated, labelled):
    meta = Saved(pretrained).meta

    def refuse(meta, dataset, split, **data):
        refuse_leak(meta.transferred, meta.config.get("dataset", {}), "there", dataset, data, split)

    for selection in ("val", "legacy"):  # the test part of the pretraining
        refuse(meta, rated, make_split(rated, 2, selection))
    refuse(CheckpointMeta(), rated, make_split(rated))
    other = dataclasses.replace(rated, records=[dataclasses.replace(r, mos=r.mos / 2 + 1) for r in rated.records])
    refuse(meta, other, make_split(other))  # another folder with contents of the same names
    of_another = dataclasses.replace(meta, transferred=meta.transferred | {"dataset": "kadid10k"})
    refuse(of_another, rated, make_split(rated))

    everything = datasets.load("saqt", labelled, round=2, hold_out=False)
    everything_meta = CheckpointMeta(
        transferred=lent_scores(everything, make_split(everything)), config={"dataset": {"hold_out": False}}
    )
    with refused(ConfigError, "leak", "there", "hold_out=False", "round 2"):
        refuse(everything_meta, rated, make_split(rated, 2))
    again = datasets.load("saqt", labelled, round=1)  # with scores of the same references
    refuse(
        meta, datasets.load("saqt", labelled, round=2), make_split(datasets.load("saqt", labelled, round=2)), round=2
    )
    with refused(ConfigError, "leak", "there", "round 1"):
        refuse(meta, again, make_split(again), round=1)
    assert seen_references(meta.transferred, rated, rated.records) == meta.transferred["references"]


def test_a_split_that_shares_references_is_refused(labelled, tmp_path):
    dataset = datasets.load("saqt", labelled)
    ids = [r.id for r in dataset.records]
    about = {"dataset": "saqt", "name": "mine", "seed": None, "round": 1}
    (tmp_path / "mine.json").write_text(json.dumps(about | {"train": ids[:12], "val": ids[12:16], "test": ids[16:]}))
    split = make_split(dataset, file=str(tmp_path / "mine.json"))
    with refused(ConfigError, "leak", "config.split.file", "4 references", "content"):
        lent_scores(dataset, split)
    with refused(ConfigError, "value"):
        builder.make_plan(dataset, labelled, {}, False, lambda path: 1)
