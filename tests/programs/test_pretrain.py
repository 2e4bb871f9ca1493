"""Contrastive pretraining on a few images: its files, resuming, the same loss on any number of devices, refusals."""

import json
import os
import shutil

import jax
import numpy as np
import optax
import pytest
from etils import epath
from hosts import Hosts
from jax.sharding import AxisType
from refused import refused
from tiny_run import PRETRAINING, ROOT, options
from tiny_run import make_pretraining_config as make_config

from jaxiqa.distortions import CONTRASTIVE, label_classes
from jaxiqa.errors import CheckpointError, ConfigError, DataError
from jaxiqa.evaluation.probe import Probe
from jaxiqa.inputs.contrastive import make_views, split_images, with_distortions
from jaxiqa.models import create_model
from jaxiqa.models.blocks.projector import Contrastive
from jaxiqa.pretrain import pretrain
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.runs.log import MetricLog, read_metrics
from jaxiqa.scoring.scorer import Scorer
from jaxiqa.tasks.contrastive import contrastive_loss
from jaxiqa.tasks.quality import initial_weights
from jaxiqa.training import optim, sharding
from jaxiqa.training.state import TrainState, jit_once
from jaxiqa.training.step import make_train_step


def losses(workdir):
    return {line["step"]: float(line["loss"]).hex() for line in read_metrics(workdir) if "loss" in line}


@pytest.mark.slow
def test_what_a_run_leaves(pretrained):
    workdir, accuracy = pretrained
    assert sorted(losses(workdir)) == [1, 2, 3, 4]
    first = read_metrics(workdir)[0]
    assert first["step"] == 0 and 0 <= first["untrained_val_accuracy"] <= 1
    assert [line["step"] for line in read_metrics(workdir) if "probe_accuracy" in line] == [2, 4]
    report = json.loads((workdir / "report.json").read_text())
    assert report["probe_accuracy"] == accuracy["test"]
    assert report["untrained_accuracy"] == first["untrained_test_accuracy"]
    assert np.sum(report["confusion"]) == 25 and report["label_mode"] == "type_level"
    probe = Probe.load(workdir / f"probe_{report['step']}.npz")
    assert probe.weight.shape == (256, 25) and probe.classes[0] == "pristine"
    for name in ("loss_curve.png", "confusion_matrix.png"):
        assert (workdir / name).stat().length > 5000
    saved = Saved(workdir)
    assert saved.step == report["step"] and saved.meta.pretrained["crop_size"] == 64


@pytest.mark.slow
def test_it_initialises_a_dan_and_nothing_else(pretrained, pictures, tmp_path):
    """The frozen branch of MFEN becomes the encoder, bit for bit. As another part it is refused, and so is scoring."""
    workdir, _ = pretrained
    namespace: dict = {}
    exec(compile((ROOT / "configs" / "mfen_folder.py").read_text(), "mfen_folder.py", "exec"), namespace)
    config = namespace["get_config"]("smoke")
    config.update_from_flattened_dict(options(pictures, **{"init.dan": str(workdir), "model.dan_frozen": True}))
    shapes = jax.eval_shape(create_model(**config.model).init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))
    state, sources = TrainState(0, shapes["params"], shapes["batch_stats"], {}, {}), {"dan": Saved(workdir)}
    loaded = initial_weights(config, sources, state)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    saved = Saved(workdir).load(("params", "batch_stats"), device)
    kernel = saved["params"]["encoder"]["layer2_0"]["conv2"]["kernel"]
    np.testing.assert_array_equal(loaded["params/dan/layer2_0/conv2/kernel"], kernel)
    assert {path.split("/")[1] for path in loaded} == {"dan"}
    for part in ("qen", "model"):
        config.init.update(dict(model="", qen="", dan="") | {part: str(workdir)})
        with refused(ConfigError, "format", f"config.init.{part}", str(workdir), "config.init.dan"):
            initial_weights(config, {part: Saved(workdir)}, state)
    with refused(CheckpointError, "missing", None, str(workdir)):
        Scorer(workdir)


