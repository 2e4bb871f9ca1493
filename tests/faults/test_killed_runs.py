"""Runs that are killed or asked to stop: the same command goes on with the same numbers (R1, R2; F01-F03, F05, F07)."""

import signal
import time

import numpy as np
import pytest
from small_state import META, make_state, same, shapes_of, small_run

from jaxiqa.runs.checkpoint import Checkpoints
from jaxiqa.runs.log import read_metrics

pytestmark = pytest.mark.slow


def finish(workdir, *options) -> str:
    """Run until it is done, and what it printed."""
    run = small_run(workdir, *options)
    output = run.communicate(timeout=120)[0]
    assert run.returncode == 0, output
    return output


def losses(workdir) -> dict[int, str]:
    """Losses by step as hexadecimal floats; every step once."""
    lines = read_metrics(workdir)
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})
    return {line["step"]: line["loss"].hex() for line in lines}


def last_state(workdir):
    with Checkpoints(workdir, META) as checkpoints:
        return checkpoints.resume(shapes_of(make_state(0)))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken")
    finish(workdir)
    return losses(workdir), last_state(workdir)


@pytest.mark.parametrize("where", ["before_commit:1", "before_commit:2", "after_commit:2", "in_gc:1"])
def test_killed_inside_a_save(unbroken, tmp_path, where):
    first = small_run(tmp_path, f"--kill={where}")
    first.communicate(timeout=120)
    assert first.returncode == -signal.SIGKILL
    assert ("orbax-checkpoint-tmp" in str(list((tmp_path / "checkpoints").iterdir()))) == where.startswith("before")
    output = finish(tmp_path)
    expected = {"before_commit:1": 0, "before_commit:2": 2, "after_commit:2": 4, "in_gc:1": 6}[where]
    assert f"from step {expected}\n" in output
    assert losses(tmp_path) == unbroken[0]
    step, state = last_state(tmp_path)
    assert step == unbroken[1][0] == 12 and same(state, unbroken[1][1])
    assert not [p for p in (tmp_path / "checkpoints").iterdir() if "tmp" in p.name]
    assert not (tmp_path / "lock").exists()


@pytest.mark.parametrize("signals", [[signal.SIGTERM, signal.SIGHUP, signal.SIGHUP], [signal.SIGINT, signal.SIGINT]])
def test_asked_to_stop(unbroken, tmp_path, signals):
    """It finishes its step, saves, and leaves; a second signal, or a hang-up, does not spoil the save."""
    run = small_run(tmp_path, "--pause=0.3", f"--total={10**6}")
    deadline = time.monotonic() + 60
    while not read_metrics(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    began = time.time()
    for number in signals:
        run.send_signal(number)
        time.sleep(0.05)
    output = run.communicate(timeout=60)[0]
    assert run.returncode == 128 + signals[0], output
    stopped_at = int(output.splitlines()[-1].rpartition(" ")[2])
    saved = (tmp_path / "checkpoints" / str(stopped_at)).stat().st_mtime
    assert saved - began < 0.3 + 2  # a step and a save; how long Python takes to end is not ours
    assert last_state(tmp_path)[0] == stopped_at >= max(losses(tmp_path))
    finish(tmp_path)
    assert losses(tmp_path) == unbroken[0]


def test_an_error_in_the_middle_keeps_the_save_in_flight(tmp_path):
    with pytest.raises(RuntimeError, match="step 7"), Checkpoints(tmp_path, META) as checkpoints:
        checkpoints.save(6, make_state(6, 20_000))
        raise RuntimeError("step 7")
    with Checkpoints(tmp_path, META) as checkpoints:
        step, state = checkpoints.resume(shapes_of(make_state(0, 20_000)))
    assert step == 6 and same(state, make_state(6, 20_000)) and np.asarray(state.step) == 6
