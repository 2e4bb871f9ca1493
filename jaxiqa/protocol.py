"""Train and test in rounds: medians over random splits.

  jaxiqa protocol --config glintiqa_folder --workdir workdir/protocol --rounds 10 \\
      -- --config.dataset.data_dir=/path/to/folder --config.dataset.group_column=content

Papers report medians over random splits. Options after -- go to `jaxiqa train`, which runs once for each config,
selection rule and round. Round R trains with --config.split.round=R --config.seed=12345*R in
WORKDIR/CONFIG/SELECTION/round_R. (A config with the dataset saqt gets --config.dataset.round=R instead, because it uses
the split of the rated dataset.) Repeat the command to resume where it stopped, also inside a run.

--config can be given several times. A config file that defines ROWS (mfen_ablations) stands for all its rows.
--selection: val selects the step on validation images and uses the test part once. legacy trains on the validation
images too and selects the step on the test part, as papers do. By default both run; one of them takes half the time.
--cross tid2013=/path/to/tid2013 also tests every trained model on all of another dataset. It can be given several
times. If several are folders of your own images (folder=/path/to/mine), these must have different names.

On many hosts, start the same command on each of them (launch/README.md). Process 0 tests on other datasets and writes
the tables.

WORKDIR receives protocol.md and protocol.csv (medians, means, standard deviations), by_distortion.csv, by_level.csv,
protocol.json and rounds.png.

Exit codes: 0 done, 2 usage, 3 bad data, 75 disk full; or the exit code of the training run that failed or was stopped
(75: a host is missing; 130 or 143: Ctrl-C or SIGTERM).
"""

import contextlib
import os
import re
import signal
import subprocess
import sys

from absl import flags
from etils import epath

from jaxiqa import datasets, program, shared_flags
from jaxiqa.config import load, run_file
from jaxiqa.errors import ConfigError, Stopped, UserError
from jaxiqa.evaluation import metrics, round_results
from jaxiqa.evaluation.result_files import to_csv
from jaxiqa.files import write_bytes, write_json
from jaxiqa.runs.signals import stop_signals

_FLAGS = flags.FlagValues()
_CONFIG = flags.DEFINE_multi_string(
    "config",
    [],
    "Config to train: FILE.py[:ARGUMENT], or NAME[:ARGUMENT] of one that `jaxiqa configs` lists",
    flag_values=_FLAGS,
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of all rounds. Finished rounds in it are kept, an unfinished one is resumed.",
    flag_values=_FLAGS,
)
_CLUSTER = shared_flags.cluster(_FLAGS)
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Number of rounds of each config.", lower_bound=1, flag_values=_FLAGS)
_SELECTION = flags.DEFINE_list(
    "selection",
    ["val", "legacy"],
    "Rules that select the step: val (on validation images), legacy (on the test part).",
    flag_values=_FLAGS,
)
_CROSS = flags.DEFINE_multi_string("cross", [], "Another dataset to test on, as DATASET=FOLDER", flag_values=_FLAGS)
_ALLOW = shared_flags.allow(_FLAGS)
_SAME_SPLIT = flags.DEFINE_bool(
    "same_split",
    False,
    "Use split 1 in all rounds, so that only the seed differs; needed for an official split.",
    flag_values=_FLAGS,
)


def main(overrides: list[str]) -> None:
    """The program."""
    rows = find_rows(_CONFIG.value)
    if not _WORKDIR.value:
        raise ConfigError(
            "--workdir is missing; name a folder for the rounds, e.g. --workdir workdir/protocol",
            code="missing",
            key="--workdir",
        )
    for selection in _SELECTION.value or [""]:
        if selection not in ("val", "legacy"):
            raise ConfigError(
                f'--selection "{selection}" must be val, legacy or val,legacy', code="value", key="--selection"
            )
    if stray := [word for word in overrides if not word.startswith("--config.")]:
        raise ConfigError(
            f'"{stray[0]}" is not a flag of training; after -- write --config.KEY=VALUE', code="unknown", key=stray[0]
        )
    cross = [_target(text) for text in _CROSS.value]
    if twice := [name for i, (name, _, _) in enumerate(cross) if name in [n for n, _, _ in cross[:i]]]:
        raise ConfigError(
            f"--cross: {twice[0]} is given twice; give each dataset once, and each folder of own images another name",
            code="conflict",
            key="--cross",
        )
    workdir = epath.Path(_WORKDIR.value)
    plan = [(row, s, r) for r in range(1, _ROUNDS.value + 1) for row in rows for s in _SELECTION.value]
    given = {name: value for name, value in _CLUSTER().items() if value is not None}
    if given.pop("multihost"):
        raise ConfigError(
            "--multihost cannot be used here, because each round is a separate run; give --coordinator HOST:PORT, "
            "--num_processes and --process_id",
            code="conflict",
            key="--multihost",
        )
    many = [f"--{name}={value}" for name, value in given.items()]
    index = int(given.get("process_id") or os.environ.get("JAXIQA_PROCESS_ID") or 0)
    for number, (row, selection, round_) in enumerate(plan, 1):
        folder = workdir / row / selection / f"round_{round_:02d}"
        print(f"== {number}/{len(plan)}: {row}, selection {selection}, round {round_}", flush=True)
        if not _is_done(folder):
            split = [
                f"--config.{_round_key(rows[row])}={1 if _SAME_SPLIT.value else round_}",
                f"--config.split.selection={selection}",
                f"--config.seed={12345 * round_}",
            ]
            _run("train", "--config", rows[row], "--workdir", str(folder), *overrides, *split, *many)
    if index:
        return
    cells, crossed = [], []
    for row, selection, round_ in plan:
        folder = workdir / row / selection / f"round_{round_:02d}"
        cells.append(round_results.read_cell(folder, row, selection, round_))
        for target, name, data_dir in cross:
            output = folder / "evaluation" / target
            if not _is_done(output):
                _run("evaluate", "--checkpoint", str(folder), "--dataset", name, "--data_dir", data_dir, "--part",
                     "all", "--output", str(output), *(f"--allow={one}" for one in _ALLOW.value))  # fmt: skip
            crossed.append(round_results.read_cell(output, row, selection, round_, target))
    write(workdir, cells, crossed)