@pytest.mark.slow
def test_a_start_from_an_encoder_with_frozen_layers_and_averages(pretrained, pristine, tmp_path):
    """As in training: frozen layers keep their values and statistics, and averages are saved."""
    frozen = (r"^encoder/(conv1|bn1|layer1_)",)
    changes = {"init.encoder": str(pretrained[0]), "frozen": frozen, "ema": 0.5, "skip_nonfinite": True}
    pretrain(make_config(pristine, **changes), epath.Path(tmp_path))
    before, after = (json.loads((folder / "report.json").read_text()) for folder in (pretrained[0], tmp_path))
    assert after["initial_accuracy"] == before["probe_accuracy"]
    assert after["untrained_accuracy"] == before["untrained_accuracy"]
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    first, last = (Saved(tmp_path, n).load(("params", "batch_stats", "ema"), device) for n in (2, 4))
    for part in ("params", "batch_stats"):
        for name, layer in first[part]["encoder"].items():
            moved = not all(map(np.array_equal, *map(jax.tree.leaves, (layer, last[part]["encoder"][name]))))
            assert moved != name.startswith(("conv1", "bn1", "layer1_")), (part, name)
    assert last["ema"] and not any(path.startswith("encoder/layer1_") for path in last["ema"])


@pytest.mark.slow
def test_a_resumed_run_has_the_same_losses(pretrained, pristine, tmp_path, monkeypatch):
    write_step = MetricLog.write_step

    def broken(self, last, *arguments, **options):
        if last is not None and last[0] == 3:
            raise RuntimeError("the power went")
        write_step(self, last, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MetricLog, "write_step", broken)
        with pytest.raises(RuntimeError, match="the power went"):
            pretrain(make_config(pristine), epath.Path(tmp_path))
    assert Saved(tmp_path).step == 2
    accuracy = pretrain(make_config(pristine), epath.Path(tmp_path))
    assert losses(tmp_path) == losses(pretrained[0]) and accuracy == pretrained[1]


def test_hosts_share_the_distortions_of_a_batch(monkeypatch):
    """Together the hosts draw, in their order, what one process draws."""
    classes, parts = label_classes("type_level"), []
    (whole,) = with_distortions([{"image": 0}], 5, 7, 12, classes)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    for host in range(3):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        parts += with_distortions([{"image": 0}], 5, 7, 12, classes)
    for name in ("type", "level", "label"):
        assert np.concatenate([part[name] for part in parts]).tolist() == whole[name].tolist()


@pytest.mark.release
def test_two_processes(pretrained, pristine, tmp_path):
    """One run and one report. Its steps are compiled without optimisation, so crops are rounded differently."""
    arguments = ["--config", f"{PRETRAINING}:smoke", "--workdir", tmp_path, f"--config.pictures={pristine}"]
    with Hosts("pretrain", [*arguments, "--config.total=1 steps"], 2, 2) as hosts:
        assert hosts.wait() == [0, 0], [hosts.output(i) for i in range(2)]
    (ours,), theirs = (list(map(float.fromhex, losses(w).values())) for w in (tmp_path, pretrained[0]))
    assert ours == pytest.approx(theirs[0], rel=0.01)
    assert json.loads((tmp_path / "report.json").read_text())["step"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("instance", [False, pytest.param(True, marks=pytest.mark.release)])
def test_the_loss_is_the_same_on_one_two_and_four_devices(instance):
    """Similarities are over the global batch. Three types of distortion are enough, one of them random."""
    bank = tuple(row for row in CONTRASTIVE if row.name in ("gaussian_blur", "white_noise", "mean_shift"))
    model = Contrastive(create_model("resnet50", "test", num_classes=0), "stage4", 32, 16)
    tx = optax.sgd(1e-3)  # the first step of Adam is a sign, which makes the rounding of a zero gradient a whole step
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (8, 91 if instance else 64, 91 if instance else 64, 3), np.uint8),
        "type": np.array([1, 1, 11, 11, 18, 18, 1, 11], np.int32),
        "level": np.array([3, 3, 5, 5, 4, 4, 5, 1], np.int32),
        "label": np.array([0, 0, 1, 1, 2, 2, 3, 3], np.int32),
    }
    variables = jit_once(model.init)(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))
    trainable, _ = optim.split_frozen(variables["params"], ())
    state = TrainState.create(variables, tx, trainable, with_ema=False)
    found = {}
    for devices in (1, 4) if instance else (1, 2, 4):
        mesh = jax.make_mesh((devices, 1), sharding.AXES, (AxisType.Auto,) * 2, devices=jax.devices()[:devices])
        views = make_views(model.encoder, instance, mesh, bank)
        step = jax.jit(make_train_step(contrastive_loss(model, 0.1), tx, lambda _: 1e-3, prepare=views))
        placed = jax.device_put(state, sharding.replicated(mesh))
        losses = []
        for _ in range(2):
            placed, metrics = step(placed, jax.device_put(batch, sharding.batch_sharding(mesh)), jax.random.key(1))
            losses.append(float(metrics["loss"]))
        found[devices] = losses
    assert found[1][0] != found[1][1]
    for losses in found.values():
        np.testing.assert_allclose(losses, found[1], rtol=1e-5)


