"""launch/local.sh: processes that know who they are, where their output goes, and how they end."""

import os
import signal
import subprocess
import sys
import time

import pytest
from tiny_run import ROOT

SCRIPT = ["bash", str(ROOT / "launch" / "local.sh")]
WHO = """
import os, sys
names = ("JAXIQA_COORDINATOR", "JAXIQA_NUM_PROCESSES", "JAXIQA_PROCESS_ID", "JAX_NUM_CPU_DEVICES")
print(*(os.environ[name] for name in names))
sys.exit(3 * int(os.environ["JAXIQA_PROCESS_ID"]))
"""
WAIT = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def environment(tmp_path):
    return {**os.environ, "LOGS": str(tmp_path), "PORT": "9000", "JAX_NUM_CPU_DEVICES": "2"}


def test_processes_know_who_they_are(environment, tmp_path):
    done = subprocess.run([*SCRIPT, "3", sys.executable, "-c", WHO], env=environment, capture_output=True, text=True)
    others = [(tmp_path / f"process_{i}.log").read_text() for i in (1, 2)]
    assert [done.stdout, *others] == [f"127.0.0.1:9000 3 {i} 2\n" for i in range(3)]
    assert done.stderr == f"== 3 processes; what the others print is in {tmp_path}\n"
    assert done.returncode == 3  # the first that is not 0


def test_a_signal_reaches_all(environment, tmp_path):
    run = subprocess.Popen(
        [*SCRIPT, "2", sys.executable, "-c", WAIT], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 20
    while not (tmp_path / "process_1.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=20)
    assert run.returncode == 143


@pytest.mark.parametrize("arguments", [[], ["0", "true"], ["two", "true"], ["2"]])
def test_usage(arguments):
    done = subprocess.run([*SCRIPT, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and "local.sh N python -m jaxiqa.train" in done.stderr