def _is_done(folder: epath.Path) -> bool:
    """Whether a round or a test is finished; its report is written last."""
    try:
        round_results.read_cell(folder, "", "", 0)
        return True
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"warning: {folder / 'report.json'} or its predictions cannot be read ({error}); the test is repeated")
        return False


def find_rows(configs: list[str]) -> dict[str, str]:
    """The rows of the table, {name: value of --config}.

    Raises:
      ConfigError: no config is given, one cannot be read, or one is given twice.
    """
    rows: dict[str, str] = {}
    for config in configs:
        path, _, argument = config.partition(":")
        listed = run_file(config)[0].get("ROWS", ())
        whole = listed and argument.partition(",")[0] not in listed  # the argument is "" or applies to all rows
        for full in [f"{path}:{name}{',' * bool(argument)}{argument}" for name in listed] if whole else [config]:
            name = re.sub(r"\W+", "_", os.path.basename(full).replace(".py", "")).strip("_")
            if name in rows:
                raise ConfigError(f"--config {full} is given twice", code="conflict", key="--config")
            rows[name] = full
    if not rows:
        raise ConfigError(
            "--config is missing; name a config, e.g. --config glintiqa_folder", code="missing", key="--config"
        )
    return rows


def _round_key(config: str) -> str:
    """The config key of a row that selects the round."""
    try:
        data = load(config, "quality").get("dataset", ())
    except ConfigError:  # training reports it
        return "split.round"
    return "dataset.round" if "round" in data else "split.round"


def write(workdir: epath.Path, cells, crossed) -> None:
    """Prints and writes the tables."""
    from jaxiqa.figures import report

    summary = round_results.summarise([*cells, *crossed])
    hidden = tuple(f"{metric}_" for metric in metrics.METRICS if metric not in metrics.HEADLINES)
    shown = [{k: v for k, v in row.items() if not k.startswith(hidden)} for row in summary]
    tables = {"": shown}
    for column in ("distortion", "level"):
        rows = round_results.by_group(cells, column)
        write_bytes(workdir / f"by_{column}.csv", to_csv(rows).encode("utf-8", "surrogateescape"))
        if rows:
            tables[f"\n### By {column}: median over the rounds\n\n"] = rows
    first = cells[0].report
    box = (
        f"Split: {first['split'].split(',')[0]}; rounds differ in {'seed' if _SAME_SPLIT.value else 'split and seed'}; "
        f"crops {first['crops']}; jaxiqa {first['jaxiqa']}.\nSelection val: the step is selected on validation "
        "images; legacy: on the test part, as papers do (optimistic).\n"
    )
    text = "".join(head + round_results.markdown(rows) + "\n" for head, rows in tables.items())
    print(f"\n{text}\n{box}", end="")
    write_bytes(workdir / "protocol.md", f"{text}\n{box}".encode("utf-8", "surrogateescape"))
    write_bytes(workdir / "protocol.csv", to_csv(summary).encode())
    rounds = [{"row": c.row, "selection": c.selection, "round": c.round, **c.report} for c in [*cells, *crossed]]
    write_json(workdir / "protocol.json", {"command": sys.argv, "summary": summary, "rounds": rounds})
    title = f"{first['dataset']}, {max(c.round for c in cells)} round(s)"
    report.draw_rounds(workdir / "rounds.png", round_results.best_of_rounds(cells), title)
    print(f"protocol.md, protocol.csv, protocol.json, by_distortion.csv, by_level.csv and rounds.png are in {workdir}")


def _target(text: str) -> tuple[str, str, str]:
    """The name of another dataset in tables, its key and its folder."""
    name, equals, data_dir = text.partition("=")
    if not equals:
        raise ConfigError(
            f"--cross {text}: write it as DATASET=FOLDER, e.g. --cross tid2013=/path/to/tid2013",
            code="value",
            key="--cross",
        )
    name = datasets.find(name)
    own = os.path.basename(os.path.abspath(data_dir)) if datasets.fact(name, "ANYONES") else ""
    return f"{name}_{own}" if own else name, name, data_dir


def _run(name: str, *arguments: str) -> None:
    """Runs python -m jaxiqa.NAME with these arguments. Signals are passed on to it, so that it saves first."""
    child = subprocess.Popen([sys.executable, "-m", f"jaxiqa.{name}", *arguments])
    passed_on, code = 0, None
    with stop_signals() as stopped_by:
        while code is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(timeout=0.2)
            if signal.SIGTERM in stopped_by[passed_on:]:  # Ctrl-C in a terminal reaches the child directly
                child.terminate()
            passed_on = len(stopped_by)
    if code:
        what = f"jaxiqa {name} ended with exit code {code}"
        if code != UserError.exit_code:  # a usage error would recur
            what += "; repeat the command to continue from there"
        if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            raise Stopped(what, code - 128)
        error = UserError(what, code="run_failed", key=name)
        error.exit_code = code if code > 0 else 1
        raise error


if __name__ == "__main__":
    program.run(main, _FLAGS, takes_arguments=True)
