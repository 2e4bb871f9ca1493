"""Flags that several programs share, each with one help text.

Each function defines its flag and returns it. Its cache prevents a second definition if a process imports several
programs.
"""

import functools
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from jaxiqa import config as configs
from jaxiqa.errors import ConfigError

flags.disclaim_key_flags()  # so that --help lists them under the program that uses them

_CLUSTER = ("coordinator", "num_processes", "process_id", "peer_timeout", "multihost")


@functools.cache
def checkpoint() -> flags.FlagHolder[str | None]:
    """--checkpoint."""
    return flags.DEFINE_string("checkpoint", None, "Workdir of a training run, or folder of a converted checkpoint.")


@functools.cache
def step() -> flags.FlagHolder[int | None]:
    """--step."""
    return flags.DEFINE_integer(
        "step", None, "Training step of the checkpoint; default: the best one, else the latest."
    )


@functools.cache
def crops() -> flags.FlagHolder[str | None]:
    """--crops."""
    text = "Crops of each image: grid (covers every pixel), random:N or whole; default: those of the checkpoint."
    return flags.DEFINE_string("crops", None, text)


@functools.cache
def batch_size() -> flags.FlagHolder[int | None]:
    """--batch_size, in crops."""
    return flags.DEFINE_integer(
        "batch_size", None, "Number of crops in a batch; default: depends on the crop size.", lower_bound=1
    )


@functools.cache
def dataset(which: str) -> flags.FlagHolder[str | None]:
    """--dataset; the help is "Name of the dataset", followed by `which`."""
    return flags.DEFINE_string("dataset", None, f"Name of the dataset {which}.")


@functools.cache
def data_dir(default: str | None = "", note: str = "") -> flags.FlagHolder[str | None]:
    """--data_dir; `note` is added to the help."""
    return flags.DEFINE_string("data_dir", default, f"Folder of the dataset{note}.")


@functools.cache
def option() -> flags.FlagHolder[list[str]]:
    """--option, for datasets.options.parse_options. The help ends without a full stop, because absl adds text to it."""
    return flags.DEFINE_multi_string("option", [], "Option of the dataset as KEY=VALUE, e.g. group_column=content")


@functools.cache
def types() -> flags.FlagHolder[str]:
    """--types, for distortions.parse_types."""
    text = "Distortion types to render: all, or names and numbers separated by commas, e.g. gaussian_blur,jpeg,25."
    return flags.DEFINE_string("types", "all", text)


@functools.cache
def output_file(*endings: str, note: str = "") -> flags.FlagHolder[str | None]:
    """--output, a file whose name must end in one of `endings`, e.g. ".csv"; `note` is added to the help."""
    files = " or ".join(f"FILE{ending}" for ending in endings)
    holder = flags.DEFINE_string("output", None, f"File to write: {files}{note}.")

    def check(path):
        if path and pathlib.PurePath(path).suffix not in endings:
            raise flags.ValidationError(f"must end in {' or '.join(endings)}")
        return True

    flags.register_validator(holder, check)
    return holder


@functools.cache
def output_folder(what: str = "Folder to write to") -> flags.FlagHolder[str | None]:
    """--output, a folder; `what` is its help."""
    return flags.DEFINE_string("output", None, f"{what}.")


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

    tasks: tuple[str, ...] = ()  # tasks whose configs the program accepts; (): all

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


@functools.cache
def config() -> flags.FlagHolder:
    """--config; the file may omit any key that has a default. program.read_config returns the value."""
    text = "Config of the run: FILE.py[:ARGUMENT], or NAME[:ARGUMENT] of one that `jaxiqa configs` lists."
    holder = config_flags.DEFINE_config_file("config", None, text)
    flags.FLAGS["config"].parser = _ConfigParser()
    return holder


@functools.cache
def workdir() -> flags.FlagHolder[str | None]:
    """--workdir."""
    return flags.DEFINE_string(
        "workdir", None, "Folder of the run. A new folder is created; an unfinished run in it is resumed."
    )


@functools.cache
def override() -> flags.FlagHolder[bool]:
    """--override."""
    return flags.DEFINE_bool(
        "override", False, "Resume the run although its optimizer, schedule, loss or total has been changed."
    )


@functools.cache
def allow_restart() -> flags.FlagHolder[bool]:
    """--allow_restart."""
    text = "Start training from the beginning if every checkpoint of the run is damaged."
    return flags.DEFINE_bool("allow_restart", False, text)


@functools.cache
def allow() -> flags.FlagHolder[list[str]]:
    """--allow, for programs that read checkpoints."""
    text = "Package that may be imported for the model or dataset of a checkpoint, e.g. mylab"
    return flags.DEFINE_multi_string("allow", [], text)


@functools.cache
def cluster() -> Callable[[], dict]:
    """The flags of a run with many processes. Returns a function that returns their values by name."""
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0 in a run with many processes.")
    flags.DEFINE_integer("num_processes", None, "Number of processes in the run.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Index of this process in the run, from 0.", lower_bound=0)
    flags.DEFINE_float("peer_timeout", 300.0, "Seconds to wait for the other processes of the run.", lower_bound=1.0)
    text = "Run with the other processes that Slurm, Open MPI or a Cloud TPU slice has started."
    flags.DEFINE_bool("multihost", False, text)
    return lambda: {name: flags.FLAGS[name].value for name in _CLUSTER}
