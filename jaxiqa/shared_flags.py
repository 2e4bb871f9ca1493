"""Flags that several programs share, each with one help text.

Each function defines its flag in `to`, the flags of one program, and returns it. Programs define no flags in absl's
registry of the whole process, so that a script with flags of its own can import several of them.
"""

import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from jaxiqa import config as configs
from jaxiqa.errors import ConfigError
from jaxiqa.files import expanded

_CLUSTER = ("coordinator", "num_processes", "process_id", "peer_timeout", "multihost")


class _PathParser(flags.ArgumentParser[str]):
    """Puts the home folder in place of ~, which a shell does not do in --name=~/folder."""

    def parse(self, argument):
        return expanded(argument)


def _define_path(to: flags.FlagValues, name: str, text: str) -> flags.FlagHolder[str | None]:
    return flags.DEFINE(_PathParser(), name, None, text, flag_values=to)


def checkpoint(to: flags.FlagValues, default: str = "ready, the weights of jaxiqa") -> flags.FlagHolder[str | None]:
    """--checkpoint; the help says `default`, what is taken without the flag."""
    return _define_path(
        to,
        "checkpoint",
        "Workdir of a training run, folder of a converted checkpoint, or hf://OWNER/NAME[@REVISION] on a hub; default: "
        f"{default}.",
    )


def step(to: flags.FlagValues) -> flags.FlagHolder[int | None]:
    """--step."""
    return flags.DEFINE_integer(
        "step", None, "Training step of the checkpoint; default: the best one, else the latest.", flag_values=to
    )


def crops(to: flags.FlagValues) -> flags.FlagHolder[str | None]:
    """--crops."""
    text = (
        "Crops of each image: grid (covers every pixel), overlap (about four times as many as grid), five (centre and "
        "corners), auto:N (grid, but at most N crops), random:N (N random places) or whole (the grid of a patch "
        "model); default: those of the checkpoint."
    )
    return flags.DEFINE_string("crops", None, text, flag_values=to)


def batch_size(to: flags.FlagValues) -> flags.FlagHolder[int | None]:
    """--batch_size, in crops."""
    return flags.DEFINE_integer(
        "batch_size",
        None,
        "Number of crops in a batch; default: depends on the crop size.",
        lower_bound=1,
        flag_values=to,
    )


def readers(to: flags.FlagValues) -> flags.FlagHolder[int | None]:
    """--readers."""
    text = "Number of threads that read images; default: one for each core."
    return flags.DEFINE_integer("readers", None, text, lower_bound=1, flag_values=to)


def resize(to: flags.FlagValues) -> flags.FlagHolder[int | None]:
    """--resize."""
    text = "Resize images to this shorter side in pixels, 0: off; default: as in training."
    return flags.DEFINE_integer("resize", None, text, lower_bound=0, flag_values=to)


def dataset(to: flags.FlagValues, which: str) -> flags.FlagHolder[str | None]:
    """--dataset; the help is "Name of the dataset", followed by `which`."""
    return flags.DEFINE_string("dataset", None, f"Name of the dataset {which}.", flag_values=to)


def data_dir(to: flags.FlagValues, default: str | None = "", note: str = "") -> flags.FlagHolder[str | None]:
    """--data_dir; `note` is added to the help."""
    return flags.DEFINE_string("data_dir", default, f"Folder of the dataset{note}.", flag_values=to)


def option(to: flags.FlagValues) -> flags.FlagHolder[list[str]]:
    """--option, for datasets.options.parse_options. The help ends without a full stop, because absl adds text to it."""
    return flags.DEFINE_multi_string(
        "option", [], "Option of the dataset as KEY=VALUE, e.g. group_column=content", flag_values=to
    )


def types(to: flags.FlagValues) -> flags.FlagHolder[str]:
    """--types, for distortions.parse_types."""
    text = "Distortion types to render: all, or names and numbers separated by commas, e.g. gaussian_blur,jpeg,25."
    return flags.DEFINE_string("types", "all", text, flag_values=to)


def output_file(to: flags.FlagValues, *endings: str, note: str = "", folder: str = "") -> flags.FlagHolder[str | None]:
    """--output, a file whose name must end in one of `endings`, e.g. ".csv"; `note` is added to the help.

    With `folder`, which says what the folder is for, a name without an ending, or with the ending .parquet, is one.
    """
    names = [*(f"FILE{ending}" for ending in endings), *([folder] if folder else [])]
    files = " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    holder = _define_path(to, "output", f"File to write: {files}{note}.")
    allowed = (*endings, *(("", ".parquet") if folder else ()))

    def check(path):
        if path and pathlib.PurePath(path).suffix not in allowed:
            raise flags.ValidationError(f"must end in {' or '.join(endings)}" + (", or be a folder" if folder else ""))
        return True

    flags.register_validator(holder, check)
    return holder


