"""Train and test in rounds, as the field reports results: medians over random splits, by distortion, across datasets.

  python -m jaxiqa.protocol --config configs/glintiqa_folder.py --workdir workdir/protocol --rounds 10 \\
      -- --config.dataset.data_dir=/path/to/folder --config.dataset.group_column=content

Everything after -- goes to python -m jaxiqa.train, which runs once for each cell: config, selection rule and round.
Round R trains with --config.split.round=R --config.seed=12345*R, in WORKDIR/CONFIG/SELECTION/round_R (a config of saqt
with --config.dataset.round=R, as its parts are those of the rated dataset). The same command again goes on where it
stopped, also inside a run.

--config may be repeated; a config file that lists ROWS (configs/mfen_ablations.py) stands for all of them.
Both selection rules stand side by side: val picks the epoch on validation pictures and touches the test part once,
legacy trains on them too and picks the epoch on the test part, as papers do. --selection val halves the time.
--cross tid2013=/path/to/tid2013 also tests every trained model on all of another dataset; it may be repeated, and
folders of anyone's pictures (folder=/path/to/mine) are told apart by their names.

On many hosts start it on all of them (launch/README.md); process 0 tests on other datasets and writes the tables.

Printed and written to WORKDIR: protocol.md and protocol.csv (medians, means, standard deviations), by_distortion.csv,
by_level.csv, protocol.json and rounds.png.

Exit codes: 0 done, 2 usage, 3 bad data, 75 disk full; those of the training run that failed or was stopped (75: a host
is missing; 130 / 143: Ctrl-C / SIGTERM).
"""

import contextlib
import os
import re
import runpy
import signal
import subprocess
import sys

from absl import flags
from etils import epath

from jaxiqa import datasets, program
from jaxiqa.errors import ConfigError, Stopped, UserError
from jaxiqa.evaluation import protocol
from jaxiqa.evaluation.drawing import write_bytes
from jaxiqa.evaluation.report import to_csv, write_json
from jaxiqa.runs.signals import stop_signals

_CONFIG = flags.DEFINE_multi_string("config", [], "Config file[:argument] of a row; may be repeated.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all rounds; is made, or gone on in.")
_CLUSTER = program.cluster_flags()
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Rounds of each row.", lower_bound=1)
_SELECTION = flags.DEFINE_list("selection", ["val", "legacy"], "val, legacy, or both.")
_CROSS = flags.DEFINE_multi_string("cross", [], "DATASET=FOLDER, another dataset to test on; may be repeated.")
_SAME_SPLIT = flags.DEFINE_bool(
    "same_split", False, "All rounds take split 1 and differ in the seed only; needed where the split is official."
)


def main(overrides: list[str]) -> None:
    """The program."""
    rows = find_rows(_CONFIG.value)
    if not _WORKDIR.value:
        raise ConfigError("--workdir is missing; name a folder for the rounds, e.g. --workdir workdir/protocol")
    for selection in _SELECTION.value or [""]:
        if selection not in ("val", "legacy"):
            raise ConfigError(f"--selection {selection!r} must be val, legacy or val,legacy")
    if stray := [word for word in overrides if not word.startswith("--config.")]:
        raise ConfigError(f"{stray[0]!r} is no option of training; after -- write --config.KEY=VALUE")
    cross = [_target(text) for text in _CROSS.value]
    if twice := [name for i, (name, _, _) in enumerate(cross) if name in [n for n, _, _ in cross[:i]]]:
        raise ConfigError(f"--cross names {twice[0]} twice; give the folders names that differ")
    workdir = epath.Path(_WORKDIR.value)
    plan = [(row, s, r) for r in range(1, _ROUNDS.value + 1) for row in rows for s in _SELECTION.value]
    given = {name: value for name, value in _CLUSTER().items() if value is not None}
    if given.pop("multihost"):
        raise ConfigError(
            "--multihost: the rounds are runs of their own, and this program must know which process it is; give "
            "--coordinator HOST:PORT, --num_processes and --process_id"
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
        cells.append(protocol.read_cell(folder, row, selection, round_))
        for target, name, data_dir in cross:
            output = folder / "evaluation" / target
            if not _is_done(output):
                _run("evaluate", "--checkpoint", str(folder), "--dataset", name, "--data_dir", data_dir, "--part",
                     "all", "--output", str(output))  # fmt: skip
            crossed.append(protocol.read_cell(output, row, selection, round_, target))
    write(workdir, cells, crossed)


def _is_done(folder: epath.Path) -> bool:
    """Whether a round or a test is finished: its report is written once all is trained and tested."""
    try:
        protocol.read_cell(folder, "", "", 0)
        return True
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"warning: report.json or the predictions in {folder} cannot be read ({error}); they are made again")
        return False


