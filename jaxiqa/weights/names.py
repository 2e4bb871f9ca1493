"""Name tables: how the tensors of a foreign weight file correspond to our parameter trees.

A model's file holds its table as `NAMES = {"mapped": ((foreign, ours, kind), ...), "carried": (regex, ...)}`. `foreign`
and `ours` are templates that share placeholders ("blocks.{i}.norm1" <-> "block{i}/norm1"). The kind says which tensors
a layer has and the layout of each:

  same        one tensor, unchanged
  matrix      one tensor (out, in) -> (in, out)
  linear      weight (out, in) -> kernel (in, out); bias
  conv        weight (out, in, h, w) -> kernel (h, w, in, out); bias
  norm        weight -> scale; bias
  batch_norm  norm, and running_mean, running_var -> batch_stats mean, var; num_batches_tracked is carried

A table may also have `"legacy": ((regex, replacement), ...)`, which turns the names of older files into current ones,
and `"unbuilt": {variant: {prefix: backbone, name: shape}}`, tensors that are in public files but not in our graph: all
those of a backbone, or one by its name.
`"classifier": layer` in a backbone's table is the layer that a weight file may lack, or have for other classes.
"""

import dataclasses
import re

import numpy as np

# kind -> (foreign suffix, our collection, our suffix, axes of the transpose from the foreign tensor to ours)
_KINDS = {
    "same": (("", "params", "", None),),
    "matrix": (("", "params", "", (1, 0)),),
    "linear": ((".weight", "params", "/kernel", (1, 0)), (".bias", "params", "/bias", None)),
    "conv": ((".weight", "params", "/kernel", (2, 3, 1, 0)), (".bias", "params", "/bias", None)),
    "norm": ((".weight", "params", "/scale", None), (".bias", "params", "/bias", None)),
}
_KINDS["batch_norm"] = (
    *_KINDS["norm"],
    (".running_mean", "batch_stats", "/mean", None),
    (".running_var", "batch_stats", "/var", None),
)
COUNTER = "num_batches_tracked"  # PyTorch's own bookkeeping; no graph uses it


@dataclasses.dataclass(frozen=True)
class Rule:
    """The correspondence of one tensor, with placeholders."""

    foreign: str
    ours: str
    axes: tuple[int, ...] | None

    def to_ours(self, name: str) -> str | None:
        """Returns our path ("params/...") for a foreign name; None if the rule does not apply."""
        return _translate(self.foreign, self.ours, name)

    def to_foreign(self, path: str) -> str | None:
        """Returns the foreign name for our path; None if the rule does not apply."""
        return _translate(self.ours, self.foreign, path)

    def import_array(self, array: np.ndarray) -> np.ndarray:
        """Returns the foreign tensor in our layout; unchanged if it has another number of dimensions."""
        return array.transpose(self.axes) if self.axes and array.ndim == len(self.axes) else array

    def export_array(self, array: np.ndarray) -> np.ndarray:
        """Returns our array in the foreign layout."""
        return array if self.axes is None else array.transpose(np.argsort(self.axes))


def _translate(source: str, target: str, name: str) -> str | None:
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[A-Za-z0-9]+)", re.escape(source))
    match = re.fullmatch(pattern, name)
    return target.format(**match.groupdict()) if match else None


def current(table: dict, name: str) -> str:
    """Returns the current name of a tensor that has another name in older files."""
    for pattern, replacement in table.get("legacy", ()):
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name, count=1)
    return name


def rules(table: dict) -> list[Rule]:
    """Returns the rules of a NAMES table, one for each tensor of each layer."""
    return [
        Rule(foreign + suffix, f"{collection}/{ours}{ours_suffix}", axes)
        for foreign, ours, kind in table["mapped"]
        for suffix, collection, ours_suffix, axes in _KINDS[kind]
    ]


def is_carried(table: dict, name: str) -> bool:
    """Whether a tensor is kept beside the parameters because our graph does not use it."""
    return name.split(".")[-1] == COUNTER or any(re.fullmatch(pattern, name) for pattern in table["carried"])
