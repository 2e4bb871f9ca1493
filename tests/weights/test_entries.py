"""The weights are found wherever they lie in a checkpoint, whatever is beside them."""

import argparse
import collections
import datetime
import enum
import pathlib
import pickle
import random

import numpy as np
import pytest
import torch_writer as w
from refused import refused

from jaxiqa.errors import CheckpointError
from jaxiqa.weights.files import read_file, read_tensors

FOUR = np.arange(4, dtype=np.float32)
CONTAINERS = {"zip": w.zip_file, "legacy": w.legacy_file}
WEIGHTS = w.mapping({"a": w.tensor()})
OTHER = w.mapping({"b": w.tensor(), "c": w.tensor()})
ONE = w.tensor(shape=(), strides=())
MOMENTS = w.mapping({"exp_avg": w.tensor()})


def plain(items):
    return w.mapping(items, ordered=False)


def numbered(items):
    return b"}(" + b"".join(w.integer(k) + v for k, v in items.items()) + b"u"


def record(module, name, state=b"}", items=None):
    """An object of a class that is not installed: a mapping if it has items."""
    return w.name(module, name) + b")\x81" + (b"(" + items + b"u" if items else b"") + state + b"b"


class Mode(enum.Enum):
    FAST = 1


BESIDE = {
    "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("runs/a"), mode=Mode.FAST),
    "history": np.array([0.5, 0.8]),
    "best": np.float64(0.8),
    "rng": np.random.default_rng(0),
    "python_rng": random.getstate(),
    "path": pathlib.PureWindowsPath("c:/x"),
    "when": datetime.datetime(2026, 1, 2),
    "counter": collections.Counter("abc"),
    "lists": collections.defaultdict(list, a=[1]),
    "queue": collections.deque([1, 2], 5),
    "keys": {(1, "a"): 1, Mode.FAST: 2, np.int64(3): 4},
    "array": bytearray(b"ab"),
    "function": datetime.timedelta.total_seconds,
    "slice": slice(1, 2),
    "complex": 1j,
}


def read(tmp_path, body, key=None, container=w.zip_file):
    (tmp_path / "file").write_bytes(container(body))
    return read_file(tmp_path / "file", key)


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_objects_beside_the_weights_are_passed_over(tmp_path, container, protocol):
    """Objects as Python pickles them; then classes of packages that are not installed."""
    beside = {name: pickle.dumps(value, protocol)[2:-1] for name, value in BESIDE.items()}
    for name, data in beside.items():
        found = read(tmp_path, plain({name: data, "state_dict": WEIGHTS}), container=container)
        assert (found.entry, list(found.tensors)) == ("state_dict", ["a"]), name
    beside = {
        "hyper_parameters": record("lightning.parsing", "AttributeDict", items=w.text("lr") + b"K\1"),
        "config": record("omegaconf.dictconfig", "DictConfig", plain({"_content": plain({"x": b"K\1"})})),
        "criterion": record(
            "lab.losses", "Loss", plain({"_parameters": w.mapping({"w": w.tensor()}), "_modules": b"}"})
        ),
        "half": w.name("lab", "function"),
        "optimizer": plain({"state": numbered({0: MOMENTS, 1: MOMENTS}), "param_groups": w.sequence(b"}")}),
        "epoch": ONE,
    }
    found = read(tmp_path, plain(beside | {"state_dict": WEIGHTS}), container=container)
    assert found.entry == "state_dict" and list(found.tensors) == ["a"]
    classes = ["lab.function", "lab.losses.Loss", "lightning.parsing.AttributeDict", "omegaconf.dictconfig.DictConfig"]
    assert found.unknown == classes


