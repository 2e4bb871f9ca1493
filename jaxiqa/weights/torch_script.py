"""TorchScript archives (torch.jit.save) as state_dicts.

Such an archive holds a module as data (data.pkl, data/N) and its code (code/, constants.pkl). The data is read like
that of torch.save: an instance of a class below `__torch__` is an inert record of attributes. The code is not read.
"""

from collections.abc import Collection, Mapping
from typing import cast

from jaxiqa.errors import CheckpointError
from jaxiqa.inert_pickle import Record
from jaxiqa.weights.torch_pickle import Tensor, Unread

CLASSES = "__torch__."  # the module path of all classes that a TorchScript archive defines
CODE = "code/"  # the folder of their code


def is_script(prefix: str, names: Collection[str]) -> bool:
    """Whether a zip file of PyTorch is a TorchScript archive; `prefix` is its folder with a slash."""
    return prefix + "constants.pkl" in names or any(name.startswith(prefix + CODE) for name in names)


def state_dict(tree: object) -> Mapping[str, Tensor | Unread]:
    """Returns {name: tensor} of the module in data.pkl; names of submodules are joined with dots, as in PyTorch.

    Raises:
      CheckpointError: the module has no tensors.
    """
    tensors: dict[str, Tensor | Unread] = {}
    seen, todo = set(), [("", tree)]
    while todo:
        prefix, node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        members = _attributes(node)
        tensors |= {prefix + name: value for name, value in members.items() if type(value) in (Tensor, Unread)}
        todo += [(f"{prefix}{name}.", value) for name, value in reversed(members.items()) if isinstance(value, Record)]
    if not tensors:
        raise CheckpointError(
            "it is a TorchScript archive whose module has no tensors (torch.jit.freeze puts them into the code): save "
            "module.state_dict() with torch.save in PyTorch",
            code="format",
        )
    return tensors


def _attributes(node: object) -> dict:
    is_module = isinstance(node, Record) and node.name.startswith(CLASSES) and isinstance(node.state, dict)
    return cast(dict, cast(Record, node).state) if is_module else {}
