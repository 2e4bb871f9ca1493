"""Datasets by name: `load("kadid10k", data_dir)` returns a Dataset of Records.

A reader is a module of readers/, one for each dataset. It holds everything that is known about its dataset, so adding a
dataset is adding one file. No other code names a dataset. `fact` returns a fact of one reader, `facts` those of all.

A reader of another package is found by its dotted path ("mylab.clivex"), or by the short name under which an installed
package registers its module (entry point group jaxiqa.datasets). That path or short name is the key of the dataset.

A reader must have:
  CITATION, LICENSE, HOW_TO_GET: texts that say what to cite, the terms of use, and how to get the files.
  SCORE_RANGE: (lo, hi), the constants that map labels to 0..1.
  HIGHER_IS_BETTER: whether a higher label means better quality.
  load(data_dir, ...) -> Dataset: data_dir is the folder that HOW_TO_GET names. The other parameters are the options of
    the dataset; each has a default. Most readers have the option allow_partial: it keeps the rows whose image exists,
    instead of refusing an incomplete folder. `load` raises a DataError that lists all faults: a wrong folder, missing
    or extra images or rows, bad labels.

It may declare these facts; FACTS holds their defaults:
  ALIASES: other spellings of its key in papers and toolboxes, in lower case.
  TITLE: its name in prose; by default its key.
  MARKERS: glob patterns, relative to its folder, of the files by which the folder is recognised.
  holds(folder) -> bool: whether a folder with one of MARKERS holds this dataset; needed if others share the markers.
  ANYONES: True if each user's folder holds other images. It is recognised only if no other dataset is.
  MADE_HERE: True if this package writes the image files. File sizes then depend on the version of a library.
  KNOWN: the numbers of the published dataset, a doctor.published.Known.
  PRACTICE: names of images on which raters practised. Some tables list them, but nobody trains or tests on them.
  SHARED_TYPES: {its name of a distortion: type 1..25 of the same distortion in KADID-10k}. SAQT can transfer the labels
    of these distortions to other images.
  PUBLIC_NAME: its name in SAQT's public files; by default its key.
  CATEGORIES: labels of the rating categories, if its records have histograms of ratings.
  look(dataset, folder, options) -> iterable of diagnosis.Finding: checks of its label files for known problems. The
    options are those of `load`, with its defaults.
  look_at_table(dataset, meta) -> iterable of Finding: the same for its table in the toolbox pyiqa, a meta_csv.Meta.
  cells(options) -> list of (type 1..25, level 1..5): the distortions that a training step may apply to its clean
    images. This function reads no file. None, the default, means that the step trains on the images as they are.
"""

import dataclasses
import importlib
import inspect
import os
import pkgutil
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from jaxiqa import plugins
from jaxiqa.datasets import prepared, readers
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import ConfigError, DataError, nearest, suggest
from jaxiqa.files import cache_dir

__all__ = [
    "Dataset", "Record", "default_data_dir", "default_options", "distorted_cells", "fact", "facts", "find",
    "kadid_types", "list_datasets", "load", "reader",
]  # fmt: skip

FACTS: dict[str, Any] = {
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
    "CATEGORIES": (),
    "look": lambda dataset, folder, options: (),
    "look_at_table": lambda dataset, meta: (),
    "cells": lambda options: None,
}


_NEEDS = ("load", "SCORE_RANGE", "HIGHER_IS_BETTER", "CITATION", "LICENSE", "HOW_TO_GET")


def list_datasets() -> list[str]:
    """The keys of all datasets, sorted: the readers of this package, and those that installed packages register."""
    return sorted({*_own(), *plugins.registered(plugins.DATASETS)})


def find(name: str) -> str:
    """Returns the key of a dataset, given its key or an alias in any case; a dotted path is its own key.

    Raises:
      ConfigError: the name is unknown; the message suggests the nearest known name.
    """
    key = name.lower()
    if key in _own():
        return key
    if plugins.is_path(name) or name in plugins.registered(plugins.DATASETS):
        return name
    aliases = {alias: key for key, spellings in facts("ALIASES").items() for alias in spellings}
    if key in aliases:
        return aliases[key]
    known = list_datasets()
    near = nearest(key, [*known, *aliases])
    raise ConfigError(
        f'there is no dataset "{name}"; {suggest(aliases.get(near, near) or key, known)}', code="unknown", key="dataset"
    )


