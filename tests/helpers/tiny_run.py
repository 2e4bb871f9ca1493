"""A tiny rated folder and a config that trains on it in seconds."""

import csv
import pathlib
import subprocess

import numpy as np
import programs
from PIL import Image
from programs import ROOT

CONFIG = ROOT / "configs" / "glintiqa_folder.py"
PRETRAINING = ROOT / "configs" / "dan_folder.py"
DEVICES = {"JAX_NUM_CPU_DEVICES": "4"}


def write_pictures(folder: pathlib.Path) -> pathlib.Path:
    """15 noise pictures of 5 contents; the score says how strong the noise is."""
    rng = np.random.default_rng(0)
    with open(folder / "index.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "mos", "content"])
        for i in range(15):
            sigma = 10 + 20 * (i % 3)
            image = np.clip(rng.normal(128, sigma, (70, 80, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / f"{i}.png")
            rows.writerow([f"{i}.png", 4.5 - i % 3, f"content{i // 3}"])
    return folder


def write_pristine(folder: pathlib.Path) -> pathlib.Path:
    """Twelve smooth pictures."""
    rng = np.random.default_rng(0)
    for i in range(12):
        small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
        small.resize((128, 96), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def options(pictures, **changes):
    """The changes that make configs/glintiqa_folder.py train on the fixture."""
    return {
        "dataset.data_dir": str(pictures),
        "dataset.group_column": "content",
        "batch_size": 8,
        "total": "6 steps",
        "log_every": "1 steps",
        "eval_every": "3 steps",
        "save_every": "2 steps",
        "eval_batch_size": 16,
        **changes,
    }


def make_config(pictures, **changes):
    return _config(CONFIG, options(pictures, **changes))


def make_pretraining_config(pictures, **changes):
    """configs/dan_folder.py:smoke on these pictures."""
    return _config(PRETRAINING, {"pictures": str(pictures), **changes}, "smoke")


def _config(path: pathlib.Path, changes: dict, *argument):
    namespace: dict = {}
    exec(compile(path.read_text(), path, "exec"), namespace)
    config = namespace["get_config"](*argument)
    config.update_from_flattened_dict(changes)
    return config.lock()


def start_training(workdir, pictures, **changes) -> programs.Child:
    """train() as a command line, in a process with as many devices as this one; standard error is in its output."""
    overrides = [f"--config.{key}={value}" for key, value in options(pictures, **changes).items()]
    arguments = ("--config", CONFIG, "--workdir", workdir, *overrides)
    return programs.start("train", *arguments, env=DEVICES, stderr=subprocess.STDOUT)


def run_program(name: str, *arguments, **how) -> subprocess.CompletedProcess:
    """python -m jaxiqa.NAME with these arguments, in a process with as many devices as this one; see programs.run."""
    return programs.run(name, *arguments, env=DEVICES, **how)


def run_with_small_files(name: str, limit: int, *arguments) -> subprocess.CompletedProcess:
    """run_program if no file may have more than `limit` bytes: a full disk, for users who can make none."""
    return run_program(name, *arguments, file_limit=limit)


def run_many(name: str, command_lines) -> list[tuple[int, str, str]]:
    """(exit code, standard output, standard error) of a program for each list of arguments; made for refusals."""
    done = (programs.run(name, *arguments, teardown=False) for arguments in command_lines)
    return [(one.returncode, one.stdout, one.stderr) for one in done]
