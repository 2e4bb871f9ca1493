"""Maps tensors with foreign names to a model's variables and back; the manifest records what became of each tensor."""

import collections
import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np
from etils import epath
from flax import traverse_util

from jaxiqa.errors import CheckpointError
from jaxiqa.models import create_model, find_model
from jaxiqa.version import __version__
from jaxiqa.weights import names, prefixes

MANIFEST = "manifest.json"  # beside a converted checkpoint
_LEFT_OUT = ("ignored", "dropped")


@dataclasses.dataclass(frozen=True)
class Imported:
    """The result of import_tensors."""

    variables: dict  # {"params": ..., "batch_stats": ...}, fp32 NumPy arrays in our layout
    carried: dict[str, np.ndarray]  # {foreign name: array}, unchanged: tensors that our graph does not use
    # One dict for each tensor, in the file's order: name, as (its current name without prefix), ours (path, "carried",
    # "ignored" or "dropped"), shape, dtype, transform, sha256 of its bytes.
    coverage: list[dict]
    prefix: str  # what was before the model's names in the file
    notes: list[str]  # lines about what was changed or left out


def abstract_leaves(name: str, variant: str | None) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns {"params/...": shape and type} of every variable of a model."""
    model = create_model(name, variant)
    images = jax.ShapeDtypeStruct((1, model.crop_size, model.crop_size, 3), np.float32)
    return traverse_util.flatten_dict(jax.eval_shape(model.init, jax.random.key(0), images), sep="/")


def import_tensors(
    name: str, tensors: Iterable[tuple[str, np.ndarray]], variant: str | None = None, ignore: Sequence[str] = ()
) -> Imported:
    """Converts tensors with PyTorch names to the variables of model `name`.

    Prefixes of the names are removed (jaxiqa/weights/prefixes.py). A position embedding of another grid is resized.
    Backbones do not need their classifier (NAMES["classifier"]): if it is missing or has another number of classes, the
    variables do not have it, as in a model with num_classes=0.

    Args:
      name, variant: as for create_model.
      tensors: pairs of PyTorch name and array in PyTorch's layout; each is released once it is converted.
      ignore: regular expressions; a tensor is left out if one of them matches its whole name, with or without prefix.
        The coverage lists it.

    Raises:
      CheckpointError: tensors are unknown, missing, duplicate, non-finite or of another shape. The message lists all.
    """
    table = find_model(name).NAMES
    rules, expected = names.rules(table), abstract_leaves(name, variant)
    pairs = list(tensors)[::-1]
    wanted = {foreign_name(rules, path): path for path in expected}
    used = [foreign for foreign, _ in reversed(pairs) if not _matches(ignore, foreign)]
    prefix, bare_names = prefixes.bare_names(table, wanted, used)
    loaded, carried, coverage, resized = {}, {}, [], []
    faults = collections.defaultdict(list)  # kind -> (current name, text) of each tensor
    while pairs:
        foreign, array = pairs.pop()
        array, bare = np.asarray(array), bare_names.get(foreign, foreign)
        current = names.current(table, bare)
        row = {"name": foreign, "as": current, "ours": "ignored", "shape": list(array.shape), "dtype": str(array.dtype)}
        row |= {"transform": "none", "sha256": _sha256(array)}
        coverage.append(row)
        if foreign not in bare_names or _matches(ignore, bare):
            continue
        found = next(((r, p) for r in rules if (p := r.to_ours(current)) is not None), None)
        if found is None or found[1] not in expected:
            if not names.is_carried(table, current):
                faults["unknown tensors"].append((current, foreign))
            elif current in carried:
                faults["duplicate tensors"].append((current, foreign))
            row["ours"], carried[current] = "carried", array
            continue
        rule, path = found
        row |= {"ours": path, "transform": f"transpose {rule.axes}" if rule.axes else "none"}
        if path in loaded:
            faults["duplicate tensors"].append((current, foreign))
            continue
        ours, shape = np.asarray(rule.import_array(array), dtype=np.float32, order="C"), expected[path].shape
        if not np.isfinite(ours).all():
            faults["tensors with NaN or infinite values"].append((current, foreign))
        elif is_other_grid(path, ours.shape, shape):
            row["transform"] = f"resized from {ours.shape[1]} to {shape[1]} tokens"
            resized.append(f"{foreign} was {row['transform']}")
            ours = resize_position_embedding(ours, shape[1])
        if ours.shape != shape:
            faults["tensors with another shape"].append((current, f"{foreign} {ours.shape} for {shape}"))
        loaded[path] = ours
    faults["missing tensors"] += [(foreign, foreign) for foreign, path in wanted.items() if path not in loaded]
    dropped = _drop_classifier(table.get("classifier"), faults, wanted, loaded, carried, coverage)
    problems = {kind: [text for _, text in faults[kind]] for kind in _FAULTS}
    refuse(f"these weights do not fit {name}", problems, name)
    variables = traverse_util.unflatten_dict(loaded, sep="/")
    return Imported(variables, carried, coverage, prefix, [*resized, *dropped])


_FAULTS = (
    *("unknown tensors", "missing tensors", "duplicate tensors", "tensors with another shape"),
    "tensors with NaN or infinite values",
)


def _drop_classifier(
    layer: str | None, faults: dict, wanted: Mapping, loaded: dict, carried: dict, coverage: list
) -> list[str]:
    """Drops the tensors of a classifier that does not fit, and their faults. Returns a note about it, if any."""

    def belongs(current: str) -> bool:
        return layer is not None and current.startswith(f"{layer}.")

    if not any(belongs(current) for kind in faults for current, _ in faults[kind] if "NaN" not in kind):
        return []
    for kind in faults:
        faults[kind] = [(current, text) for current, text in faults[kind] if not belongs(current)]
    for foreign, path in wanted.items():
        if belongs(foreign):
            loaded.pop(path, None)
    rows = [row for row in coverage if belongs(row["as"]) and row["ours"] != "ignored"]
    for row in rows:
        carried.pop(row["as"], None)
        row |= {"ours": "dropped", "transform": "none"}
    if not rows:
        return [f"the classifier {layer} is absent"]
    shapes = ", ".join(f"{row['name']} {tuple(row['shape'])}" for row in rows)
    return [f"the classifier {layer} is left out, because it is not that of this model: {shapes}"]


def _matches(patterns: Sequence[str], name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def is_other_grid(path: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether a parameter is a position embedding (1, tokens, D) for another number of tokens."""
    is_embedding = path.endswith("pos_embed") and len(shape) == len(expected) == 3
    return is_embedding and shape != expected and shape[::2] == expected[::2]


