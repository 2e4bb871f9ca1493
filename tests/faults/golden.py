"""What each released version wrote and scored, kept for as long as it must be read: python -m tests.faults.golden

That command trains a small CNNIQA for six steps on noise and writes goldens/VERSION beside this file: the run's last
checkpoint, its losses, and its scores. Commit it with a release. (R13, F30)
"""

import csv
import hashlib
import json
import os
import pathlib
import platform
import shutil
import sys
import tempfile

from jaxiqa.runs.log import read_metrics

HERE = pathlib.Path(__file__).resolve().parent
STEPS = 6


def this_platform() -> str:
    """Where losses are the same bit for bit: the processor and what it can do, its cores, the version that compiles."""
    import jax

    cpu = pathlib.Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    can = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    can = hashlib.sha256(can.encode()).hexdigest()[:8]
    return f"{name} ({can}), {os.cpu_count()} cores, jax {jax.__version__}"


def train(workdir, pictures) -> list[float]:
    """Losses of the golden run, which has one device."""
    from hosts import training

    with training(workdir, pictures, 1, 1, STEPS, **{"model.variant": "test"}) as run:
        assert run.wait() == [0], run.output(0)
    return [line["loss"] for line in read_metrics(workdir) if "loss" in line]


def scores(checkpoint, pictures) -> dict[str, float]:
    """The score of every image, by name, as jaxiqa.score gives it."""
    from tiny_run import run_program

    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "scores.csv"
        done = run_program("score", f"--checkpoint={checkpoint}", pictures, f"--output={output}")
        assert done.returncode == 0, done.stderr
        with open(output, newline="") as file:
            return {pathlib.Path(row["path"]).name: float(row["score"]) for row in csv.DictReader(file)}


def main() -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    sys.path[:0] = [str(HERE.parent / "helpers")]
    from tiny_run import write_pictures

    import jaxiqa

    folder = HERE / "goldens" / jaxiqa.__version__
    with tempfile.TemporaryDirectory() as scratch:
        pictures, workdir = pathlib.Path(scratch) / "pictures", pathlib.Path(scratch) / "workdir"
        pictures.mkdir()
        write_pictures(pictures)
        losses = train(workdir, pictures)
        about = {
            "platform": this_platform(),
            "losses": [loss.hex() for loss in losses],
            "scores": scores(workdir, pictures),
        }
        shutil.copytree(workdir / "checkpoints", folder / "checkpoints")
        (folder / "golden.json").write_text(json.dumps(about, indent=2) + "\n")
    print(f"{folder} is written; commit it")


if __name__ == "__main__":
    main()
