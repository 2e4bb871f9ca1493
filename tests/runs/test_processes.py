"""Whether a run has many processes, and what it refuses. tests/faults/test_hosts.py starts many processes."""

import os

import jax
import pytest
from refused import refused

from jaxiqa.errors import ConfigError
from jaxiqa.runs import processes

GOOD = {"coordinator": "host:1234", "num_processes": 2, "process_id": 1}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in GOOD:
        monkeypatch.delenv(f"JAXIQA_{name.upper()}", raising=False)


@pytest.fixture
def initialized(monkeypatch):
    """The arguments of each call of jax.distributed.initialize."""
    asked = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: asked.append(given))
    return asked


def test_as_given(initialized, capsys):
    with processes.start("w", **GOOD, peer_timeout=7.0):
        pass
    (asked,) = initialized
    assert (asked["coordinator_address"], asked["num_processes"], asked["process_id"]) == ("host:1234", 2, 1)
    assert asked["initialization_timeout"] == 7 and asked["cluster_detection_method"] == "deactivate"
    assert "waiting up to 7 s for 2 processes at host:1234" in capsys.readouterr().err


def test_as_the_environment_says(initialized, monkeypatch):
    for name, value in GOOD.items():
        monkeypatch.setenv(f"JAXIQA_{name.upper()}", str(value))
    with processes.start("w", process_id=0):  # a flag wins
        pass
    assert initialized[0]["process_id"] == 0 and initialized[0]["num_processes"] == 2


def test_one_process_and_a_slurm_allocation_wait_for_nobody(initialized, monkeypatch, capsys):
    for name, value in {"JOB_ID": 7, "STEP_NODELIST": "a,b", "NTASKS": 2, "PROCID": 1, "LOCALID": 0}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    for given in ({}, GOOD | {"num_processes": 1, "process_id": 0}):
        with processes.start("w", **given):
            pass
    assert initialized == [] and "process 0 of 1" in capsys.readouterr().out


def test_multihost_is_jax_s_to_find(initialized):
    with processes.start("w", multihost=True):
        pass
    assert "coordinator_address" not in initialized[0] and "cluster_detection_method" not in initialized[0]


def test_multihost_without_a_cluster(monkeypatch):
    def initialize(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with (
        refused(ConfigError, "missing", "--coordinator", "--multihost") as refusal,
        processes.start("w", multihost=True),
    ):
        pass
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"coordinator": None}, "missing"),
        ({"num_processes": None}, "missing"),
        ({"process_id": None}, "missing"),
        ({"coordinator": "host"}, "value"),
        ({"coordinator": ":1234"}, "value"),
        ({"coordinator": "host:0"}, "value"),
        ({"coordinator": "host:x"}, "value"),
        ({"num_processes": 0}, "value"),
        ({"process_id": 2}, "value"),
        ({"process_id": -1}, "value"),
    ],
    ids=str,
)
def test_half_of_it_or_what_cannot_be(initialized, wrong, code):
    ((name, value),) = wrong.items()
    key = f"--{name}" if code == "missing" else "--coordinator"
    with refused(ConfigError, code, key, f"--{name}", str(value or "")), processes.start("w", **{**GOOD, **wrong}):
        pass
    assert initialized == []


def test_one_process_alone():
    processes.meet()
    values = {"nan": float("nan"), "list": [0.1, "text", None]}
    assert processes.gather(values) == [values] and processes.from_first(values) is values
    processes.check_same(config="a")
    assert processes.is_first()


def test_a_part_of_the_tasks_of_slurm_waits_for_nobody(initialized, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")  # as in `srun --pty bash`
    with refused(ConfigError, "mismatch", "--multihost", "1 of the 4", "srun"), processes.start("w", multihost=True):
        pass
    assert initialized == []
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with processes.start("w", multihost=True):
        pass
    assert len(initialized) == 1


def test_processes_do_not_meet_through_a_proxy(monkeypatch):
    names, seen = ("http_proxy", "HTTPS_PROXY", "grpc_proxy"), []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: seen.append([os.environ.get(n) for n in names]))
    for name in names:
        monkeypatch.setenv(name, "http://proxy:3128")
    with processes.start("w", **GOOD):
        assert [os.environ[name] for name in names] == ["http://proxy:3128"] * 3
    assert seen == [[None] * 3]