def reader(name: str) -> ModuleType:
    """The module of a dataset, with its constants.

    Raises:
      ConfigError: as for find; or the reader is in another package and cannot be imported or is incomplete.
    """
    return _module(find(name))


def fact(key: str, name: str) -> Any:
    """Returns what the reader of one dataset declares, or the default.

    Args:
      key: key of the dataset. The default is returned for a key without a reader (a Dataset can exist without one),
        and for a module path that is not imported yet.
      name: name of the fact, a key of FACTS.
    """
    return getattr(_reader(key), name, FACTS[name])


def facts(name: str) -> dict[str, Any]:
    """Returns {key of a dataset: its fact} for all readers that declare this fact, sorted by key; imports all readers.

    A reader of another package that cannot be imported is left out.
    """
    found = {key: _reader(key) for key in list_datasets()}
    return {key: getattr(module, name) for key, module in found.items() if hasattr(module, name)}


def distorted_cells(options: Mapping) -> list[tuple[int, int]] | None:
    """Returns the (type, level) pairs that a training step draws for a dataset's clean images; None if it draws none.

    Args:
      options: `name` of the dataset and options of its `load`, as config.dataset has them.

    Raises:
      ConfigError: the name is unknown, or the options leave no pair.
    """
    return getattr(reader(options["name"]), "cells", FACTS["cells"])(options)


def kadid_types(dataset: str) -> dict[str, int]:
    """Returns {a dataset's name of a distortion: type 1..25 of the same distortion in KADID-10k}.

    Raises:
      ConfigError: the dataset declares no shared types.
    """
    shared = facts("SHARED_TYPES")
    if dataset not in shared:
        raise ConfigError(
            f"labels can be transferred from {', '.join(shared)}, not from {dataset}", code="value", key=dataset
        )
    return shared[dataset]


def load(name: str, data_dir: str | os.PathLike = "", **options) -> Dataset:
    """Reads a dataset.

    Args:
      name: a key of `list_datasets()` or one of its aliases, in any case.
      data_dir: the folder that the owners' archive unpacks to, or the folder or bucket that jaxiqa prepare wrote. Only
        `sample` needs none.
      **options: options of the dataset, the parameters of its reader's `load`.

    Raises:
      ConfigError: the name or an option is unknown.
      DataError: the folder cannot be used; the message lists everything that is wrong with it.
    """
    key = find(name)
    allowed = default_options(key)
    for option in options:
        if option not in allowed:
            raise ConfigError(
                f'dataset {key} has no option "{option}"; {suggest(option, allowed)}', code="unknown", key=option
            )
    if prepared.is_prepared(data_dir):
        dataset = prepared.load(key, data_dir, options)
    else:
        dataset = reader(key).load(data_dir, **options)
        if key not in _own():  # another package's reader may use any name
            dataset = dataclasses.replace(dataset, name=key)
    if not len(dataset):
        raise DataError(f"{key}: {data_dir} has no rated image", code="empty", key=data_dir)
    return dataset


def default_options(name: str) -> dict[str, Any]:
    """Returns {option: default} of a dataset's `load`. Raises ConfigError as for `reader`."""
    parameters = inspect.signature(reader(name).load).parameters
    return {option: p.default for option, p in parameters.items() if option != "data_dir"}


def default_data_dir(name: str) -> str:
    """The folder for files that this package makes for a dataset: $JAXIQA_CACHE/NAME, or ~/.cache/jaxiqa/NAME."""
    return os.path.join(cache_dir(), name)


def _own() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(readers.__path__)]


def _module(key: str) -> ModuleType:
    if key in _own():
        return importlib.import_module(f"{readers.__name__}.{key}")
    point = plugins.registered(plugins.DATASETS).get(key)
    return plugins.load_module(point.value if point else key, f'dataset "{key}"', _NEEDS)


def _reader(key: str) -> ModuleType | None:
    """Returns the reader of this key, or None if there is none. A module path is not imported."""
    if plugins.is_path(key):
        return sys.modules.get(key)
    try:
        return _module(key) if key in list_datasets() else None
    except ConfigError:  # the reader of another package cannot be imported
        return None
