"""jaxiqa benchmark: its subjects are the files with run()."""

import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from refused import refused
from tiny_run import ROOT, check_refusals

from jaxiqa.benchmark import SUBJECTS
from jaxiqa.benchmarks import attention, input, startup
from jaxiqa.benchmarks.forward import random_variables
from jaxiqa.benchmarks.twin import Twin
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.models import create_model
from jaxiqa.runs import compile_cache

REFUSED = [
    ([], 2, "attention, compile, crops, distortions, export, forward, input, lka, score, startup, train"),
    (["distortion"], 2, '"distortions"'),
    (["reference_distortions"], 2, '"distortions"'),  # a file of the room without run()
    (["distortions", "lka"], 2, "SUBJECT"),
    (["lka", "--images=folder"], 2, "--images", "lka"),
    (["crops"], 2, "--data_dir"),
    (["train", "--model=vit"], 2, "--model", "glintiqa, mfen"),
    (["compile", "--model=resnet50"], 2, "--model"),
    (["startup", "--output=rows.json"], 2, "--output", "startup"),
    (["attention", "--tiny", "--compare=none.json"], 3, "none.json"),
]


def test_refusals():
    check_refusals("benchmark", REFUSED)


def test_an_attention_that_is_another_is_not_timed(monkeypatch, capsys):
    """Forms are compared with the definition first; one that does not work here is named."""
    monkeypatch.setitem(attention.FORMS, "other", lambda q, k, v: v + q)
    monkeypatch.setitem(attention.FORMS, "no gradient", lambda q, k, v: attention.plain(jax.lax.stop_gradient(q), k, v))
    monkeypatch.setattr(compile_cache, "enable", lambda: None)
    assert attention.run(tiny=True) == 0
    rows = capsys.readouterr().out.splitlines()
    assert sum("other" in row and "is not the same" in row for row in rows) == 2
    assert ["is not the same" in row for row in rows if "no gradient" in row] == [False, True]
    assert sum("cudnn" in row and "does not work here" in row for row in rows) == 2
    assert sum("present" in row and "of_best" in row for row in rows) == 2


@pytest.mark.slow
def test_the_input_from_the_cache(tmp_path, capsys):
    assert input.run(tiny=True, output=str(tmp_path / "rows.json")) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["case"] for row in rows] == [
        f"240 pixels, {case}"
        for case in ("decoder alone", "training, decoded", "training, from the cache", "cache over decoding")
    ]
    assert all(row["images_per_s"] > 1 for row in rows[:3])


@pytest.mark.release
def test_gpu_benchmark_on_a_cpu(tmp_path):
    """The script runs as it is, with small models, and its file has the rows of all subjects."""
    environment = {**os.environ, "TINY": "1", "PYTHON": sys.executable, "JAXIQA_CACHE": str(tmp_path / "cache")}
    script = [str(ROOT / "launch" / "gpu_benchmark.sh"), str(tmp_path / "rows.json")]
    done = subprocess.run(["bash", *script], env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "rows.json").read_text())
    subjects = {"forward glintiqa", "train glintiqa", "attention", "lka", "distortions", "input"}
    assert {row["subject"] for row in found["rows"]} == subjects
    assert all(row["least_s"] > 0 for row in found["rows"] if "least_s" in row)
    agreement = next(row for row in found["rows"] if row["case"] == "difference from the CPU, fp32")
    assert agreement["relative"] <= 1e-4


def test_a_twin_without_pytorch_is_refused(tmp_path):
    """The interpreter that cannot import it is named, and so is the remedy."""
    (tmp_path / "torch.py").write_text("raise ImportError")
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"\n')
    fake.chmod(0o755)
    model = create_model("resnet50", "test")
    arguments = "resnet50", "test", model, random_variables(model), np.zeros((1, 64, 64, 3))
    with refused(ConfigError, "package", "--twin", str(fake), "pip install torch"):
        Twin(str(fake), *arguments)
    with refused(ConfigError, "not_found", "--torch_python"):
        Twin(str(tmp_path / "none"), *arguments)
    with refused(ConfigError, "unknown", "--twin", "van_b0"):
        Twin(str(fake), "van_b0", *arguments[1:])


_ENDS = """import json, os, signal, sys
print(json.dumps({"torch": "0", "device": "cpu"}), flush=True)
sys.stdin.readline()
print(json.dumps({"error": "OutOfMemoryError"}), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_twin_that_is_killed_is_reported(tmp_path):
    """Also if it is asked again after its end, and if only one step fails."""
    (tmp_path / "ends.py").write_text(_ENDS)
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/ends.py"\n')
    fake.chmod(0o755)
    model = create_model("resnet50", "test")
    with Twin(str(fake), "resnet50", "test", model, random_variables(model), np.zeros((1, 64, 64, 3))) as twin:
        with refused(DataError, "run_failed", "--twin", "OutOfMemoryError"):
            twin.step("eager")
        for _ in range(2):
            with refused(DataError, "run_failed", "--twin", f"signal {signal.SIGKILL}"):
                twin.step("eager")


def test_subjects_are_the_files_that_can_be_run():
    files = (ROOT / "jaxiqa" / "benchmarks").glob("*.py")
    assert sorted(SUBJECTS) == sorted(file.stem for file in files if "\ndef run(" in file.read_text())


def test_start_times_are_of_real_commands(monkeypatch, capsys):
    lines = startup.commands()
    chosen = {name: lines[name] for name in ("python -c pass", "import jaxiqa", "jaxiqa --help")}
    monkeypatch.setattr(startup, "commands", lambda: chosen)
    monkeypatch.setattr(startup, "REPEATS", 1)
    assert startup.run() in (0, 1)  # the machine may be busy
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row[:28].strip() for row in rows] == list(chosen)
    for row in rows:
        assert 0.005 < float(row[28:35]) < 60 and float(row[35:43]) > 0
