"""jaxiqa aot: refusals, and a training step compiled for a TPU slice if the TPU compiler is installed."""

import importlib.util
import json

import pytest
from tiny_run import check_refusals, run_many, run_program

from jaxiqa.aot.topology import slice_devices
from jaxiqa.training import sharding

CONFIG = "--config=configs/cnniqa_live.py"
SLICE = "--topology=v5e:2x2"

REFUSED = [
    ([SLICE], 2, "--config"),
    ([CONFIG], 2, "--topology", "v5e:4x4"),
    ([CONFIG, "--topology=v5e:16"], 2, '"v5e:16"', "v5e:4x4"),
    ([CONFIG, "--topology=v7:2x2"], 2, '"v7:2x2"'),
    ([CONFIG, "--topology=v5e:16x16"], 2, "config.batch_size=128", "multiple of 256", "256"),
    ([CONFIG, SLICE, "--scoring", "--config.eval_batch_size=2"], 2, "config.eval_batch_size=2", "multiple of 4"),
    ([CONFIG, SLICE, "--config.crops_per_image=3"], 2, "config.batch_size=128", "multiple of 12", "132"),
    ([CONFIG, SLICE, "--config.accumulate=3"], 2, "config.batch_size=128", "multiple of 12", "132"),
    ([CONFIG, SLICE, "--config.accumulate=0"], 2, "config.accumulate=0", "1"),
    ([CONFIG, SLICE, "--config.dtype=float64"], 2, 'config.dtype="float64"', "float32, bfloat16"),
    ([CONFIG, SLICE, "--mesh=4x1"], 2, '--mesh "4x1"', "data=64,fsdp=4"),
    ([CONFIG, SLICE, "--mesh=data=2,data=2"], 2, '--mesh "data=2,data=2"', "data=64,fsdp=4"),
    ([CONFIG, SLICE, "--sweep=mesh"], 2, "--sweep=mesh", "batch"),
    ([CONFIG, SLICE, "--output=report.txt"], 2, "--output=report.txt", ".json"),
    (["--config=configs/dan_folder.py", SLICE, "--scoring"], 2, "--scoring"),
    (["--config=configs/dan_folder.py", SLICE, "--config.batch_size=126"], 2, "batch_size=126", "multiple of 4", "128"),
]

has_compiler = importlib.util.find_spec("libtpu") is not None
needs_compiler = pytest.mark.skipif(not has_compiler, reason="no TPU compiler; it comes with the extra [tpu]")


def test_refusals():
    check_refusals("aot", REFUSED)


def test_only_the_batch_that_is_compiled_is_judged():
    """The other batch does not divide over the slice."""
    other = {"--scoring": "--config.batch_size=3", "--noscoring": "--config.eval_batch_size=3"}
    results = run_many("aot", [[CONFIG, SLICE, flag, wrong, "--mesh=data=3"] for flag, wrong in other.items()])
    for code, _, error in results:  # the refusal is of the mesh, or there is no compiler
        assert code == 2 and "batch_size" not in error, error


@pytest.mark.skipif(has_compiler, reason="there is a TPU compiler")
def test_no_compiler():
    assert check_refusals("aot", [([CONFIG, SLICE], 2, 'python -m pip install -c constraints.txt -e ".[tpu]"')]) == [""]


@needs_compiler
@pytest.mark.slow
def test_a_training_step_for_a_tpu(tmp_path):
    done = run_program("aot", CONFIG, SLICE, "--output", tmp_path / "report.json")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    trains, first, second, *_, last = done.stdout.splitlines()
    assert "cnniqa patch32" in trains and "724,901 of 724,901" in trains
    assert first.startswith("cnniqa patch32, float32: training step of 128 ") and "32 on each of 4 chips" in first
    assert second.startswith("v5e:2x2, mesh 4 x 1 (data x fsdp), jax ") and second.endswith("not run")
    assert "TFLOP" in last
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["what"] == "compiled, not run" and report["mesh"] == {"data": 4, "fsdp": 1}
    parameters = 7 * 7 * 50 + 50 + 100 * 800 + 800 + 800 * 800 + 800 + 800 + 1
    assert report["donated"] > 0.98
    assert 12 * parameters < report["memory"]["aliased"] < 16 * parameters  # parameters and both moments, padded
    assert report["memory"]["used"] < report["memory"]["available"] == 15.75 * 2**30
    products = 26 * 26 * 49 * 50 + 100 * 800 + 800 * 800 + 800
    assert 2 < report["flops"] / (32 * 2 * products) < 3.5  # the image has no gradient


@needs_compiler
@pytest.mark.slow
def test_the_shards_of_a_state_are_on_one_host():
    mesh = sharding.make_mesh(fsdp=4, devices=slice_devices("v6e:8x8"))
    assert [{device.process_index for device in row} for row in mesh.devices] == [{host} for host in range(16)]


@needs_compiler
@pytest.mark.slow
def test_what_does_not_fit():
    check_refusals("aot", [([CONFIG, SLICE, "--config.batch_size=4000000"], 2, "15.75 GiB")])
