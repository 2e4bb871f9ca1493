"""Every program: --help, mistyped keys, exit codes."""

import signal
import subprocess
import sys

import programs
import pytest
from tiny_run import ROOT, run_many, run_program

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


def overrides(arguments) -> list[list[str]]:
    """Command lines of train with these overrides, and with a workdir that cannot be: good ones go no further."""
    return [[CONFIG, "--workdir=README.md/w", f"--config.{argument}"] for argument in arguments]


def test_mistyped_keys_are_refused_with_the_right_suggestion():
    results = run_many("train", overrides(TYPOS))
    for (argument, key), (code, _, text) in zip(TYPOS.items(), results, strict=True):
        assert code == 2, (argument, code, text)
        assert len(text.strip().splitlines()) == 1, (argument, text)
        assert f'did you mean "{key}"?' in text, (argument, text)


def test_values_of_the_wrong_type_are_refused():
    arguments = ["seed=1", "batch_size=1.5", "batch_size=many", "optimizer.learning_rate=fast"]
    accepted, *refused = run_many("train", overrides(arguments))
    assert "README.md/w cannot be written" in accepted[2]
    for argument, (code, _, text) in zip(arguments[1:], refused, strict=True):
        assert code == 2 and argument.split("=")[0] in text and len(text.strip().splitlines()) == 1, (argument, text)


def test_missing_and_unknown_arguments():
    cases = {
        (): "--config is missing",
        (CONFIG,): "--workdir is missing",
        ("--confg=x",): "Did you mean: config",
        ("--confg.batch_size=8",): 'did you mean "config"?',
        (CONFIG, "--workdir=w", "extra"): "unexpected argument 'extra'",
        ("--config=configs/none.py", "--workdir=w"): "configs/none.py",
        (CONFIG + ":fast", "--workdir=w"): 'takes no argument or "smoke", not "fast"',
    }
    for (arguments, words), (code, _, text) in zip(cases.items(), run_many("train", cases), strict=True):
        assert code == 2, (arguments, code, text)
        assert words in text and len(text.strip().splitlines()) == 1, (arguments, text)


def test_config_files_that_cannot_be_used(tmp_path):
    files = {
        "name.py": ("def get_config():\n    return {'a': b}\n", "NameError: name 'b' is not defined (line 2)"),
        "syntax.py": ("def get_config(:\n", "SyntaxError: invalid syntax (syntax.py, line 1)"),
        "package.py": ("import no_such_package\n", "No module named 'no_such_package' (line 1)"),
        "keys.py": (
            "def get_config():\n    from ml_collections import ConfigDict\n    return ConfigDict({'seed': 0})\n",
            "--config has no model.name, model.variant, init",
        ),
    }
    for name, (text, _) in files.items():
        (tmp_path / name).write_text(text)
    words = {str(tmp_path / name): words for name, (_, words) in files.items()}
    words["configs/dan_folder.py"] = "--config is a config of python -m jaxiqa.pretrain"
    lines = [[f"--config={path}", f"--workdir={tmp_path / 'w'}"] for path in words]
    for (path, wanted), (code, _, text) in zip(words.items(), run_many("train", lines), strict=True):
        assert code == 2 and wanted in text and len(text.strip().splitlines()) == 1, (path, text)
    named = list(words)[1:3]  # protocol reads the file by itself
    results = run_many("protocol", [[f"--config={path}"] for path in named])
    for path, (code, _, text) in zip(named, results, strict=True):
        assert code == 2 and words[path] in text and len(text.strip().splitlines()) == 1, (path, text)
    code, _, text = run_many("pretrain", [[CONFIG, f"--workdir={tmp_path / 'w'}"]])[0]
    assert code == 2 and "--config is a config of python -m jaxiqa.train" in text


@pytest.mark.parametrize("name", PROGRAMS)
def test_help(name):
    done = run_program(name, "--help")
    assert done.returncode == 0
    assert "python -m jaxiqa" in done.stdout and "Exit codes" in done.stdout and "debug" in done.stdout


@pytest.mark.parametrize("name", ["evaluate", "score", "train"])
def test_help_does_not_wait_for_what_it_does_not_need(name):
    """Importing any of these takes a quarter of a second or more."""
    command = [sys.executable, "-X", "importtime", "-m", f"jaxiqa.{name}", "--help"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr.splitlines()
    imported = {line.split("|")[-1].strip() for line in lines}
    assert "jax" in imported
    assert not imported & {"matplotlib", "scipy.stats", "skimage"}


WAITING = """
import signal, time
from jaxiqa.runs.signals import stop_signals
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
with stop_signals() as received:
    said = None
    while True:
        if (line := " ".join(map(str, received))) != said:
            print(line, flush=True)
        said = line
        try:
            time.sleep(0.01)
        except BaseException:
            pass
"""


def test_the_third_signal_ends_a_run_whatever_it_waits_for():
    run = subprocess.Popen([sys.executable, "-c", WAITING], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout.readline() == "\n"
        for number, seen in ((signal.SIGHUP, "15"), (signal.SIGTERM, "15 15"), (signal.SIGTERM, "")):
            run.send_signal(number)
            assert run.stdout.readline().strip() == seen
        assert run.wait(10) == -signal.SIGTERM
    finally:
        run.kill()
        run.communicate()


@pytest.mark.parametrize(("number", "what", "code"), [("SIGINT", "interrupted", 130), ("SIGTERM", "terminated", 143)])
def test_an_object_interrupted_while_it_is_made_says_nothing(tmp_path, number, what, code):
    lines = f"""
import os, signal, time
from jaxiqa import program

class HalfMade:
    def __init__(self):
        os.kill(os.getpid(), signal.{number})
        time.sleep(30)
    def __del__(self):
        self.not_yet_there.close()

program.run(HalfMade)
"""
    (tmp_path / "half.py").write_text(lines)
    done = programs.run(tmp_path / "half.py")
    assert (done.returncode, done.stderr) == (code, f"half.py: {what}\n")


def test_no_room_for_a_file_that_nobody_named(tmp_path):
    lines = """
import errno
from jaxiqa import program

def main():
    raise OSError(errno.ENOSPC, "No space left on device")

program.run(main)
"""
    (tmp_path / "full.py").write_text(lines)
    done = programs.run(tmp_path / "full.py")
    words = "full.py: a file cannot be written (No space left on device); make room, then the same command again\n"
    assert (done.returncode, done.stderr) == (75, words)


def test_programs_of_many_processes_name_all_exit_codes_of_a_stopped_run():
    many = [name for name in PROGRAMS if "cluster_flags()" in (ROOT / "jaxiqa" / f"{name}.py").read_text()]
    assert {"train", "pretrain", "transfer", "protocol"} <= set(many)
    for name in many:
        text = (ROOT / "jaxiqa" / f"{name}.py").read_text()
        codes = text[text.index("Exit codes") :].partition('"""')[0]
        assert all(code in codes for code in ("75", "a host", "130 / 143")), name
