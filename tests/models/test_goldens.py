"""Outputs and training steps equal those of the public PyTorch code, in fp32 with the highest matmul precision."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch_writer
from flax import traverse_util

from jaxiqa.models import create_model
from jaxiqa.tasks.quality import quality_loss
from jaxiqa.training import optim
from jaxiqa.training.losses import l1
from jaxiqa.training.state import TrainState
from jaxiqa.training.step import make_train_step
from jaxiqa.weights import load_torch
from jaxiqa.weights.files import read_tensors, write_tensors
from jaxiqa.weights.verify import verify

NAMES = ["glintiqa", "vit_small_patch16_224", "resnet50", "van_b1"]
MORE = ["vit_base_patch16_224", "van_b0", "van_b2", "van_b3"]
FROZEN = (
    r"^vgfe/backbone/(patch_embed|block[0-4])/",
    r"^clfe/backbone/(conv1|bn1|layer[12]_\d+)/",
)
MOVED = {  # parameters, and their names in the golden: how far six steps move them
    "vgfe/backbone/cls_token": "vgfe.backbone.cls_token",
    "vgfe/backbone/pos_embed": "vgfe.backbone.pos_embed",
    "vgfe/backbone/block4/mlp/fc1/kernel": "vgfe.backbone.blocks.4.mlp.fc1.weight",
    "vgfe/backbone/block5/mlp/fc1/kernel": "vgfe.backbone.blocks.5.mlp.fc1.weight",
    "clfe/backbone/layer2_0/conv1/kernel": "clfe.backbone.layer2.0.conv1.weight",
    "clfe/backbone/layer3_0/conv1/kernel": "clfe.backbone.layer3.0.conv1.weight",
    "siem4/conv/kernel": "siem4.conv.weight",
    "quality_head/fc2/kernel": "quality_head.layers.3.weight",
}


def write_pth(path, tensors):
    body = torch_writer.mapping({key: torch_writer.whole(key, array) for key, array in tensors.items()})
    path.write_bytes(torch_writer.zip_file(body, tensors))


FILES = {
    "w.safetensors": write_tensors,
    "w.npz": lambda path, tensors: np.savez(path, **tensors),
    "w.pth": write_pth,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(name, marks=pytest.mark.release) for name in MORE)])
def test_forward(name, goldens, tmp_path, capsys):
    """All taps agree, with weights from files of each format: written opcode by opcode, by our writer and by NumPy."""
    golden, seed = goldens.models["models"][name], goldens.models["seed"]
    tensors = goldens.seeded.seeded_state_dict(golden["shapes"], seed)
    for file, write in FILES.items():  # one after the other: the largest has 350 MB
        write(tmp_path / file, tensors)
        read = read_tensors(tmp_path / file)
        for key in list(read):  # the same tensors, so the same variables
            array = read.pop(key)
            assert array.dtype == tensors[key].dtype and np.array_equal(array, tensors[key]), (file, key)
    del tensors
    variables = load_torch(name, tmp_path / "w.pth")
    (tmp_path / "golden.json").write_text(json.dumps(goldens.models))
    errors = verify(name, {"glintiqa": "vit_s16_r50"}.get(name, name), variables, tmp_path / "golden.json")
    with capsys.disabled():
        print(f"\n{name}: " + "  ".join(f"{k} {v:.1e}" for k, v in errors.items()))
    assert errors.keys() == golden["outputs"].keys() and max(errors.values()) <= 1e-4


@pytest.mark.slow
def test_training(goldens, capsys):
    """Six Adam steps of GlintIQA: losses, gradient norms, running statistics and which tensors move."""
    golden, seed = goldens.training, goldens.training["seed"]
    shapes = goldens.models["models"]["glintiqa"]["shapes"]
    variables = load_torch("glintiqa", goldens.seeded.seeded_state_dict(shapes, seed))
    model = create_model("glintiqa", dropout=0.0)  # eval_bn is empty, so all layers use batch statistics
    tx = optax.chain(
        optax.add_decayed_weights(golden["weight_decay"]), optax.scale_by_adam(), optax.scale(-golden["learning_rate"])
    )
    trainable, _ = optim.split_frozen(variables["params"], FROZEN)
    assert sum(x.size for x in jax.tree.leaves(trainable)) == 30_589_333
    state = TrainState.create(jax.tree.map(jnp.array, variables), tx, trainable, with_ema=False)
    before = {path: x for path, x in traverse_util.flatten_dict(variables["params"], sep="/").items() if path in MOVED}
    del variables, trainable
    batch = {"image": goldens.seeded.seeded_input(seed, n=4), "label": np.array(golden["targets"], np.float32)}
    images_of = lambda batch: batch["image"]  # noqa: E731 - they are normalised already
    rate = golden["learning_rate"]
    step = jax.jit(make_train_step(quality_loss(model, l1, images_of), tx, lambda _: rate, FROZEN), donate_argnums=0)
    losses, norms = [], []
    with jax.default_matmul_precision("highest"):
        for _ in range(golden["steps"]):
            state, metrics = step(state, batch, jax.random.key(0))
            losses.append(float(metrics["loss"]))
            norms.append(float(metrics["grad_norm"]))
    loss_error = max(abs(a - b) / b for a, b in zip(losses, golden["loss"], strict=True))
    norm_error = max(abs(a - b) / b for a, b in zip(norms, golden["grad_norm"], strict=True))
    with capsys.disabled():
        print(
            f"\nsix steps: largest relative error of the loss {loss_error:.1e}, of the gradient norm {norm_error:.1e}"
        )
    assert loss_error <= 0.01
    assert norm_error <= 0.01

    stats = traverse_util.flatten_dict(state.batch_stats, sep="/")
    for name, expected in golden["batch_stats"].items():
        ours = np.asarray(stats[name.replace("layer3.5", "layer3_5").replace("running_", "").replace(".", "/")])
        np.testing.assert_allclose(
            [ours.mean(), ours.std(ddof=1)], [expected["mean"], expected["std"]], rtol=1e-3, atol=1e-5
        )
    after = traverse_util.flatten_dict(state.params, sep="/")
    for path, name in MOVED.items():
        change = float(np.abs(np.asarray(after[path]) - before[path]).mean())
        np.testing.assert_allclose(change, golden["mean_abs_change"][name], rtol=0.02, err_msg=path)
