"""What lies on disk: one file per dataset, found by its name. `load("kadid10k", data_dir)` gives a Dataset of Records.

A dataset file has CITATION, LICENSE, SCORE_RANGE, HIGHER_IS_BETTER, HOW_TO_GET and load(data_dir, ...) -> Dataset.
"""

import difflib
import importlib
import inspect
import os
import pkgutil
from types import ModuleType

from jaxiqa.datasets import prepared
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import ConfigError, DataError

__all__ = ["ALIASES", "Dataset", "Record", "default_data_dir", "find", "list_datasets", "load", "reader"]

# Other spellings that papers and toolboxes use.
ALIASES = {
    "kadid": "kadid10k",
    "kadid-10k": "kadid10k",
    "koniq": "koniq10k",
    "koniq-10k": "koniq10k",
    "clive": "livec",
    "livechallenge": "livec",
    "live-itw": "livec",
    "live-wild": "livec",
    "kadis": "kadis700k",
    "kadis-700k": "kadis700k",
    "fblive": "flive",
    "livefb": "flive",
    "live-fb": "flive",
    "paq2piq": "flive",
    "livem": "livemd",
    "live-md": "livemd",
}


def list_datasets() -> list[str]:
    """Keys of all datasets: the modules of this room that know how to get one."""
    names = [m.name for m in pkgutil.iter_modules(__path__)]
    return sorted(n for n in names if hasattr(importlib.import_module(f"{__name__}.{n}"), "HOW_TO_GET"))


def find(name: str) -> str:
    """The key of a dataset by its key or an alias, in any case; ConfigError with the nearest for an unknown name."""
    known = list_datasets()
    key = ALIASES.get(name.lower(), name.lower())
    if key not in known:
        near = difflib.get_close_matches(name.lower(), [*known, *ALIASES], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown dataset {name!r}; there are {', '.join(known)}{hint}")
    return key


def reader(name: str) -> ModuleType:
    """The module of a dataset, with its constants; ConfigError as for find."""
    return importlib.import_module(f"{__name__}.{find(name)}")


def load(name: str, data_dir: str | os.PathLike = "", **options) -> Dataset:
    """Reads a dataset.

    Args:
      name: a key of `list_datasets()` or one of its aliases, in any case.
      data_dir: the folder that the owners' archive unpacks to, or what jaxiqa.prepare made of it; may stay empty for
        `sample` only.
      **options: of the dataset's own `load`.

    Raises:
      ConfigError: unknown name or option.
      DataError: the folder cannot be used; the message lists everything that is wrong with it.
    """
    key, read = find(name), reader(name).load
    allowed = [p for p in inspect.signature(read).parameters if p != "data_dir"]
    for option in options:
        if option not in allowed:
            near = difflib.get_close_matches(option, allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"dataset {key} has no option {option!r}; it has {', '.join(allowed)}{hint}")
    dataset = prepared.load(key, data_dir, options) if prepared.is_prepared(data_dir) else read(data_dir, **options)
    if not len(dataset):
        raise DataError(f"{key}: not one rated picture in {data_dir}")
    return dataset


def default_data_dir(name: str) -> str:
    """Where files that the program itself makes for a dataset go: $JAXIQA_CACHE/NAME, or ~/.cache/jaxiqa/NAME."""
    return os.path.join(prepared.cache_dir(), name)
