"""Finds what training programs put before a model's names: "module.", "model.backbone.", "_orig_mod." and so on.

A prefix is not guessed from a list. It is what stands before the names that the model has.
"""

import collections
import itertools
from collections.abc import Container, Iterable

from jaxiqa.weights import names

# Parts that wrappers of PyTorch (DataParallel, torch.compile, FSDP, activation checkpoints) put anywhere in a name.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def bare_names(table: dict, wanted: Container[str], foreign: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Removes wrappers, and the prefix under which most of the wanted names are.

    Args:
      table: the NAMES of a model file.
      wanted: PyTorch names of all tensors of the model.
      foreign: the names in a file.

    Returns:
      (prefix, {name in the file: name without prefix and wrappers}). Names that do not have the prefix keep theirs.
    """
    plain = {name: _unwrapped(table, wanted, name) for name in foreign}
    reached = collections.defaultdict(set)  # prefix -> the wanted names that are found under it
    for name in plain.values():
        parts = name.split(".")
        for i in range(len(parts)):
            rest = names.current(table, ".".join(parts[i:]))
            if rest in wanted:
                reached["".join(f"{part}." for part in parts[:i])].add(rest)
    best = max(reached, key=lambda prefix: (len(reached[prefix]), -len(prefix)), default="")
    prefix = best if len(reached[best]) > len(reached[""]) else ""
    return prefix, {name: bare.removeprefix(prefix) for name, bare in plain.items()}


def common_prefix(names: Iterable[str]) -> str:
    """Returns the parts with which all names begin, e.g. "model.backbone."; "" if there are none."""
    ordered = sorted(name.split(".")[:-1] for name in names)
    pairs = zip(ordered[0], ordered[-1], strict=False) if ordered else ()
    return "".join(f"{one}." for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _unwrapped(table: dict, wanted: Container[str], name: str) -> str:
    if names.current(table, name) in wanted:
        return name
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS) or name