@pytest.mark.slow
def test_an_image_replaced_under_its_name(pretrained, pristine, tmp_path):
    workdir, copy = (shutil.copytree(folder, tmp_path / folder.name) for folder in (pretrained[0], pristine))
    config = workdir / "config.json"  # as if the run had trained on the copied images
    config.write_text(config.read_text().replace(str(pristine), str(copy)))
    with open(split_images(str(copy), 4)[0][0].path, "ab") as file:
        file.write(b"\0")
    with refused(ConfigError, "changed", workdir, "split_fingerprint"):
        pretrain(make_config(copy), epath.Path(workdir))


def test_probe_images_are_never_trained_on(pristine):
    train, held_out = split_images(str(pristine), 4)
    assert len(train) == 8 and len(held_out) == 4
    assert not {r.id for r in train} & {r.id for r in held_out}
    again = split_images(os.path.relpath(pristine), 4)
    assert [r.id for r in again[0]] == [r.id for r in train]


@pytest.mark.parametrize(
    ("changes", "code", "key", "names"),
    [
        ({"pictures": ""}, "missing", "config.pictures", ()),
        ({"probe_pictures": 12}, "value", "config.probe_pictures", ("12 images",)),
        ({"probe_pictures": 3}, "value", "config.probe_pictures", ("3", "4")),
        ({"accumulate": 2}, "conflict", "config.accumulate", ("2",)),
        ({"label_mode": "types"}, "value", "config.label_mode", ('"types"', "type_level, type, instance")),
        ({"batch_size": 18}, "value", "config.batch_size", ("18", "multiple of 4")),
        ({"batch_size": 12, "label_mode": "instance"}, "value", "config.batch_size", ("12", "multiple of 8")),
        ({"eval_batch_size": 3}, "value", "config.eval_batch_size", ("3", "multiple of 4")),
        ({"temperature": 0.0}, "value", "config.temperature", ()),
        ({"model.name": "glintiqa"}, "value", "config.model.name", ('"glintiqa"', "resnet50")),
        ({"model.name": "resnet5"}, "unknown", "model", ('"resnet50"',)),
        ({"dtype": "float16"}, "value", "config.dtype", ('"float16"',)),
        ({"schedule.name": "cosin"}, "unknown", "config.schedule.name", ('"cosine"',)),
        ({"schedule.warmup": "9 epochs"}, "conflict", "config.schedule.warmup", ("4",)),
        ({"total": "soon"}, "value", "config.total", ('"soon"',)),
        ({"seed": -1}, "value", "config.seed", ("-1",)),
        ({"cache_gb": -1.0}, "value", "config.cache_gb", ("-1.0",)),
        ({"optimizer.b1": 1.0}, "value", "config.optimizer.b1", ("1.0",)),
    ],
)
def test_impossible_configs(pristine, tmp_path, monkeypatch, changes, code, key, names):
    """They are refused before the images of the probe are distorted."""
    assert jax.device_count() == 4
    monkeypatch.setattr("jaxiqa.tasks.contrastive.make_probe_set", None)
    with refused(ConfigError, code, key, *names):
        pretrain(make_config(**{"pictures": pristine, **changes}), epath.Path(tmp_path))


def test_a_folder_without_images(tmp_path):
    with refused(DataError, "empty", tmp_path, str(tmp_path)):
        pretrain(make_config(tmp_path), epath.Path(tmp_path / "w"))
