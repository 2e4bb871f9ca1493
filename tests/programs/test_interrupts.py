"""Ctrl-C and SIGTERM during a run: one line, the documented exit code, and usable files."""

import csv
import json
import os
import pathlib
import signal
import tempfile
import time

import numpy as np
import programs
import pytest
from PIL import Image
from tiny_run import run_program

from jaxiqa import program
from jaxiqa.inputs.decode import read_image

pytestmark = pytest.mark.slow


def test_an_import_is_not_cut_off():
    """Nor an event loop. The signal is sent again, and raised after it."""
    before = signal.signal(signal.SIGINT, program._Interrupt())
    done = []
    code = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.1)\ndone.append(1)"
    try:
        for file in ("<frozen importlib._bootstrap>", program._UNCUT[1] + "runners.py"):
            with pytest.raises(KeyboardInterrupt):
                exec(compile(code, file, "exec"), {"done": done})
                time.sleep(5)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == [1, 1]


def stopped(name: str, *arguments, when, number: int = signal.SIGINT, group: bool = True) -> tuple[int, list[str]]:
    """Exit code and lines on standard error of a program that receives a signal once when(its output) is true.

    The signal goes to the whole process group, like Ctrl-C in a terminal; with group=False to the program alone.
    """
    with tempfile.NamedTemporaryFile() as output:
        process = programs.start(name, *arguments, env={"PYTHONUNBUFFERED": "1"}, stdout=output)
        try:
            while not when(pathlib.Path(output.name).read_text()):
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.01)
            (os.killpg if group else os.kill)(process.pid, number)
            _, error = process.communicate(timeout=60)  # a process that survives would keep the pipe open
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
    return process.returncode, error.splitlines()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> pathlib.Path:
    """20 images."""
    folder, rng = tmp_path_factory.mktemp("pristine"), np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (96, 128, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("pictures", "number", "group"),
    [(0, signal.SIGINT, True), (1, signal.SIGINT, True), (30, signal.SIGTERM, False), (60, signal.SIGTERM, True)],
    ids=["starting, Ctrl-C", "first image, Ctrl-C", "SIGTERM", "SIGTERM to all"],
)
def test_distort(pristine, tmp_path, pictures, number, group):
    command = (pristine, f"--output={tmp_path}", "--types=10,11,18", "--processes=2")

    def under_way(_):
        claim = tmp_path / "distort.json"  # the processes start once it exists, and need seconds for their imports
        started = claim.exists() and time.time() - claim.stat().st_mtime > 0.5
        return started and len(list(tmp_path.glob("*.png"))) >= pictures

    code, lines = stopped("distort", *command, when=under_way, number=number, group=group)
    what = "interrupted" if number == signal.SIGINT else "terminated"
    assert (code, len(lines)) == (128 + number, 1) and lines[0].startswith(f"jaxiqa distort: {what}; ")
    there = sorted(tmp_path.iterdir())
    assert {path.suffix for path in there} <= {".json", ".png"}  # no partial file
    assert pictures <= len(there) - 1 < 300
    done = run_program("distort", *command)
    assert done.returncode == 0, done.stderr
    assert f"{300 - (len(there) - 1)} images written" in done.stdout and f"{len(there) - 1} existed" in done.stdout
    assert {read_image(path).shape for path in tmp_path.glob("*.png")} == {(96, 128, 3)}
    assert len(list(tmp_path.iterdir())) == 301


@pytest.fixture(scope="module")
def endless(tmp_path_factory) -> pathlib.Path:
    """Rated images, the last of which takes long to score."""
    folder, rng = tmp_path_factory.mktemp("endless"), np.random.default_rng(0)
    for i in range(9):
        Image.fromarray(rng.integers(0, 256, (70, 80, 3), np.uint8)).save(folder / f"{i}.png")
    Image.new("RGB", (8000, 8000), "teal").save(folder / "9.png", compress_level=1)
    rows = [f"{i}.png,{1 + i % 4},content{i // 2}" for i in range(10)]
    (folder / "index.csv").write_text("\n".join(["path,mos,content", *rows, ""]))
    return folder


@pytest.mark.parametrize(("kind", "number"), [("csv", signal.SIGINT), ("json", signal.SIGTERM)])
def test_score(trained, endless, tmp_path, kind, number):
    part = tmp_path / f"scores.{kind}.part"
    command = ("--checkpoint", trained[0], endless, f"--output={tmp_path / f'scores.{kind}'}")
    code, lines = stopped("score", *command, when=lambda text: text.count(",ok,") == 9, number=number)
    what = "interrupted" if number == signal.SIGINT else "terminated"
    assert code == 128 + number and len(lines) == 4, lines
    assert lines[3].startswith(f"jaxiqa score: {what}; ") and str(part) in lines[3]
    assert "1 .csv" in lines[0] and lines[1].startswith("cnniqa patch32, step") and os.listdir(tmp_path) == [part.name]
    with open(part, newline="") as file:
        rows = list(csv.DictReader(file)) if kind == "csv" else json.load(file)["pictures"]
    assert len(rows) in (8, 9)  # a row is shown before it is written
    assert [row["path"] for row in rows] == [str(endless / f"{i}.png") for i in range(len(rows))]
    assert all(row["status"] == "ok" and float(row["se"]) > 0 for row in rows)


def test_evaluate(trained, endless, tmp_path):
    options = ("--dataset=folder", f"--data_dir={endless}", "--option=group_column=content", f"--output={tmp_path}")
    code, lines = stopped("evaluate", f"--checkpoint={trained[0]}", *options, when=lambda text: "step" in text)
    assert (code, lines) == (130, ["jaxiqa evaluate: interrupted"])
    assert not os.listdir(tmp_path)
