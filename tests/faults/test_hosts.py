"""Runs in two processes: a missing one, a killed one, one that is asked to stop; runs that change their devices.

(R2, R6, R12; F04, F17, F18, F21, F22.) The functions that count return (required, seen).
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import time

import jax
import numpy as np
import pytest
from etils import epath
from hosts import Hosts, has_stack, last_line, training
from tiny_run import CNNIQA, CONFIG, make_config

from jaxiqa.errors import Stopped
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.runs.log import read_metrics
from jaxiqa.runs.run import Run
from jaxiqa.runs.workdir_lease import WorkdirLease
from jaxiqa.training import sharding

pytestmark = pytest.mark.slow


def losses(workdir) -> dict[int, str]:
    """Losses by step as hexadecimal floats; every step once."""
    lines = [line for line in read_metrics(workdir) if "loss" in line]
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})
    return {line["step"]: float(line["loss"]).hex() for line in lines}


def last_state(workdir, step: int) -> list[np.ndarray]:
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return [np.asarray(x) for x in jax.tree.leaves(Saved(workdir, step).load(("params", "opt_state"), here))]


VERDICTS = (0, 2, 3, 4, 5, 6)  # which no launcher restarts
SILENCE = 60  # seconds after which JAX counts a process as dead


def missing_process(workdir, timeout: int = 2) -> tuple[list, list]:
    """Of two processes one does not come, first the one, then the other: restartable, what it waits for, in time."""
    required, seen = [], []
    for there in (0, 1):
        required.append((True, True, True))
        began = time.monotonic()
        arguments = ["--config", CONFIG, "--workdir", workdir]
        with Hosts("train", arguments, 2, 2, only=[there], peer_timeout=timeout) as hosts:
            hosts.until(lambda hosts=hosts, there=there: "waiting" in hosts.output(there))
            imported = time.monotonic() - began
            (code,) = hosts.wait()
            output, took = hosts.output(there), time.monotonic() - began - imported
        said = f" {timeout} s " in output and "2 processes at localhost:" in output
        seen.append((code not in VERDICTS, said, took < timeout + 15))
    return required, seen


def killed_process(folder, pictures) -> tuple[list, list]:
    """Of two processes one is killed in mid-run, first the one, then the other: the other ends, restartable, in time.

    While the first of these runs waits for a process that is silent, the second one is under way.
    """
    runs, seen = [], []
    with contextlib.ExitStack() as stack:
        for victim in (0, 1):
            workdir = folder / f"without_{victim}"
            hosts = stack.enter_context(training(workdir, pictures, 2, 2, 10_000))
            hosts.until(lambda workdir=workdir: len(losses(workdir)) > 2)
            hosts.processes[victim].kill()
            runs.append((hosts, time.monotonic()))
        for victim, (hosts, began) in enumerate(runs):
            code = hosts.wait()[1 - victim]
            seen.append((code not in VERDICTS, time.monotonic() - began < 2 * SILENCE))
    return [(True, True)] * 2, seen


def stopped_pair(workdir, pictures, told: int, total: int, **more) -> tuple[tuple, tuple]:
    """SIGTERM to process `told` of two and to those it started, as systemd does.

    Exit codes, whether both name one step, which is saved, and in time.
    """
    with training(workdir, pictures, 2, 2, total, **more) as hosts:
        hosts.until(lambda: len(losses(workdir)) > 2)
        pid = hosts.processes[told].pid
        for one in (*pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split(), pid):
            os.kill(int(one), signal.SIGTERM)
        began = time.monotonic()
        codes = hosts.wait()
        took, outputs = time.monotonic() - began, [hosts.output(i) for i in range(2)]
    steps = {tuple(re.findall(r"step (\d+)", last_line(output))) for output in outputs}
    saved = (str(Saved(workdir).step),)
    return ([143, 143], {saved}, False, True), (codes, steps, any(map(has_stack, outputs)), took < 30)


def finish(workdir, pictures, count: int, devices: int, total: int, **more) -> None:
    with training(workdir, pictures, count, devices, total, **more) as hosts:
        assert hosts.wait() == [0] * count, [hosts.output(i) for i in range(count)]


def stopped_and_resumed(folder, pictures, total: int, **more) -> tuple[tuple, tuple]:
    """Two are stopped; gone on with by two processes of two devices it is the unbroken run, by one of four nearly.

    What stopped_pair gives, steps, whether losses and last state are equal bit for bit, and whether losses are to 1e-5.
    """
    finish(folder / "unbroken", pictures, 2, 2, total, **more)
    required, seen = stopped_pair(folder / "two", pictures, 1, total, **more)
    shutil.copytree(folder / "two", folder / "one")
    finish(folder / "two", pictures, 2, 2, total, **more)
    finish(folder / "one", pictures, 1, 4, total, **more)
    unbroken = losses(folder / "unbroken")
    states = [last_state(folder / name, total) for name in ("two", "unbroken")]
    same = all(np.array_equal(ours, theirs) for ours, theirs in zip(*states, strict=True))
    one = [float.fromhex(x) for x in losses(folder / "one").values()]
    near = np.allclose(one, [float.fromhex(x) for x in unbroken.values()], rtol=1e-5, atol=0)
    return (required, total, True, True, True), (
        seen,
        len(unbroken),
        losses(folder / "two") == unbroken,
        same,
        bool(near),
    )


def resumed_on_other_devices(folder, pictures, patch, devices=(1, 2, 4, 1)) -> tuple[tuple, tuple]:
    """A run that is stopped and gone on with on other devices each time; `patch` is pytest's monkeypatch.

    Steps, whether the images of each batch are those of the unbroken run on one, and whether its losses are to 1e-5.
    """
    from jaxiqa.train import train

    total = 2 * len(devices)
    config = make_config(pictures, CNNIQA, **{"total": f"{total} steps", "model.dropout": 0.5})
    seen, all_devices = {}, jax.devices()

    def noted(batches, where):
        for number, batch in enumerate(to_device(batches, where)):
            seen.setdefault(workdir, {})[start + number] = batch["index"].tolist()
            yield batch

    to_device = sharding.to_device
    patch.setattr(sharding, "to_device", noted)
    for workdir, plan in (("unbroken", (devices[0],)), ("moved", devices)):
        for leg, count in enumerate(plan):
            start, stop = total * leg // len(plan), total * (leg + 1) // len(plan)
            patch.setattr(jax, "device_count", lambda n=count: n)
            patch.setattr(jax, "devices", lambda n=count: all_devices[:n])
            patch.setattr(Run, "stop_at", lambda _, step, at=stop: 15 if step == at < total else None)
            with pytest.raises(Stopped) if stop < total else contextlib.nullcontext():
                train(config, epath.Path(folder / workdir))
    unbroken, moved = ([float.fromhex(x) for x in losses(folder / w).values()] for w in ("unbroken", "moved"))
    order = all(seen["moved"][k] == seen["unbroken"][k] for k in range(total))
    return (total, True, True), (len(moved), order, bool(np.allclose(moved, unbroken, rtol=1e-5, atol=0)))


def test_a_missing_process_ends_the_other(tmp_path):
    required, seen = missing_process(tmp_path)
    assert seen == required


def test_a_verdict_of_one_is_kept(pictures, tmp_path):
    """Process 0 finds the workdir in use and keeps its code, by which launchers know that a restart is in vain."""
    with WorkdirLease(tmp_path), training(tmp_path, pictures, 2, 1, 4) as hosts:
        codes = hosts.wait()
        assert codes[0] == 6 and codes[1] not in VERDICTS, [hosts.output(i) for i in range(2)]


def test_a_killed_process_ends_the_other(pictures, tmp_path):
    required, seen = killed_process(tmp_path, pictures)
    assert seen == required


def test_both_stop_at_one_step_and_go_on(pictures, tmp_path):
    required, seen = stopped_and_resumed(tmp_path, pictures, 150)
    assert seen == required


def test_a_run_moves_to_other_devices(pictures, tmp_path, monkeypatch):
    required, seen = resumed_on_other_devices(tmp_path, pictures, monkeypatch)
    assert seen == required
