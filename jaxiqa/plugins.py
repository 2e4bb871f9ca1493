"""Loads code from outside jaxiqa: modules by dotted path, or by short names that packages register as entry points.

A name with a dot is a module path, e.g. "mylab.net". Such a module is imported only if the user names it: in the
current config, in an argument, or with --allow. A name in a file (a checkpoint's card or config) does not cause an
import: `refuse_unnamed` is called first.
"""

import importlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any, NoReturn

from jaxiqa.errors import CheckpointError, ConfigError, printable

MODELS, DATASETS = "jaxiqa.models", "jaxiqa.datasets"  # groups of entry points


def is_path(name: str) -> bool:
    """Whether a name is the path of a module outside jaxiqa."""
    return "." in name


def registered(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Returns {short name: entry point} of all installed packages. Imports nothing."""
    points = sorted(importlib.metadata.entry_points(group=group), key=lambda point: (point.name, point.value))
    return {point.name: point for point in reversed(points)}


def load_module(path: str, whose: str, needs: Sequence[str] = ()) -> ModuleType:
    """Imports the module at a dotted path.

    Args:
      path: path of the module, e.g. "mylab.net".
      whose: subject of the error message, e.g. 'the model "mylab.net"'.
      needs: names that the module must define.

    Raises:
      ConfigError: the module cannot be imported, or lacks a name.
    """
    try:
        module = importlib.import_module(path)
    except Exception as error:  # the module's code may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        no = "there is no " if isinstance(error, ModuleNotFoundError) else ""
        raise ConfigError(
            f"{no}{whose}: {printable(path)} cannot be imported ({reason}); install its package, or add the folder "
            "that holds it to PYTHONPATH",
            code="package",
            key=path,
        ) from error
    if missing := [name for name in needs if not hasattr(module, name)]:
        where = getattr(module, "__file__", None) or path
        raise ConfigError(f"{whose}: {where} must define {', '.join(missing)}", code="unknown", key=path)
    return module


def load_object(path: str, whose: str) -> Any:
    """Imports an object by its path: "mylab.losses:emd" is the attribute `emd` of the module `mylab.losses`.

    Args:
      path: MODULE:NAME.
      whose: subject of the error message, e.g. 'the metric "mylab.metrics:ccc"'.

    Raises:
      ConfigError: the path has another form, the module cannot be imported, or it lacks the attribute.
    """
    module, colon, name = path.partition(":")
    if not colon or not module or not name.isidentifier():
        raise ConfigError(
            f'{whose}: "{path}" must be written as MODULE:NAME, e.g. mylab.losses:emd', code="value", key=path
        )
    return getattr(load_module(module, whose, (name,)), name)


def package_of(name: str, group: str) -> str:
    """Returns the installed package that provides a model or dataset; "" for jaxiqa's own names."""
    point = registered(group).get(name)
    if point and point.dist:
        return point.dist.name
    if not is_path(name):
        return ""
    top = name.partition(".")[0]
    return next(iter(importlib.metadata.packages_distributions().get(top, ())), top)


def refuse_unnamed(name: str, group: str, allow: Iterable[str], where: str, package: str = "") -> None:
    """Raises CheckpointError if a file names a module path that the user has not allowed. Imports nothing.

    A path is allowed if `allow` has it or a package above it, or if an installed entry point of the group registers it.

    Args:
      name: name of a model or dataset, from the file.
      group: MODELS or DATASETS.
      allow: packages and modules, e.g. ["mylab"].
      where: start of the error message, e.g. "checkpoint workdir/mine is of the model".
      package: name of the package to install, from the file; default: the first part of the path.
    """
    if not is_path(name) or any(one and (name == one or name.startswith(f"{one}.")) for one in allow):
        return
    if any(point.value == name for point in registered(group).values()):
        return
    raise CheckpointError(f"{where} {printable(name)}, {_remedy(name, package)}", code="unsafe", key=name)


def refuse_missing(name: str, where: str, package: str, error: ConfigError) -> NoReturn:
    """Raises CheckpointError for a model or dataset that a file names and that cannot be loaded.

    Args:
      name, where, package: as for refuse_unnamed.
      error: the error of the attempt to load it.
    """
    remedy = f", {_remedy(name, package)}" if package or is_path(name) else ""
    cause = error.__cause__ or error
    raise CheckpointError(
        f"{where} {printable(name)}{remedy} ({printable(str(cause))})",
        code="package" if remedy else error.code,
        key=name,
    ) from error


def _remedy(name: str, package: str) -> str:
    top = printable(name.partition(".")[0])
    allow = f", and allow it: --allow {top}" if is_path(name) else ""
    return f"which is not part of jaxiqa; if you trust it, install the package {printable(package) or top}{allow}"
