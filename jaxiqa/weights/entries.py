"""Finds the sets of named tensors in a checkpoint, wherever they lie, and chooses the weights among them.

An entry is a dict with tensors under string keys: a state_dict, averaged weights, the moments of an optimiser. Its name
is the path to it, joined with dots ("model.state_dict", "callbacks.EMA.ema_weights"); the top level is ".".
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxiqa.errors import CheckpointError, printable, suggest
from jaxiqa.inert_pickle import Record
from jaxiqa.weights.torch_pickle import Tensor, Unread

TOP = "."
_USUAL = (
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "params",
)  # names of the weights in a checkpoint, best first
_MAX_PART = 100
_MODULE = ("_parameters", "_buffers", "_modules")  # what every torch.nn.Module holds

Entries = Mapping[tuple[str, ...], dict[str, Tensor | Unread]]


def find(tree: Any) -> Entries:
    """Returns {path: {name: tensor}} of all entries. Each object is searched once; nothing recurses.

    Objects of unknown classes are searched if they are mappings, or hold attributes (a namespace, a dataclass). Whole
    modules are not: their tensors have no names of a state_dict.
    """
    found: dict[tuple[str, ...], dict[str, Tensor | Unread]] = {}
    if type(tree) in (list, tuple) and tree and all(type(v) in (Tensor, Unread) for v in tree):
        found[()] = {str(i): v for i, v in enumerate(tree)}
        return found
    seen: dict[int, dict[str, Tensor | Unread]] = {}  # id of each object -> its tensors
    todo: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    while todo:
        path, node = todo.pop()
        if id(node) in seen:
            if seen[id(node)]:
                found[path] = seen[id(node)]
            continue
        members = list(_members(node))
        tensors = {k: v for k, v in members if type(v) in (Tensor, Unread)}
        is_entry = tensors and isinstance(node, dict | Record) and all(type(k) is str for k in tensors)
        seen[id(node)] = tensors if is_entry else {}
        if is_entry:
            found[path] = tensors
        todo += [((*path, str(k)[:_MAX_PART]), v) for k, v in reversed(members) if _is_container(v)]
    return found


def choose(entries: Entries, key: str | None) -> tuple[str, ...] | None:
    """Returns the path of the weights; None if several entries may be meant.

    Optimiser states, entries of single values and averaged (EMA) weights are taken only if there is nothing else, or if
    `key` names them. Among the others, the usual name nearest to the top wins.

    Args:
      entries: of find.
      key: the name of an entry, or of a part of the checkpoint that holds the entry.

    Raises:
      CheckpointError: no entry has this name.
    """
    paths = list(entries)
    if key is not None:
        exact = [p for p in paths if name_of(p) == key]
        paths = exact or [p for p in paths if key and name_of(p).startswith(f"{key}.")]
        if not paths:
            hint = suggest(key, [name_of(p) for p in entries][:20])
            raise CheckpointError(f"it has no entry {key!r} with tensors; {hint}", code="not_found")
    small = {id(t): _is_small(t) for t in {id(t): t for t in entries.values()}.values()}
    for unlikely in (_is_optimizer, lambda p: small[id(entries[p])], _is_average):
        paths = [p for p in paths if not unlikely(p)] or paths
    for usual in _USUAL if len(paths) > 1 else ():
        named = [p for p in paths if p and p[-1] == usual]
        top = min(map(len, named), default=0)
        nearest = [p for p in named if len(p) == top]
        if len(nearest) == 1:
            return nearest[0]
        if nearest:
            break
    return paths[0] if len(paths) == 1 else None


def describe(counts: Mapping[str, int]) -> str:
    """Returns names of entries with their numbers of tensors: up to 20, and those of optimisers only if alone."""
    listed = [name for name in counts if not _is_optimizer(name.split("."))][:20] or list(counts)[:5]
    more = f" and {len(counts) - len(listed)} others" if len(counts) > len(listed) else ""
    return printable(", ".join(f"{name} ({counts[name]} tensors)" for name in listed) + more)


def refuse_none(tree: Any) -> CheckpointError:
    """Returns the error for a checkpoint without entries; it says what there is instead."""
    save = "save model.state_dict() with torch.save in PyTorch"
    for node in _walk(tree):
        if isinstance(node, Record) and _is_module(node):
            return CheckpointError(
                f"it holds a whole model of class {node.name[:200]}, and no state_dict: load it in PyTorch, and {save}",
                code="format",
            )
    return CheckpointError(f"it holds no named tensors: {save}", code="format")


def name_of(path: Sequence[str]) -> str:
    """Returns the name of an entry."""
    return ".".join(path) or TOP


def _members(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, dict):
        yield from node.items()
    elif type(node) in (list, tuple):
        yield from enumerate(node)
    elif isinstance(node, Record) and not _is_module(node):
        yield from (pair for pair in node.added if type(pair) is tuple and len(pair) == 2)
        yield from enumerate(node.args)
        states = node.state if type(node.state) is tuple else (node.state,)  # (attributes, attributes in slots)
        for state in states:
            if isinstance(state, dict):
                yield from state.items()


def _is_container(value: Any) -> bool:
    return isinstance(value, dict | Record) or type(value) in (list, tuple)


def _walk(tree: Any) -> Iterator[Any]:
    seen: set[int] = set()
    todo = [tree]
    while todo:
        node = todo.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            todo += [v for _, v in _members(node) if _is_container(v)]


def _is_module(record: Record) -> bool:
    return isinstance(record.state, dict) and any(name in record.state for name in _MODULE)


def _is_optimizer(path: Sequence[str]) -> bool:
    return any("optim" in part.lower() for part in path) or (list(path[-2:-1]) == ["state"] and path[-1].isdigit())


def _is_average(path: Sequence[str]) -> bool:
    words = {word for part in path for word in part.lower().replace("-", "_").split("_")}
    return bool(words & {"ema", "swa", "averaged", "avg"})


def _is_small(tensors: Mapping[str, Tensor | Unread]) -> bool:
    """Whether all tensors are single values: scores, counters and scales, not weights."""
    return all(type(t) is Tensor and math.prod(t.shape) == 1 for t in tensors.values())
