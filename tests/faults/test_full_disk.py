"""A disk that is full: said at once, nothing half written stays, the steps before stay whole (R4; F11, F29)."""

import logging
import pathlib
import re
import shutil
import subprocess
import time

import pytest
from hosts import training
from refused import refused
from small_state import META, make_state, same, shapes_of, small_run
from tiny_run import CNNIQA, options, run_with_small_files

from jaxiqa.errors import DiskFull
from jaxiqa.runs import checkpoint
from jaxiqa.runs.checkpoint import Checkpoints, Saved
from jaxiqa.runs.digests import Digests
from jaxiqa.runs.library_errors import Listener

SIZE = 40_000  # a state of about 3.2 MB


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 12 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", folder], capture_output=True).returncode:
        pytest.skip("this user may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def ended(checkpoints) -> None:
    """Poll as the loop does, until the save in flight has ended."""
    deadline = time.monotonic() + 20
    while checkpoints._saving is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
        checkpoints.poll()


def left(workdir) -> list[str]:
    return sorted(p.name for p in (workdir / "checkpoints").iterdir())


def test_a_full_disk(small_disk, capsys):
    ballast = small_disk / "ballast"
    with Checkpoints(small_disk, META) as checkpoints:
        checkpoints.save(1, make_state(1, SIZE))
        checkpoints.wait()
        ballast.write_bytes(b"x" * 7_000_000)
        for step in (2, 3):
            checkpoints.save(step, make_state(step, SIZE))
            ended(checkpoints)  # found here, and not by the next save
            line = capsys.readouterr().out
            assert line.startswith(f"warning: step {step} ") and "No space left on device" in line and "step 1 " in line
            assert left(small_disk) == ["1"] and Saved(small_disk).step == 1
        ballast.unlink()  # somebody made room
        checkpoints.save(4, make_state(4, SIZE))
        checkpoints.wait()
        assert left(small_disk) == ["1", "4"]
        ballast.write_bytes(b"x" * 4_000_000)
        with refused(DiskFull, "disk_full", "", "step 7 ", "No space left on device", "step 4 ", str(small_disk)):
            for step in (5, 6, 7, 8):
                checkpoints.save(step, make_state(step, SIZE))
                ended(checkpoints)
        assert capsys.readouterr().out.count("warning") == 2
    with Checkpoints(small_disk, META) as checkpoints:
        step, state = checkpoints.resume(shapes_of(make_state(0, SIZE)))
    assert step == 4 and same(state, make_state(4, SIZE)) and left(small_disk) == ["1", "4"]


def test_the_last_save_must_succeed(small_disk):
    (small_disk / "ballast").write_bytes(b"x" * 11_000_000)
    with Checkpoints(small_disk, META) as checkpoints:
        checkpoints.save(1, make_state(1, SIZE))
        with refused(DiskFull, "disk_full", "", "step 1 ", str(small_disk)) as refusal:
            checkpoints.wait()
    assert len(re.findall(r"step \d", str(refusal.value))) == 1  # none is there
    assert DiskFull.exit_code == 75 and not left(small_disk)


def test_what_is_heard_of_a_save_that_fails(caplog):
    """Orbax's errors, and not its warnings, from which it recovers; nothing of it is logged."""
    listener, log = Listener(), logging.getLogger("absl")
    try:
        for level, path in (
            (logging.WARNING, "orbax/a.py"),
            (logging.ERROR, "grain/b.py"),
            (logging.ERROR, "orbax/c.py"),
        ):
            assert listener.heard is None
            error = OSError(path)
            log.handle(log.makeRecord("absl", level, path, 1, path, (), (OSError, error, None)))
        assert listener.heard is error
    finally:
        listener.close()
    assert [record.pathname for record in caplog.records] == ["grain/b.py"]


@pytest.mark.slow
def test_a_full_disk_of_two_processes(small_disk, pictures):
    """None of them waits for the part of a step that another could not write: one says so, JAX may end the other."""
    with training(small_disk, pictures, 2, 1, 10_000, save_every="20 steps") as hosts:
        codes, outputs = hosts.wait(120), [hosts.output(i) for i in range(2)]
    assert 75 in codes and not {0, 2, 3, 4, 5, 6} & set(codes), (codes, outputs)
    assert any("No space left on device" in output and "step 20 " in output for output in outputs), outputs
    assert Saved(small_disk).step == 20


@pytest.mark.slow
def test_a_limit_on_files_in_a_whole_run(tmp_path):
    """Where no disk can be made: files of more than 1 MB cannot be written."""
    run = small_run(tmp_path, "--total=20", f"--size={SIZE}", f"--file_limit={1 << 20}")
    output = run.communicate(timeout=60)[0]
    assert run.returncode == 75 and output.count("(File too large)") == 3, output
    assert "Traceback" not in output and not left(tmp_path) and not (tmp_path / "lock").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "name"), [(60, ""), (1000, "/config.json"), (16_000, "/loss_curve.png")])
def test_records_and_reports_of_a_run(trained_cnniqa, pictures, tmp_path, limit, name):
    """A run that has ended writes its lock, its config and its reports once more."""
    workdir = shutil.copytree(trained_cnniqa, tmp_path / "w")
    arguments = [f"--config.{key}={value}" for key, value in options(pictures, CNNIQA).items()]
    done = run_with_small_files("train", limit, f"--config={CNNIQA}", f"--workdir={workdir}", *arguments)
    assert done.returncode == 75 and "Traceback" not in done.stderr, done.stderr
    *_, line = done.stderr.splitlines()
    assert f"{workdir}{name} " in line and "File too large" in line
    assert Saved(workdir).step in (3, 6)


def test_a_save_that_takes_longer_than_its_interval(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "_PATIENCE", 0.1)
    write, running = Digests._write, []

    def slowly(self, folder):
        running.append(len(running))
        time.sleep(0.4)
        write(self, folder)

    monkeypatch.setattr(Digests, "_write", slowly)
    with Checkpoints(tmp_path, META) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, make_state(step))
        line = capsys.readouterr().out
        took, due = map(float, re.findall(r"([\d.]+) s\b", line))
        assert line.startswith("warning") and "step 1 " in line and "config.save_every" in line
        assert took >= max(0.4, due)
        assert pathlib.Path(tmp_path / "checkpoints" / "1").exists()
    assert left(tmp_path) == ["1", "2"]