def resize_position_embedding(embedding_1ND: np.ndarray, tokens: int) -> np.ndarray:
    """Resizes a ViT's position embedding (1, 1 + n*n, D) to another grid: (1, tokens, D).

    The grid is resized as in timm (bicubic, antialiased). The part of the class token is not changed.

    Raises CheckpointError if one of the grids is not square.
    """
    old, new = (math.isqrt(max(n - 1, 0)) for n in (embedding_1ND.shape[1], tokens))
    if old * old + 1 != embedding_1ND.shape[1] or new * new + 1 != tokens:
        raise CheckpointError(
            f"a position embedding of {embedding_1ND.shape[1]} tokens cannot be resized to {tokens}: both grids must "
            "be square, with one class token",
            code="mismatch",
            key="pos_embed",
        )
    D = embedding_1ND.shape[2]
    grid = embedding_1ND[:, 1:].reshape(1, old, old, D)
    grid = jax.image.resize(grid, (1, new, new, D), "bicubic", antialias=True)
    return np.concatenate([embedding_1ND[:, :1], np.asarray(grid).reshape(1, new * new, D)], axis=1)


def export_tensors(
    name: str,
    variables: dict,
    variant: str,
    carried: Mapping[str, np.ndarray],
    coverage: Sequence[dict] = (),
    options: Mapping | None = None,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Converts a model's variables to tensors with PyTorch names; the inverse of import_tensors.

    Args:
      name, variant: of the model.
      variables: of the model, arrays of any kind.
      carried, coverage: of the import; they give the file's order, types and unchanged tensors. A model that was
        trained here has none: its carried tensors become zeros, so that PyTorch loads the file with strict=True.
      options: further arguments of create_model, for a model whose names depend on them.

    Returns:
      ({PyTorch name: array}, names of the carried tensors that were filled with zeros).

    Raises:
      CheckpointError: tensors of the coverage are neither in the variables nor carried. The message lists all of them.
    """
    module = find_model(name)
    table = module.names(options["of"]) if options and "of" in options else module.NAMES
    rules, tensors = names.rules(table), {}
    flat = traverse_util.flatten_dict({k: v for k, v in variables.items() if v}, sep="/")
    for path, array in flat.items():
        rule, foreign = next((r, f) for r in rules if (f := r.to_foreign(path)) is not None)
        tensors[foreign] = rule.export_array(np.asarray(array))
    if not coverage:
        zeros = {k: v for k, v in _unbuilt(name, variant, flat, rules).items() if k not in tensors}
        return tensors | zeros, sorted(zeros)
    tensors |= carried
    rows = {row["as"]: row for row in coverage if row["ours"] not in _LEFT_OUT}
    absent = [k for k in rows if k not in tensors]
    refuse("convert the weights again", {"tensors of the manifest are missing": absent}, name)
    dtypes = {k: jax.numpy.dtype(row["dtype"]) for k, row in rows.items()}  # JAX's knows bfloat16
    ordered = {k: np.asarray(tensors.pop(k), order="C").astype(dtypes[k], copy=False) for k in rows}
    return ordered | tensors, []


def _unbuilt(name: str, variant: str, flat: dict, rules) -> dict[str, np.ndarray]:
    """Returns zeros for the tensors that the public files have and our graph does not."""
    zeros = {}
    for path in flat:
        if path.startswith("batch_stats/") and path.endswith("/mean"):
            layer = foreign_name(rules, path).removesuffix(".running_mean")
            zeros[f"{layer}.{names.COUNTER}"] = np.zeros((), np.int64)
    for prefix, what in find_model(name).NAMES.get("unbuilt", {}).get(variant, {}).items():
        if isinstance(what, tuple):
            zeros[prefix] = np.zeros(what, np.float32)
            continue
        own = names.rules(find_model(what).NAMES)
        for path, leaf in abstract_leaves(what, None).items():
            rule, foreign = next((r, f) for r in own if (f := r.to_foreign(path)) is not None)
            zeros[prefix + foreign] = rule.export_array(np.zeros(leaf.shape, leaf.dtype))
    return zeros


def foreign_name(rules: list[names.Rule], path: str) -> str:
    """Returns the PyTorch name of a path; the path itself if no rule applies."""
    return next((f for rule in rules if (f := rule.to_foreign(path)) is not None), path)


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def refuse(what: str, problems: Mapping[str, Sequence[str]], key: str) -> None:
    """Raises CheckpointError about `key` with all items of {title: items}; does nothing if there are none."""
    if found := [f"{len(items)} {title}: {', '.join(items)}" for title, items in problems.items() if items]:
        raise CheckpointError(f"{what}: {'; '.join(found)}", code="mismatch", key=key)


def about_file(path: str | os.PathLike, sha256: str) -> dict:
    """Returns what MANIFEST says about a foreign file."""
    return {"file": os.path.basename(path), "sha256": sha256, "bytes": os.path.getsize(path)}


def make_manifest(source: str | os.PathLike, sha256: str, name: str, variant: str, licence: str, coverage) -> dict:
    """Returns the content of MANIFEST: where the weights come from, and Imported.coverage."""
    model, module = create_model(name, variant), find_model(name)
    kinds = (row["ours"] if row["ours"] in ("carried", *_LEFT_OUT) else "mapped" for row in coverage)
    keys = {"mean": module.MEAN, "std": module.STD, "crop_size": model.crop_size, "crops": module.TEST_CROPS}
    return {
        "source": about_file(source, sha256),
        "licence": licence,
        "paper": module.PAPER,
        "model": name,
        "variant": variant,
        "preprocessing": keys,
        "counts": {"mapped": 0, "carried": 0, "ignored": 0} | collections.Counter(kinds),
        "tensors": list(coverage),
        "jaxiqa": __version__,
    }


def read_manifest(folder: epath.Path) -> dict:
    """Reads the manifest of a converted checkpoint; {} if there is none (the model was trained here).

    Raises CheckpointError if the file is damaged.
    """
    path = epath.Path(folder) / MANIFEST
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); convert the weights again", code="damaged", key=path
        ) from error