def find_rows(configs: list[str]) -> dict[str, str]:
    """{name of a row: what to give as --config}.

    Raises:
      ConfigError: none, one that is no file, or two of one name.
    """
    rows: dict[str, str] = {}
    for config in configs:
        path, _, argument = config.partition(":")
        try:
            listed = runpy.run_path(path).get("ROWS", ())
        except OSError as error:
            raise ConfigError(f"--config {path} cannot be read ({error.strerror})") from error
        except Exception as error:  # whatever the file runs
            raise ConfigError(f"--config {path}: {program.config_error(path, error)}") from error
        whole = listed and argument.partition(",")[0] not in listed  # "", or what is the same for all rows
        for full in [f"{path}:{name}{',' * bool(argument)}{argument}" for name in listed] if whole else [config]:
            name = re.sub(r"\W+", "_", os.path.basename(full).replace(".py", "")).strip("_")
            if name in rows:
                raise ConfigError(f"--config {full} is given twice")
            rows[name] = full
    if not rows:
        raise ConfigError("--config is missing; give a config file, e.g. --config configs/glintiqa_folder.py")
    return rows


def _round_key(config: str) -> str:
    """The key of a row's config that says which round of a split is meant."""
    path, _, argument = config.partition(":")
    try:
        data = runpy.run_path(path)["get_config"](argument).dataset
    except Exception:  # no such argument, or worse, as training will say
        return "split.round"
    return "dataset.round" if "round" in data else "split.round"


def write(workdir: epath.Path, cells, crossed) -> None:
    """Print and write the tables."""
    summary = protocol.summarise([*cells, *crossed])
    shown = [{k: v for k, v in row.items() if not k.startswith(("krcc", "rmse"))} for row in summary]
    tables = {"": shown}
    for column in ("distortion", "level"):
        rows = protocol.by_group(cells, column)
        write_bytes(workdir / f"by_{column}.csv", to_csv(rows).encode("utf-8", "surrogateescape"))
        if rows:
            tables[f"\n### By {column}: median over the rounds\n\n"] = rows
    first = cells[0].report
    box = (
        f"Split: {first['split'].split(',')[0]}; rounds differ in {'seed' if _SAME_SPLIT.value else 'split and seed'}; "
        f"crops {first['crops']}; jaxiqa {first['jaxiqa']}.\nSelection val: the step is picked on validation pictures; "
        "legacy: on the test part, as papers do (optimistic).\n"
    )
    text = "".join(head + protocol.markdown(rows) + "\n" for head, rows in tables.items())
    print(f"\n{text}\n{box}", end="")
    write_bytes(workdir / "protocol.md", f"{text}\n{box}".encode("utf-8", "surrogateescape"))
    write_bytes(workdir / "protocol.csv", to_csv(summary).encode())
    rounds = [{"row": c.row, "selection": c.selection, "round": c.round, **c.report} for c in [*cells, *crossed]]
    write_json(workdir / "protocol.json", {"command": sys.argv, "summary": summary, "rounds": rounds})
    protocol.draw(workdir / "rounds.png", cells, f"{first['dataset']}, {max(c.round for c in cells)} round(s)")
    print(f"protocol.md, protocol.csv, protocol.json, by_distortion.csv, by_level.csv and rounds.png are in {workdir}")


def _target(text: str) -> tuple[str, str, str]:
    """What tables call another dataset, its key and its folder."""
    name, equals, data_dir = text.partition("=")
    if not equals:
        raise ConfigError(f"--cross {text}: write it as DATASET=FOLDER, e.g. --cross tid2013=/path/to/tid2013")
    name = datasets.find(name)
    own = os.path.basename(os.path.abspath(data_dir)) if datasets.fact(name, "ANYONES") else ""
    return f"{name}_{own}" if own else name, name, data_dir


def _run(name: str, *arguments: str) -> None:
    """python -m jaxiqa.NAME with these arguments; signals that end this program end that one first, after its save."""
    child = subprocess.Popen([sys.executable, "-m", f"jaxiqa.{name}", *arguments])
    passed_on, code = 0, None
    with stop_signals() as stopped_by:
        while code is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(timeout=0.2)
            if signal.SIGTERM in stopped_by[passed_on:]:  # a terminal's Ctrl-C reaches the child by itself
                child.terminate()
            passed_on = len(stopped_by)
    if code:
        what = f"jaxiqa.{name} ended with {code}"
        if code != UserError.exit_code:  # which this command would end with again
            what += "; the same command goes on from there"
        if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            raise Stopped(what, code - 128)
        error = UserError(what)
        error.exit_code = code if code > 0 else 1
        raise error


if __name__ == "__main__":
    program.run(main, takes_arguments=True)
