"""A tiny rated folder and a config that trains on it in seconds."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CONFIG = ROOT / "configs" / "glintiqa_folder.py"


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
    namespace: dict = {}
    exec(compile(CONFIG.read_text(), CONFIG, "exec"), namespace)
    config = namespace["get_config"]()
    config.update_from_flattened_dict(options(pictures, **changes))
    return config.lock()


def start_training(workdir, pictures, **changes):
    """train() as a command line, in a process with as many devices as this one."""
    command = [sys.executable, "-m", "jaxiqa.train", "--config", str(CONFIG), "--workdir", str(workdir)]
    command += [f"--config.{key}={value}" for key, value in options(pictures, **changes).items()]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "4"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_program(name: str, *arguments, **options) -> subprocess.CompletedProcess:
    """python -m jaxiqa.NAME with these arguments, in a process with as many devices as this one."""
    return subprocess.run(
        [sys.executable, "-m", f"jaxiqa.{name}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "4"},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        **options,
    )


def run_with_small_files(name: str, limit: int, *arguments) -> subprocess.CompletedProcess:
    """run_program where no file may have more than `limit` bytes: a full disk, for users who can make none."""
    start = f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
    start += f"sys.argv = ['{name}.py', *sys.argv[1:]]; runpy.run_module('jaxiqa.{name}', run_name='__main__')"
    command = [sys.executable, "-c", start, *map(str, arguments)]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "4"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


# Imports the rooms once, then runs the program in a child for each command line; JAX starts no threads before it is
# used. No program is imported here: their flags share names.
_FORKS = """
import importlib, json, os, pkgutil, runpy, sys, tempfile
import jaxiqa
for module in pkgutil.walk_packages(jaxiqa.__path__, "jaxiqa."):
    if module.name.count(".") == 2:
        importlib.import_module(module.name)
results = []
for arguments in json.loads(sys.argv[2]):
    files = [tempfile.TemporaryFile() for _ in range(2)]
    child = os.fork()
    if not child:
        for number, file in enumerate(files, 1):
            os.dup2(file.fileno(), number)
        sys.argv = [sys.argv[1] + ".py", *arguments]
        try:
            runpy.run_module("jaxiqa." + sys.argv[0][:-3], run_name="__main__", alter_sys=True)
        finally:
            code = sys.exc_info()[1]
            sys.stdout.flush()
            os._exit(code.code or 0 if isinstance(code, SystemExit) else 99)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    results.append([code] + [(f.seek(0), f.read().decode(errors="replace"))[1] for f in files])
print(json.dumps(results))
"""


def run_many(name: str, command_lines) -> list[tuple[int, str, str]]:
    """(exit code, standard output, standard error) of a program for each list of arguments; made for refusals."""
    lines = json.dumps([[str(argument) for argument in arguments] for arguments in command_lines])
    command = [sys.executable, "-W", "ignore", "-c", _FORKS, name, lines]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [tuple(result) for result in json.loads(done.stdout)]
