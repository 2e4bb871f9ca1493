"""A tiny rated folder and a config that trains on it in seconds."""

import csv
import pathlib
import subprocess

import numpy as np
import programs
from PIL import Image
from programs import ROOT

CONFIG = ROOT / "configs" / "glintiqa_folder.py"
CNNIQA = ROOT / "configs" / "cnniqa_live.py"  # takes a seventh of the processor time of CONFIG
PRETRAINING = ROOT / "configs" / "dan_folder.py"
DEVICES = {"JAX_NUM_CPU_DEVICES": "4"}


def write_pictures(folder: pathlib.Path) -> pathlib.Path:
    """15 noise images of 5 contents; the score falls with the noise."""
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
    """Twelve smooth images."""
    rng = np.random.default_rng(0)
    for i in range(12):
        small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
        small.resize((128, 96), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def options(pictures, config=CONFIG, **changes):
    """The overrides with which a config trains on the fixture: CNNIQA, or a config of a folder."""
    dataset = {"dataset.name": "folder"} if config == CNNIQA else {"dataset.group_column": "content"}
    return {
        "dataset.data_dir": str(pictures),
        **dataset,
        "batch_size": 8,
        "total": "6 steps",
        "log_every": "1 steps",
        "eval_every": "3 steps",
        "save_every": "2 steps",
        "eval_batch_size": 16,
        **changes,
    }


def make_config(pictures, config=CONFIG, **changes):
    return _config(config, options(pictures, config, **changes))


def trained_config(pictures, **changes):
    """The config of the fixture `trained`: CNNIQA, grid crops, a split by content, and the loss of CONFIG."""
    of_config = {"dataset.group_column": "content", "test_crops": "grid", "loss": "huber+0.5*plcc"}
    return make_config(pictures, CNNIQA, **of_config | changes)


def make_pretraining_config(pictures, **changes):
    """configs/dan_folder.py:smoke on these images."""
    return _config(PRETRAINING, {"pictures": str(pictures), **changes}, "smoke")


def _config(path: pathlib.Path, changes: dict, *argument):
    namespace: dict = {}
    exec(compile(path.read_text(), path, "exec"), namespace)
    config = namespace["get_config"](*argument)
    config.update_from_flattened_dict(changes)
    return config.lock()


def start_training(workdir, pictures, config=CONFIG, **changes) -> programs.Child:
    """jaxiqa train in a process with as many devices as this one; standard error goes to its output."""
    overrides = [f"--config.{key}={value}" for key, value in options(pictures, config, **changes).items()]
    arguments = ("--config", config, "--workdir", workdir, *overrides)
    return programs.start("train", *arguments, env=DEVICES, stderr=subprocess.STDOUT)


def run_program(name: str, *arguments, **how) -> subprocess.CompletedProcess:
    """jaxiqa NAME with these arguments, in a process with as many devices as this one; see programs.run."""
    return programs.run(name, *arguments, env=DEVICES, **how)


def run_with_small_files(name: str, limit: int, *arguments) -> subprocess.CompletedProcess:
    """run_program with a limit on the size of files in bytes, which acts like a full disk."""
    return run_program(name, *arguments, file_limit=limit)


def run_many(name: str, command_lines) -> list[tuple[int, str, str]]:
    """(exit code, standard output, standard error) of a program for each list of arguments; made for refusals."""
    done = (programs.run(name, *arguments, teardown=False) for arguments in command_lines)
    return [(one.returncode, one.stdout, one.stderr) for one in done]


def filled(cases, **folders) -> list[tuple]:
    """The cases of check_refusals with the fixtures' folders in place of {name}."""
    fill = lambda texts: [text.format(**folders) for text in texts]  # noqa: E731
    return [(fill(arguments), code, *fill(names)) for arguments, code, *names in cases]


def check_refusals(name: str, cases) -> list[str]:
    """Every case ends a program with one line on standard error. Returns the texts on standard output.

    Args:
      name: the program, as in run_program.
      cases: (arguments, exit code, *names); the line must contain each of `names`: a file, a flag, a value.
    """
    results = run_many(name, [arguments for arguments, *_ in cases])
    for (arguments, code, *names), (got, out, error) in zip(cases, results, strict=True):
        program, _, message = error.partition(": ")
        assert (got, len(error.strip().splitlines())) == (code, 1), (arguments, got, out, error)
        assert program == f"jaxiqa {'configs' if name == 'config_files' else name}", (arguments, error)
        missing = [text for text in names if str(text) not in message]
        assert not missing, (arguments, missing, error)
    return [out for _, out, _ in results]