def output_folder(to: flags.FlagValues, what: str = "Folder to write to") -> flags.FlagHolder[str | None]:
    """--output, a folder; `what` is its help."""
    return _define_path(to, "output", f"{what}.")


def report(to: flags.FlagValues) -> flags.FlagHolder[str | None]:
    """--report, an HTML file."""
    holder = _define_path(to, "report", "HTML file to write: one page about the whole set.")

    def check(path):
        if path and pathlib.PurePath(path).suffix not in (".html", ".htm"):
            raise flags.ValidationError("must end in .html")
        return True

    flags.register_validator(holder, check)
    return holder


def dataset_options(config: ConfigDict) -> dict[str, Any]:
    """Returns {option: default} of the dataset that the command line, or else the config, names; {} if neither does.

    Raises:
      ConfigError: there is no such dataset.
    """
    from jaxiqa.datasets import default_options  # few commands need it

    name = _overrides("dataset").get("name") or config.dataset.name
    return default_options(name) if name else {}


def _overrides(section: str) -> dict[str, str]:
    """{KEY: VALUE} of --config.SECTION.KEY=VALUE in the command line."""
    words = "".join(f"\0{word}" for word in sys.argv[1:])
    return dict(re.findall(rf"\0--?(?:no)?config\.{section}\.([^.=\0]+)[=\0]?([^\0]*)", words))


class _ConfigParser(flags.ArgumentParser):
    """Reads --config with jaxiqa.config, which sets the defaults before --config.key=value is applied."""

    def __init__(self, tasks: tuple[str, ...]):
        self.tasks = tasks

    def parse(self, path):
        config = configs.load(path, *self.tasks[:1])
        task = configs.task_of(config)
        if self.tasks and task not in self.tasks:
            raise ConfigError(
                f"--config {path} is a config of jaxiqa {configs.PROGRAMS[task]}, not of this program",
                code="format",
                key="--config",
            )
        if "dataset" in config:  # ml_collections overrides only keys that exist
            config.init.update({key: "" for key in _overrides("init") if key not in config.init})
            if lacking := [key for key in _overrides("dataset") if key not in config.dataset]:
                options = dataset_options(config)
                for key in (key for key in lacking if key in options):
                    default = options[key]  # None has no type of which ml_collections could read a value
                    config.dataset[key] = config_dict.placeholder(object) if default is None else default
        return config.lock()


def config(to: flags.FlagValues, *tasks: str) -> flags.FlagHolder:
    """--config; the file may omit any key that has a default. program.read_config returns the value.

    `tasks` are those whose configs the program accepts, keys of jaxiqa.config.PROGRAMS; none for all.
    """
    text = "Config of the run: FILE.py[:ARGUMENT], or NAME[:ARGUMENT] of one that `jaxiqa configs` lists."
    holder = config_flags.DEFINE_config_file("config", None, text, flag_values=to)
    to["config"].parser = _ConfigParser(tasks)
    return holder


def workdir(to: flags.FlagValues) -> flags.FlagHolder[str | None]:
    """--workdir."""
    text = "Folder of the run. A new folder is created; an unfinished run in it is resumed."
    return _define_path(to, "workdir", text)


def override(to: flags.FlagValues) -> flags.FlagHolder[bool]:
    """--override."""
    return flags.DEFINE_bool(
        "override",
        False,
        "Resume the run although hyperparameters of the optimizer, the schedule, the loss or the total have changed.",
        flag_values=to,
    )


def allow_restart(to: flags.FlagValues) -> flags.FlagHolder[bool]:
    """--allow_restart."""
    text = "Start training from the beginning if every checkpoint of the run is damaged."
    return flags.DEFINE_bool("allow_restart", False, text, flag_values=to)


def allow(to: flags.FlagValues) -> flags.FlagHolder[list[str]]:
    """--allow, for programs that read checkpoints."""
    text = "Package that may be imported for the model or dataset of a checkpoint, e.g. mylab"
    return flags.DEFINE_multi_string("allow", [], text, flag_values=to)


def cluster(to: flags.FlagValues) -> Callable[[], dict]:
    """The flags of a run with many processes. Returns a function that returns their values by name."""
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0 in a run with many processes.", flag_values=to)
    flags.DEFINE_integer("num_processes", None, "Number of processes in the run.", lower_bound=1, flag_values=to)
    flags.DEFINE_integer("process_id", None, "Index of this process in the run, from 0.", lower_bound=0, flag_values=to)
    flags.DEFINE_float(
        "peer_timeout", 300.0, "Seconds to wait for the other processes of the run.", lower_bound=1.0, flag_values=to
    )
    text = "Run with the other processes that Slurm, Open MPI or a Cloud TPU slice has started."
    flags.DEFINE_bool("multihost", False, text, flag_values=to)
    return lambda: {name: to[name].value for name in _CLUSTER}
