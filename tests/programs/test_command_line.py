"""Every program: --help, mistyped keys, exit codes."""

import importlib
import json
import os
import signal
import subprocess
import sys

import programs
import pytest
from absl import flags
from tiny_run import ROOT, check_refusals, run_many, run_program

import jaxiqa
from jaxiqa import cli, models
from jaxiqa.scoring.metric import create_metric

PROGRAMS = sorted(p.stem for p in (ROOT / "jaxiqa").glob("*.py") if "program.run(" in p.read_text())
COMMANDS = [name for group in cli.GROUPS.values() for name in group]
CONFIG = "--config=configs/glintiqa_sample.py"

# mistyped override -> the right key
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
    """Command lines of train with these overrides and an impossible workdir, which ends them before they train."""
    return [[CONFIG, "--workdir=README.md/w", f"--config.{argument}"] for argument in arguments]


def test_mistyped_keys_are_refused_with_the_right_suggestion():
    cases = zip(overrides(TYPOS), TYPOS.items(), strict=True)
    check_refusals("train", [(words, 2, f"--config.{typo.split('=')[0]}", f'"{key}"') for words, (typo, key) in cases])


def test_values_of_the_wrong_type_are_refused():
    cases = {
        "seed=1": "README.md/w",
        "batch_size=1.5": "batch_size",
        "batch_size=many": "--config.batch_size=many must be an integer",
    }
    cases["optimizer.learning_rate=fast"] = "--config.optimizer.learning_rate=fast must be a number"
    check_refusals("train", [(words, 2, name) for words, name in zip(overrides(cases), cases.values(), strict=True)])


def test_missing_and_unknown_arguments():
    cases = [
        ([], 2, "--config", "glintiqa_sample"),
        ([CONFIG], 2, "--workdir"),
        (["--confg=x"], 2, "--confg;", "--config?"),
        (["--config.seed=1"], 2, "--config.seed ", "--config NAME"),
        (["--xyz=1"], 2, "--xyz", "jaxiqa train --help"),
        (["--workdir"], 2, "--workdir", "jaxiqa train --help"),
        (["--process_id=one"], 2, "--process_id=one", "integer"),
        (["--peer_timeout=long"], 2, "--peer_timeout=long", "number"),
        (["--override=perhaps"], 2, "--override=perhaps", "true or false"),
        (["--confg.batch_size=8"], 2, "--confg.batch_size;", "--config.batch_size?"),
        ([CONFIG, "--batch-size=8"], 2, "--batch-size;", "--config.batch_size?"),
        (["--lr=8"], 2, "--lr;", "--config.optimizer.learning_rate?"),
        ([CONFIG, "--config.model=glintiqa"], 2, "--config.model ", "--config.model.name=glintiqa"),
        ([CONFIG, "--config.split=2"], 2, "--config.split ", "--config.split.round=2"),
        ([CONFIG, "--workdir=w", "extra"], 2, '"extra"', "jaxiqa train --help"),
        (["--config=configs/none.py", "--workdir=w"], 2, "configs/none.py"),
        ([CONFIG + ":fast", "--workdir=w"], 2, "configs/glintiqa_sample.py", '"smoke"', '"fast"'),
    ]
    check_refusals("train", cases)
    check_refusals(
        "score", [(["--batch-size=8"], 2, "--batch-size;", "--batch_size?"), (["--lr=1"], 2, "--lr;", "--help")]
    )


def test_programs_do_not_collide_with_each_other_or_with_a_script():
    """A script may define its own --workdir before or after it imports them; several programs have an --output."""
    modules = [importlib.import_module(f"jaxiqa.{name}") for name in [*PROGRAMS, "aot.__main__"]]
    own = [getattr(module, "_FLAGS", {}) for module in modules]
    assert not {"debug", "workdir", "config"}.union(*own) & set(flags.FLAGS)
    assert len({id(values["output"]) for values in own if "output" in values}) > 5


