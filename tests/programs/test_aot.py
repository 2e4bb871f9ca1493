"""python -m jaxiqa.aot: refusals, and a training step compiled for a TPU slice where its compiler is installed."""

import importlib.util
import json

import pytest
from tiny_run import run_many, run_program

from jaxiqa.aot.topology import slice_devices
from jaxiqa.training import sharding

CONFIG = "--config=configs/cnniqa_live.py"
SLICE = "--topology=v5e:2x2"

REFUSED = [
    ([SLICE], "--config is missing"),
    ([CONFIG], "--topology is missing; name a TPU slice: v5e:4x4"),
    ([CONFIG, "--topology=v5e:16"], 'there is no slice "v5e:16"; write for instance v5e:4x4'),
    ([CONFIG, "--topology=v7:2x2"], 'there is no slice "v7:2x2"'),
    ([CONFIG, "--topology=v5e:16x16"], "config.batch_size=128 must be a multiple of 256; take 256"),
    ([CONFIG, SLICE, "--scoring", "--config.eval_batch_size=2"], "config.eval_batch_size=2 must be a multiple of 4"),
    ([CONFIG, SLICE, "--config.accumulate=3"], "config.batch_size=128 must be a multiple of 12; take 132"),
    ([CONFIG, SLICE, "--config.accumulate=0"], "config.accumulate=0 must be 1 (off) or more"),
    ([CONFIG, SLICE, "--config.dtype=float64"], 'config.dtype="float64" must be one of float32, bfloat16'),
    ([CONFIG, SLICE, "--mesh=4x1"], '--mesh "4x1" must be written as data=64,fsdp=4'),
    ([CONFIG, SLICE, "--mesh=data=2,data=2"], "must be written as data=64,fsdp=4"),
    ([CONFIG, SLICE, "--sweep=mesh"], "sweep"),
    ([CONFIG, SLICE, "--output=report.txt"], "--output report.txt must end in .json"),
    (["--config=configs/dan_folder.py", SLICE, "--scoring"], "a pretraining run scores nothing"),
    (["--config=configs/dan_folder.py", SLICE, "--config.batch_size=126"], "must be a multiple of 4; take 128"),
]

has_compiler = importlib.util.find_spec("libtpu") is not None
needs_compiler = pytest.mark.skipif(not has_compiler, reason="no TPU compiler; it comes with the extra [tpu]")


def test_refusals():
    results = run_many("aot", [arguments for arguments, _ in REFUSED])
    for (arguments, words), (code, _, error) in zip(REFUSED, results, strict=True):
        assert code == 2 and words in error, (arguments, error)
        assert len(error.strip().splitlines()) == 1, (arguments, error)


def test_only_the_batch_that_is_compiled_is_judged():
    """Of a slice on which the other one would not divide."""
    other = {"--scoring": "--config.batch_size=3", "--noscoring": "--config.eval_batch_size=3"}
    results = run_many("aot", [[CONFIG, SLICE, flag, wrong, "--mesh=data=3"] for flag, wrong in other.items()])
    for code, _, error in results:  # it gets as far as the mesh, or the compiler that is not here
        assert code == 2 and "batch_size" not in error, error


@pytest.mark.skipif(has_compiler, reason="there is a TPU compiler")
def test_no_compiler():
    done = run_program("aot", CONFIG, SLICE)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == 'aot: there is no TPU compiler here; python -m pip install -c constraints.txt -e ".[tpu]"\n'


@needs_compiler
@pytest.mark.slow
def test_a_training_step_for_a_tpu(tmp_path):
    done = run_program("aot", CONFIG, SLICE, "--output", tmp_path / "report.json")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    trains, first, second, *_, last = done.stdout.splitlines()
    assert trains == "cnniqa patch32: 724,901 of 724,901 parameters train"
    assert first == "cnniqa patch32, float32: training step of 128 images, 32 on each of 4 chips"
    assert second.startswith("v5e:2x2, mesh 4 x 1 (data x fsdp), jax ") and second.endswith(" s, not run")
    assert last.startswith("operations")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["what"] == "compiled, not run" and report["mesh"] == {"data": 4, "fsdp": 1}
    parameters = 7 * 7 * 50 + 50 + 100 * 800 + 800 + 800 * 800 + 800 + 800 + 1
    assert report["donated"] > 0.98
    assert 12 * parameters < report["memory"]["aliased"] < 16 * parameters  # parameters and both moments, padded
    assert report["memory"]["used"] < report["memory"]["available"] == 15.75 * 2**30
    products = 26 * 26 * 49 * 50 + 100 * 800 + 800 * 800 + 800
    assert 2 < report["flops"] / (32 * 2 * products) < 3.5  # the picture has no gradient


@needs_compiler
@pytest.mark.slow
def test_the_shards_of_a_state_are_on_one_host():
    mesh = sharding.make_mesh(fsdp=4, devices=slice_devices("v6e:8x8"))
    assert [{device.process_index for device in row} for row in mesh.devices] == [{host} for host in range(16)]


@needs_compiler
@pytest.mark.slow
def test_what_does_not_fit():
    done = run_program("aot", CONFIG, SLICE, "--config.batch_size=4000000")
    assert done.returncode == 2 and "it does not fit: " in done.stderr and "15.75 GiB available" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
