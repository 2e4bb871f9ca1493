"""What lies on disk: one file per dataset, found by its name. `load("kadid10k", data_dir)` gives a Dataset of Records.

A reader is a module of this folder that has HOW_TO_GET. It holds everything that is known of its dataset, so adding a
dataset is adding one file. No other code names a dataset: it asks `fact` for one dataset and `facts` for all of them.

A reader has:
  CITATION, LICENSE, HOW_TO_GET: what to cite, whose terms hold, and how to get the files; texts.
  SCORE_RANGE: (lo, hi), the constants that map labels to 0..1.
  HIGHER_IS_BETTER: the direction of the labels.
  load(data_dir, ...) -> Dataset: data_dir is the folder that HOW_TO_GET names. The other parameters are the options of
    the dataset, each with a default. The option allow_partial, which most have, keeps the rows whose image is there,
    instead of refusing a folder that is not whole.
    A DataError lists all that is wrong: the wrong folder, missing or extra images or rows, bad labels.

It may have these facts; FACTS holds their defaults:
  ALIASES: other spellings of its key in papers and toolboxes, in lower case.
  TITLE: what prose calls it; by default its key.
  MARKERS: files that tell its folder, relative to it; glob patterns.
  holds(folder) -> bool: whether a folder with one of MARKERS is of this dataset, if others have the same markers.
  ANYONES: True if every folder is other images. Such a dataset is recognised only if no other one is.
  MADE_HERE: True if this package encodes the images. Their sizes then depend on the version of a library.
  KNOWN: known.Known, the numbers of the owners' release.
  PRACTICE: names of images that raters practised on. Tables of others list them, though nobody trains or tests on them.
  SHARED_TYPES: {its name of a distortion: type 1..25 of the same one in KADID-10k}. It can then lend its labels to
    images that are distorted here.
  PUBLIC_NAME: what SAQT's public files call it; by default its key.
  FIXES: {how a fault that `load` reports begins: what to do about it}.
  look(dataset, folder, options) -> iterable of diagnosis.Finding: what is known to go wrong with its label files. The
    options are those of `load`, with its defaults.
  look_at_table(dataset, meta) -> iterable of Finding: the same for the toolbox pyiqa's table of it, a meta_csv.Meta.
  cells(options) -> list of (type 1..25, level 1..5): the distortions that a training step may give to its clean images.
    It reads no file. None, the default, says that the step trains on the images as they are.
"""

import difflib
import importlib
import inspect
import os
import pkgutil
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from jaxiqa.datasets import prepared
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import ConfigError, DataError

__all__ = [
    "Dataset", "Record", "default_data_dir", "default_options", "distorted_cells", "fact", "facts", "find",
    "kadid_types", "list_datasets", "load", "reader",
]  # fmt: skip

FACTS = {
    "ALIASES": (),
    "TITLE": "",
    "MARKERS": (),
    "holds": lambda folder: True,
    "ANYONES": False,
    "MADE_HERE": False,
    "KNOWN": None,
    "PRACTICE": (),
    "SHARED_TYPES": {},
    "PUBLIC_NAME": "",
    "FIXES": {},
    "look": lambda dataset, folder, options: (),
    "look_at_table": lambda dataset, meta: (),
    "cells": lambda options: None,
}


def list_datasets() -> list[str]:
    """Keys of all datasets: the names of the readers."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if hasattr(_module(m.name), "HOW_TO_GET"))


def find(name: str) -> str:
    """The key of a dataset by its key or an alias, in any case; ConfigError with the nearest for an unknown name."""
    key = name.lower()
    if _reader(key):  # imports no other reader
        return key
    aliases = {alias: key for key, spellings in facts("ALIASES").items() for alias in spellings}
    if key in aliases:
        return aliases[key]
    known = list_datasets()
    raise ConfigError(f"unknown dataset {name!r}; there are {', '.join(known)}{did_you_mean(key, [*known, *aliases])}")


def reader(name: str) -> ModuleType:
    """The module of a dataset, with its constants; ConfigError as for find."""
    return _module(find(name))


def fact(key: str, name: str) -> Any:
    """What the reader of one dataset declares.

    Args:
      key: of the dataset. A Dataset that no reader made may have another one, to which the default belongs.
      name: of the fact, one of FACTS.
    """
    return getattr(_reader(key), name, FACTS[name])


def facts(name: str) -> dict[str, Any]:
    """{key: what its reader declares} of all readers that declare a fact, sorted by key; imports all readers."""
    return {key: getattr(_module(key), name) for key in list_datasets() if hasattr(_module(key), name)}


def distorted_cells(options: Mapping) -> list[tuple[int, int]] | None:
    """The (type, level) pairs that a training step draws for the clean images of a dataset; None if it distorts none.

    Args:
      options: `name` of the dataset and options of its `load`, as config.dataset has them.

    Raises:
      ConfigError: unknown name, or options that name no pair.
    """
    return fact(find(options["name"]), "cells")(options)


def kadid_types(dataset: str) -> dict[str, int]:
    """{what a dataset calls a distortion: number 1..25 of the same in KADID-10k}.

    Raises:
      ConfigError: a dataset that shares none, or of which that is not known.
    """
    shared = facts("SHARED_TYPES")
    if dataset not in shared:
        raise ConfigError(f"labels can be transferred from {', '.join(shared)}, not from {dataset}")
    return shared[dataset]


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
    key = find(name)
    allowed = default_options(key)
    for option in options:
        if option not in allowed:
            near = did_you_mean(option, allowed)
            raise ConfigError(f"dataset {key} has no option {option!r}; it has {', '.join(allowed)}{near}")
    if prepared.is_prepared(data_dir):
        dataset = prepared.load(key, data_dir, options)
    else:
        dataset = reader(key).load(data_dir, **options)
    if not len(dataset):
        raise DataError(f"{key}: not one rated picture in {data_dir}")
    return dataset


def default_options(name: str) -> dict[str, Any]:
    """{option: default} of a dataset's `load`; ConfigError as for find."""
    parameters = inspect.signature(reader(name).load).parameters
    return {option: p.default for option, p in parameters.items() if option != "data_dir"}


def default_data_dir(name: str) -> str:
    """Where files that the program itself makes for a dataset go: $JAXIQA_CACHE/NAME, or ~/.cache/jaxiqa/NAME."""
    return os.path.join(prepared.cache_dir(), name)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: "; did you mean 'x'?", or "" if no known one is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def _reader(key: str) -> ModuleType | None:
    """The reader of this name, if there is one."""
    if all(key != m.name for m in pkgutil.iter_modules(__path__)):  # "" and "a.b" are not modules of this folder
        return None
    return _module(key) if hasattr(_module(key), "HOW_TO_GET") else None