# checkpoint -> the entry that is read
FOUND = {
    "top": (WEIGHTS, "."),
    "nested": (plain({"a": plain({"b": plain({"c": WEIGHTS})})}), "a.b.c"),
    "in a list": (w.sequence(b"K\1", plain({"net": WEIGHTS})), "1.net"),
    "in a tuple": (w.group(WEIGHTS, b"K\1"), "0"),
    "in a mapping of another class": (
        record("easydict", "EasyDict", items=w.text("net") + record("lab", "Dict", items=w.text("a") + w.tensor())),
        "net",
    ),
    "in a dataclass": (record("lab", "State", plain({"model": WEIGHTS, "step": b"K\1"})), "model"),
    "usual name": (plain({"ema": OTHER, "model": WEIGHTS}), "model"),
    "usual name, nearest to the top": (plain({"teacher": plain({"model": OTHER}), "model": WEIGHTS}), "model"),
    "usual name in each": (plain({"ema": plain({"state_dict": OTHER}), "model": plain({"state_dict": WEIGHTS})}),
                           "model.state_dict"),
    "averaged": (plain({"state_dict_ema": OTHER, "weights": WEIGHTS}), "weights"),
    "averaged in a callback": (plain({"callbacks": plain({"EMA": plain({"w": OTHER})}), "x": WEIGHTS}), "x"),
    "averaged only": (plain({"ema": WEIGHTS, "epoch": b"K\1"}), "ema"),
    "optimiser": (plain({"optimizer": plain({"state": numbered({0: OTHER})}), "x": WEIGHTS}), "x"),
    "optimiser of another name": (plain({"solver": plain({"state": numbered({0: OTHER})}), "x": WEIGHTS}), "x"),
    "single values": (plain({"loss": ONE, "scores": plain({"best": ONE}), "x": WEIGHTS}), "x"),
    "beside a whole model": (plain({"net": record("lab", "Net", plain({"_modules": b"}"})), "x": WEIGHTS}), "x"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_the_weights_are_found(tmp_path, name):
    body, entry = FOUND[name]
    found = read(tmp_path, body)
    assert (found.entry, list(found.tensors)) == (entry, ["a"])


def test_key_chooses(tmp_path):
    both = plain({"student": plain({"net": WEIGHTS}), "teacher": plain({"net": OTHER, "epoch": b"K\1"}), "x": ONE})
    with refused(CheckpointError, "missing", None, "--key", "student.net (1 tensors), teacher.net (2 tensors)"):
        read(tmp_path, both)
    assert read_file(tmp_path / "file", may_be_several=True).entries == {".": 1, "student.net": 1, "teacher.net": 2}
    for key in ("teacher", "teacher.net"):
        assert list(read(tmp_path, both, key).tensors) == ["b", "c"]
    assert list(read(tmp_path, both, ".").tensors) == ["x"]
    for key in ("epoch", "net", "teach", ""):
        with refused(CheckpointError, "not_found", None, repr(key)):
            read(tmp_path, both, key)


def test_one_dict_under_two_names(tmp_path):
    body = w.call(w.name("lab", "pair"), WEIGHTS + b"q\1") + plain({"x": b"h\1", "y": b"h\1"})
    found = read(tmp_path, b"](" + body + b"e", "1.y")
    assert found.entry == "1.y" and found.entries["1.x"] == 1


def test_no_weights(tmp_path):
    whole = record("lab.nets", "Net", plain({"_parameters": WEIGHTS, "_modules": b"}"}))
    for body in (whole, plain({"epoch": b"K\1", "model": whole}), w.sequence(whole)):
        with refused(CheckpointError, "format", None, "lab.nets.Net", "state_dict"):
            read(tmp_path, body)
    for body in (b"}", w.mapping({}), b"K\1", plain({"a": b"K\1"})):
        with refused(CheckpointError, "format", None, "no named tensors", "state_dict"):
            read(tmp_path, body)


def numpy_array(array, protocol, fortran=False):
    return pickle.dumps(np.asfortranarray(array) if fortran else array, protocol)[2:-1]


@pytest.mark.parametrize("function", ["_rebuild_device_tensor_from_numpy", "_rebuild_xla_tensor"])
@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool"])
def test_tensors_of_a_tpu_are_read(tmp_path, function, protocol, dtype):
    array = np.array([[0, 1, 2], [3, 4, 200]]).astype(dtype)
    for value in (array, array.T, array[0, 1], array[:0]):
        data = numpy_array(np.asarray(value), protocol)
        body = w.mapping({"a": w.call(w.name("torch._utils", function), data, w.text(dtype), w.text("xla:0"), b"\x89")})
        found = read(tmp_path, body).tensors["a"]
        np.testing.assert_array_equal(found, value, strict=True)


def test_tensors_in_wrappers(tmp_path):
    """A tensor with attributes, a subclass, and a tensor of a device that was copied to the CPU."""
    build = w.name("torch._utils", "_rebuild_tensor_v2")
    arguments = w.group(w.storage(), b"K\0", w.group(b"K\4"), w.group(b"K\1"), b"\x89", w.mapping({}))
    subclass = w.call(w.name("torch._tensor", "_rebuild_from_type_v2"), build, w.name("lab", "Sub"), arguments, b"}")
    device = w.call(w.name("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"), w.tensor(), b"N", w.text("xla:0"))
    found = read(tmp_path, w.mapping({"a": subclass, "b": device})).tensors
    np.testing.assert_equal(found, {"a": FOUR, "b": FOUR})


def test_what_is_not_read_beside_the_weights_does_no_harm(tmp_path):
    sparse = w.call(w.name("torch._utils", "_rebuild_sparse_tensor"), b"N")
    body = plain({"mask": plain({"m": sparse}), "state_dict": WEIGHTS})
    assert list(read(tmp_path, body).tensors) == ["a"]
    with refused(CheckpointError, "format", None, "m is sparse"):
        read(tmp_path, body, "mask")


def test_shards(tmp_path):
    for name, names in (("1.bin", ("a", "b")), ("2.bin", ("c",))):
        (tmp_path / name).write_bytes(w.zip_file(w.mapping({n: w.tensor() for n in names})))
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text('{"metadata": {}, "weight_map": {"a": "1.bin", "b": "1.bin", "c": "2.bin"}}')
    np.testing.assert_equal(read_tensors(index), {"a": FOUR, "b": FOUR, "c": FOUR})
    index.write_text('{"weight_map": {"a": "1.bin", "d": "2.bin"}}')
    with refused(CheckpointError, "damaged", index, "d"):
        read_tensors(index)
    index.write_text('{"weight_map": {"a": "1.bin", "d": "3.bin"}}')
    with refused(CheckpointError, "not_found", None, "3.bin"):
        read_tensors(index)