# a change of the start: (environment, what the shell does with the streams, exit code, in standard error)
STREAMS = {
    "closed output": ({}, ">&-", 0, ""),
    "closed error": ({}, "2>&-", 2, ""),
    "full disk": ({}, ">/dev/full", 75, "No space left on device"),
    "gone reader": ({}, "| true; exit ${PIPESTATUS[0]}", 141, ""),
    "ascii": ({"PYTHONIOENCODING": "ascii"}, "", 2, "w\\xf6rk"),
    "ascii locale": ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "", 2, "wörk"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_standard_streams(name):
    environment, streams, code, told = STREAMS[name]
    word = "" if code in (0, 75, 141) else "wörk"
    command = f'"$1" -m jaxiqa configs {word} {streams}'
    done = subprocess.run(
        ["bash", "-c", command, "", sys.executable], cwd=ROOT, env={**os.environ, **environment}, capture_output=True
    )
    error = done.stderr.decode()
    assert done.returncode == code and told in error and "Traceback" not in error, error
    assert error == "" or len(error.splitlines()) == 1


def test_config_files_that_cannot_be_used(tmp_path):
    files = {
        "name.py": ("def get_config():\n    return {'a': b}\n", "NameError: name 'b' is not defined (line 2)"),
        "syntax.py": ("def get_config(:\n", "SyntaxError: invalid syntax (syntax.py, line 1)"),
        "package.py": ("import no_such_package\n", "No module named 'no_such_package' (line 1)"),
        "keys.py": (
            "def get_config():\n    from ml_collections import ConfigDict\n    return ConfigDict({'seed': 0})\n",
            "model.name and dataset.name",
        ),
    }
    for name, (text, _) in files.items():
        (tmp_path / name).write_text(text)
    names = {str(tmp_path / name): name for name, _ in files.items()}
    names = {path: files[name][1] for path, name in names.items()} | {"configs/dan_folder.py": "jaxiqa pretrain"}
    check_refusals(
        "train", [([f"--config={path}", f"--workdir={tmp_path / 'w'}"], 2, name) for path, name in names.items()]
    )
    read = list(names.items())[1:3]  # protocol runs the file itself
    check_refusals("protocol", [([f"--config={path}"], 2, path, name) for path, name in read])
    check_refusals("pretrain", [([CONFIG, f"--workdir={tmp_path / 'w'}"], 2, "jaxiqa train")])


LINES = ("import jaxiqa", "import jaxiqa.datasets", "jaxiqa", "jaxiqa --help", "jaxiqa --version", "jaxiqa scroe")
HEAVY = {"jax", "flax", "optax", "orbax", "grain", "matplotlib", "scipy.stats", "tensorflow_datasets"}


@pytest.fixture(scope="module")
def cold() -> dict:
    """{line: (exit code, standard output, loaded modules)} of cold processes."""
    lines = [*LINES, *(f"jaxiqa {name}{flag}" for name in COMMANDS for flag in ("", " --help"))]
    lines.remove("jaxiqa serve")  # needs no argument, and does not end
    command = [sys.executable, ROOT / "tests" / "helpers" / "cold_starts.py", *lines]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_command_lists_every_program(cold):
    assert sorted(map(cli.module_of, COMMANDS)) == sorted([*PROGRAMS, "aot"])
    code, listed, loaded = cold["jaxiqa"]
    assert code == 0 and cold["jaxiqa --help"][:2] == [0, listed]
    assert not {"absl", "numpy"} & set(loaded)
    for name in COMMANDS:
        lines = [line for line in listed.splitlines() if line.startswith(f"  {name} ")]
        assert len(lines) == 1 and len(lines[0]) <= 80 and lines[0].endswith((".", "?")), name


def test_version_and_an_unknown_program(cold):
    assert cold["jaxiqa --version"][:2] == [0, f"jaxiqa {jaxiqa.__version__}\n"]
    assert cold["jaxiqa scroe"][0] == 2
    done = subprocess.run([sys.executable, "-m", "jaxiqa", "scroe"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "scroe" in done.stderr and '"score"' in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help(cold, name):
    code, text, _ = cold[f"jaxiqa {name} --help"]
    assert code == 0
    assert "Exit codes" in text and "--[no]debug" in text and f"  jaxiqa {name}" in text


def test_starts_import_nothing_that_they_do_not_need(cold):
    """Each of HEAVY takes a quarter of a second or more to import."""
    assert not {"numpy", "absl", "jaxiqa.models", "jaxiqa.datasets"} & set(cold["import jaxiqa"][2])
    for line, (code, text, loaded) in cold.items():
        assert code == (0 if "--" in line or line in (*LINES[:3], "jaxiqa configs") else 2), (line, text)
        assert not HEAVY & set(loaded), line
        assert line.removeprefix("import ") in loaded or not line.startswith("import")


def test_the_package_imports_its_names_on_first_use():
    assert jaxiqa.create_metric is create_metric and jaxiqa.models is models
    assert jaxiqa.list_models() == models.list_models()
    assert {*jaxiqa.__all__, "datasets", "weights"} <= set(dir(jaxiqa))
    with pytest.raises(AttributeError, match="no_such_name"):
        jaxiqa.no_such_name  # noqa: B018


@pytest.mark.parametrize(("name", "arguments"), [("score", ["--checkpoint=none"]), ("aot", ["--topology=v9"])])
def test_the_command_is_python_m(name, arguments):
    """Exit code and messages; aot is the program of a package."""
    ways = [["jaxiqa", name], [f"jaxiqa.{name}"]]
    ends = []
    for way in ways:
        done = subprocess.run([sys.executable, "-m", *way, *arguments], cwd=ROOT, capture_output=True, text=True)
        ends.append((done.returncode, done.stdout, done.stderr))
    assert ends[0] == ends[1] and ends[0][0] == 2 and ends[0][2].startswith(f"jaxiqa {name}: ")


def test_experiment_files_are_listed_and_copied(tmp_path):
    nowhere = str(tmp_path / "none" / "x.py")
    cases = [
        (["copy", "glintiqa_sampel"], 2, '"glintiqa_sampel"', '"glintiqa_sample"'),
        (["copy"], 2, "copy NAME"),
        (["lst"], 2, "lst", "copy NAME"),
        (["copy", "glintiqa_sample", nowhere], 2, nowhere),
        (["copy", "glintiqa_sample", "mine.txt"], 2, "mine.txt", "FILE.py"),
    ]
    check_refusals("config_files", cases)
    ((code, listed, _),) = run_many("config_files", [[]])
    names = [line.split()[0] for line in listed.splitlines() if line]
    assert code == 0 and {p.stem for p in (ROOT / "configs").glob("*.py")} - {"__init__"} <= set(names)
    for target in (tmp_path, tmp_path / "mine.py"):
        done = run_program("config_files", "copy", "glintiqa_sample", target)
        assert done.returncode == 0, done.stderr
    copies = [path.read_bytes() for path in (tmp_path / "glintiqa_sample.py", tmp_path / "mine.py")]
    assert copies == [(ROOT / "configs" / "glintiqa_sample.py").read_bytes()] * 2
    (tmp_path / "mine.py").write_text("# changed")
    assert run_program("config_files", "copy", "glintiqa_sample", tmp_path / "mine.py").returncode == 2
    assert (tmp_path / "mine.py").read_text() == "# changed"


WAITING = """
import signal, time
from jaxiqa.runs.signals import stop_signals
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
with stop_signals() as received:
    printed = None
    while True:
        if (line := " ".join(map(str, received))) != printed:
            print(line, flush=True)
        printed = line
        try:
            time.sleep(0.01)
        except BaseException:
            pass
"""


def test_the_third_signal_ends_a_run_at_once():
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
def test_an_object_interrupted_in_its_constructor_prints_nothing(tmp_path, number, what, code):
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


def test_a_full_disk_without_the_name_of_a_file(tmp_path):
    lines = """
import errno
from jaxiqa import program

def main():
    raise OSError(errno.ENOSPC, "No space left on device")

program.run(main)
"""
    (tmp_path / "full.py").write_text(lines)
    done = programs.run(tmp_path / "full.py")
    assert done.returncode == 75 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("full.py: ") and "No space left on device" in done.stderr


def test_programs_of_many_processes_name_all_exit_codes_of_a_stopped_run():
    many = [name for name in PROGRAMS if "shared_flags.cluster(" in (ROOT / "jaxiqa" / f"{name}.py").read_text()]
    assert {"train", "pretrain", "transfer", "protocol"} <= set(many)
    for name in many:
        text = (ROOT / "jaxiqa" / f"{name}.py").read_text()
        codes = " ".join(text[text.index("Exit codes") :].partition('"""')[0].split())
        assert all(code in codes for code in ("75", "a host", "130 or 143")), name
