"""TorchScript archives are read as data. Their code is neither run nor looked at."""

import pathlib

import numpy as np
import pytest
import torch_writer as w
from refused import refused

from jaxiqa.errors import CheckpointError
from jaxiqa.weights.files import read_tensors

# torch.jit.save of torch 2.13.0 wrote it; files with debug information (.debug_pkl) were taken out. The module has a
# buffer `count`, a parameter that is None, lists, a Linear(3, 2) `head`, and `inner` with two parameters.
ARCHIVE = pathlib.Path(__file__).with_name("torchscript.pt")


def test_an_archive_of_torch():
    """The names, values and types of module.state_dict() in PyTorch."""
    expected = {
        "count": np.array(7),
        "head.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "head.bias": np.array([1, -1], np.float32),
        "inner.weights": np.arange(8, dtype=np.float32).reshape(1, 8) / 8,
        "inner.biases": np.float32(2.5),
    }
    tensors = read_tensors(ARCHIVE)
    assert tensors.keys() == expected.keys()
    for name, array in tensors.items():
        assert array.dtype == expected[name].dtype and array.shape == expected[name].shape
        np.testing.assert_array_equal(array, expected[name])


ONE = w.tensor()
ATTRIBUTES = {"training": b"\x88", "a": ONE, "sub": w.module({"b": ONE, "none": b"N"}, "__torch__.torch.nn.M")}
TAGGED = w.call(w.name("torch.jit._pickle", "restore_type_tag"), w.sequence(w.text("x")), w.text("List[str]"))


@pytest.mark.parametrize(
    ("attributes", "names"),
    [
        (ATTRIBUTES, ["a", "sub.b"]),
        ({"list": TAGGED, "a": ONE}, ["a"]),
        ({"deep": w.module({"er": w.module({"a": ONE})})}, ["deep.er.a"]),
    ],
)
def test_modules(tmp_path, attributes, names):
    (tmp_path / "m.pt").write_bytes(w.script_file(w.module(attributes)))
    tensors = read_tensors(tmp_path / "m.pt")
    assert list(tensors) == names
    assert all(np.array_equal(array, np.arange(4)) for array in tensors.values())
    assert not pathlib.Path(w.CANARY).exists()


def test_the_code_is_not_inflated(tmp_path):
    """An entry below code/ may claim any size and hold anything."""
    lies = {"x/code/__torch__.py": {"method": 8, "size": 2**31 - 1}}
    (tmp_path / "m.pt").write_bytes(w.script_file(w.module({"a": ONE}), both=lies))
    assert list(read_tensors(tmp_path / "m.pt")) == ["a"]


MADE = w.name("__torch__", "M") + b")\x81"  # an instance without a state
HOSTILE = {
    "a call": (w.module({"a": ONE, "x": w.call(w.name("os", "system"), w.COMMAND)}), "unsafe"),
    "a call as the state": (MADE + w.call(w.name("os", "system"), w.COMMAND) + b"b", "unsafe"),
    "no module": (w.mapping({"a": ONE}), "format"),
    "no tensors": (w.module({"training": b"\x88"}), "format"),
    "a module in itself": (MADE + b"q\x00}(" + w.text("me") + b"h\x00ub", "format"),
    "a state that is no dict": (MADE + b"K\x01b", "format"),
    "deep": (MADE + b"}" + (w.text("m") + MADE + b"}") * 600 + b"bs" * 600 + b"b", "unsafe"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives(tmp_path, case):
    body, code = HOSTILE[case]
    (tmp_path / "m.pt").write_bytes(w.script_file(body))
    with refused(CheckpointError, code, tmp_path / "m.pt"):
        read_tensors(tmp_path / "m.pt")
    assert not pathlib.Path(w.CANARY).exists()
