"""Every program: --help, mistyped keys, exit codes."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAMS = sorted(p.stem for p in (ROOT / "jaxiqa").glob("*.py") if "program.run(" in p.read_text())
CONFIG = "--config=configs/glintiqa_sample.py"

# mistyped argument -> the key that is meant
TYPOS = {
    "lerning_rate=1": "optimizer.learning_rate",
    "optimizer.lerning_rate=1": "optimizer.learning_rate",
    "optimiser.learning_rate=1": "optimizer.learning_rate",
    "batchsize=8": "batch_size",
    "batch_sise=8": "batch_size",
    "bach_size=8": "batch_size",
    "sed=1": "seed",
    "modle.name=x": "model.name",
    "model.varient=test": "model.variant",
    "model.dropuot=0": "model.dropout",
    "dataset.nmae=x": "dataset.name",
    "dataset.datadir=x": "dataset.data_dir",
    "split.rounds=2": "split.round",
    "split.selecton=val": "split.selection",
    "frozenbn=eval": "frozen_bn",
    "los=l1": "loss",
    "totl=5": "total",
    "optimizer.weight_deacy=0": "optimizer.weight_decay",
    "shedule.name=constant": "schedule.name",
    "schedule.warm_up=0": "schedule.warmup",
    "eval_evry=1": "eval_every",
    "testcrops=grid": "test_crops",
    "mesh.fdsp=1": "mesh.fsdp",
}

# Starts train once per command line in children of one process, because importing takes seconds.
_RUNNER = """
import json, os, sys
import jaxiqa.train as train, jaxiqa.program as program
results = []
for arguments in json.loads(sys.argv[1]):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(write, 2)
        sys.argv = ["train.py", *arguments]
        sys.modules["__main__"] = train
        train.train = lambda *_: os._exit(99)  # accepted
        program.run(train.main)
        os._exit(98)
    os.close(write)
    text = os.fdopen(read).read()
    results.append((os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text))
print(json.dumps(results))
"""


def run_all(command_lines) -> list[tuple[int, str]]:
    """Exit code and standard error of train for each list of arguments."""
    command = [sys.executable, "-W", "ignore", "-c", _RUNNER, json.dumps(list(command_lines))]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return json.loads(output)


def overrides(arguments) -> list[list[str]]:
    return [[CONFIG, "--workdir=/nonexistent/w", f"--config.{a}"] for a in arguments]


def test_mistyped_keys_are_refused_with_the_right_suggestion():
    for (argument, key), (code, text) in zip(TYPOS.items(), run_all(overrides(TYPOS)), strict=True):
        assert code == 2, (argument, code, text)
        assert len(text.strip().splitlines()) == 1, (argument, text)
        assert f'did you mean "{key}"?' in text, (argument, text)


def test_values_of_the_wrong_type_are_refused():
    arguments = ["seed=1", "batch_size=1.5", "batch_size=many", "optimizer.learning_rate=fast"]
    accepted, *refused = run_all(overrides(arguments))
    assert accepted[0] == 99
    for argument, (code, text) in zip(arguments[1:], refused, strict=True):
        assert code == 2 and argument.split("=")[0] in text and len(text.strip().splitlines()) == 1, (argument, text)


def test_missing_and_unknown_arguments():
    cases = {
        (): "--config is missing",
        (CONFIG,): "--workdir is missing",
        ("--confg=x",): "Did you mean: config",
        (CONFIG, "--workdir=w", "extra"): "unexpected argument 'extra'",
        ("--config=configs/none.py", "--workdir=w"): "configs/none.py",
        (CONFIG + ":fast", "--workdir=w"): 'takes no argument or "smoke", not "fast"',
    }
    for (arguments, words), (code, text) in zip(cases.items(), run_all(cases), strict=True):
        assert code == 2, (arguments, code, text)
        assert words in text and len(text.strip().splitlines()) == 1, (arguments, text)


@pytest.mark.parametrize("name", PROGRAMS)
def test_help(name):
    command = [sys.executable, "-m", f"jaxiqa.{name}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "python -m jaxiqa" in done.stdout and "Exit codes" in done.stdout and "debug" in done.stdout
