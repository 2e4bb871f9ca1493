"""jaxiqa export: what it writes, and what it refuses."""

import jax
import numpy as np
import pytest
from ready_stand_in import CARD
from tiny_run import check_refusals, filled, run_program

from jaxiqa.models import create_model
from jaxiqa.runs.checkpoint import save_once
from jaxiqa.runs.checkpoint_meta import CheckpointMeta

pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")


@pytest.fixture(scope="module")
def too_large(tmp_path_factory):
    """A checkpoint whose weights fp16 cannot hold."""
    model = create_model("cnniqa", "test")
    state = model.init(jax.random.key(0), np.zeros((1, 33, 33, 3), np.float32))
    large = jax.tree.map(lambda x: 1e6 * np.asarray(x), dict(state))
    folder = tmp_path_factory.mktemp("export") / "large"
    card = {**CARD.to_dict(), "model": {"name": "cnniqa", "variant": "test"}}
    save_once(folder, {"batch_stats": {}, **large}, CheckpointMeta(card=card))
    return folder


def test_the_loss_of_int8_on_rated_images(trained, pictures, tmp_path):
    output = tmp_path / "model.onnx"
    rated = ("--dataset=folder", "--data_dir", pictures, "--option=group_column=content")
    done = run_program("export", "--checkpoint", trained[0], "--precision=int8", "--output", output, *rated)
    assert done.returncode == 0, done.stderr
    assert output.stat().st_size > 10_000 and "15 images of folder" in done.stdout
    row = next(line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["srcc"])
    assert -1 <= float(row[1]) <= 1 and abs(float(row[1]) - float(row[2])) < 0.5


def test_a_file_that_does_not_agree_is_not_written(too_large, tmp_path):
    output = tmp_path / "model.onnx"
    done = run_program("export", "--checkpoint", too_large, "--precision=fp16", "--output", output)
    assert done.returncode == 4 and str(too_large) in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


REFUSED = [
    ([], 2, "--output"),
    (["--output=model.pb"], 2, "model.pb", ".onnx"),
    (["--output=model.onnx", "--format=stablehlo"], 2, "model.onnx", ".stablehlo"),
    (["--output=model.stablehlo", "--format=stablehlo", "--precision=int8"], 2, "--precision int8"),
    (["--output=model.onnx", "--single_file"], 2, "--single_file", "--format web"),
    (["--output=model.onnx", "--data_dir=folder"], 2, "--dataset"),
    (["--output=model.onnx", "--dataset=nothing"], 2, "nothing"),
    (["--output=model.onnx", "--checkpoint={empty}"], 4, "{empty}"),
]


def test_refusals(tmp_path):
    check_refusals("export", filled(REFUSED, empty=tmp_path))
