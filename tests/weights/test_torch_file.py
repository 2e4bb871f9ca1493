"""Weight files of every format are written and read back, in every dtype, wrapper and layout."""

import json
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch_writer as w
from refused import refused

from jaxiqa.errors import CheckpointError
from jaxiqa.weights.files import read_tensors, write_tensors

DTYPES = {n: np.dtype(ml_dtypes.bfloat16 if n == "bfloat16" else n) for n in w.CLASSES}
CONTAINERS = {"zip": w.zip_file, "legacy": w.legacy_file}
FOUR = np.arange(4, dtype=np.float32)


def samples():
    """Tensors of every dtype, an empty one and one without dimensions."""
    rng = np.random.default_rng(0)
    tensors = {f"layer.{name}": (10 * rng.standard_normal((2, 3, 5))).astype(d) for name, d in DTYPES.items()}
    return tensors | {"bn.num_batches_tracked": np.array(7), "none": np.zeros((0, 3), np.float32)}


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name
        assert found[name].flags.c_contiguous


def read(tmp_path, data, key=None):
    (tmp_path / "file").write_bytes(data)
    return read_tensors(tmp_path / "file", key)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_round_trip(tmp_path, suffix):
    path, again = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write_tensors(path, samples())
    assert_equal(read_tensors(path), samples())
    write_tensors(again, samples())
    assert path.read_bytes() == again.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2  # no temporary files are left


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    save(tmp_path / "a.npz", **samples())
    assert_equal(read_tensors(tmp_path / "a.npz"), samples())
    save(tmp_path / "b.npz", f=np.asfortranarray(np.arange(6.0).reshape(2, 3)), b=np.arange(3, dtype=">f4"))
    expected = {"f": np.arange(6.0).reshape(2, 3), "b": np.arange(3, dtype=np.float32)}
    assert_equal(read_tensors(tmp_path / "b.npz"), expected)


def test_written_files_are_aligned_and_plain(tmp_path):
    write_tensors(tmp_path / "a.pth", samples())
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        assert archive.testzip() is None
        data = (tmp_path / "a.pth").read_bytes()
        for info in archive.infolist():
            n_name, n_extra = struct.unpack("<HH", data[info.header_offset + 26 : info.header_offset + 30])
            assert info.compress_type == zipfile.ZIP_STORED
            assert (info.header_offset + 30 + n_name + n_extra) % 64 == 0


def test_arrays_of_any_layout_are_written(tmp_path):
    tensors = {"t": np.arange(6.0).reshape(2, 3).T, "big": np.arange(3, dtype=">i4"), "scalar": np.float32(2)}
    expected = {"t": tensors["t"].copy(), "big": np.arange(3, dtype=np.int32), "scalar": np.array(2, np.float32)}
    for name in ("a.pth", "a.safetensors"):
        write_tensors(tmp_path / name, tensors)
        assert_equal(read_tensors(tmp_path / name), expected)


@pytest.mark.parametrize(
    ("name", "tensors", "code", "value"),
    [
        ("a.bin", {"a": FOUR}, "format", "use .pth, .pt, .safetensors"),
        ("a", {"a": FOUR}, "format", "no extension"),
        ("a.pth", {"a": np.zeros(2, np.complex64)}, "mismatch", "complex64"),
        ("a.safetensors", {"a": np.zeros(2, np.complex64)}, "mismatch", "complex64"),
        ("a.pth", {"\udc80": FOUR}, "unwritable", "utf-8"),
        ("no/folder/a.pth", {"a": FOUR}, "unwritable", "No such file or directory"),
        ("file/a.pth", {"a": FOUR}, "unwritable", "Not a directory"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, tensors, code, value):
    (tmp_path / "file").touch()
    with refused(CheckpointError, code, tmp_path / name, value):
        write_tensors(tmp_path / name, tensors)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    write_tensors(tmp_path / "a.pth", {"a": FOUR})
    with refused(CheckpointError, "mismatch", tmp_path / "a.pth", "complex64"):
        write_tensors(tmp_path / "a.pth", {"a": np.zeros(2, np.complex64)})
    assert_equal(read_tensors(tmp_path / "a.pth"), {"a": FOUR})


@pytest.mark.parametrize("container", CONTAINERS)
class TestPyTorch:
    def test_every_dtype(self, tmp_path, container):
        arrays = {str(i): a for i, a in enumerate(samples().values())}
        body = w.mapping({name: w.whole(str(i), a) for i, (name, a) in enumerate(samples().items())})
        assert_equal(read(tmp_path, CONTAINERS[container](body, arrays)), samples())

    def test_views(self, tmp_path, container):
        """Slices, transposes and expansions of one storage."""
        base = np.arange(24, dtype=np.float32)
        views = {
            "slice": ((4, (3,), (2,)), base[4:10:2]),
            "transposed": ((0, (4, 6), (1, 4)), base.reshape(6, 4).T),
            "expanded": ((2, (3, 2), (1, 0)), np.repeat(base[2:5, None], 2, 1)),
            "one value": ((23, (1, 1), (10**30, 5)), base[None, 23:]),
            "none": ((24, (0,), (1,)), base[:0]),
            "last": ((23, (), ()), base[23]),
        }
        place = w.storage("k", 24)
        body = w.mapping({name: w.tensor(place, *view) for name, (view, _) in views.items()})
        expected = {name: np.array(array) for name, (_, array) in views.items()}
        assert_equal(read(tmp_path, CONTAINERS[container](body, {"k": base})), expected)

    @pytest.mark.parametrize("entry", ["state_dict", "model", "model_state_dict", "net", "params", "ema", "generator"])
    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
    def test_wrapped(self, tmp_path, container, entry, prefix):
        weights = w.mapping({f"{prefix}a.weight": w.tensor(), f"{prefix}module.b": w.tensor(), "epoch": b"K\x03"})
        optimizer = w.mapping({"state": b"}K\x00" + w.mapping({"exp_avg": w.tensor()}) + b"s", "lr": b"G" + bytes(8)})
        body = w.mapping(
            {"epoch": b"K\x05", "arch": w.text("x"), entry: weights, "optimizer": optimizer}, ordered=False
        )
        assert_equal(read(tmp_path, CONTAINERS[container](body)), {"a.weight": FOUR, "module.b": FOUR})

    def test_a_prefix_of_some_names_stays(self, tmp_path, container):
        body = w.mapping({"module.a": w.tensor(), "b": w.tensor()})
        assert list(read(tmp_path, CONTAINERS[container](body))) == ["module.a", "b"]

    def test_raw_weights_before_averaged_ones(self, tmp_path, container):
        five = {"0": FOUR, "1": FOUR + 1}
        raw, averaged = w.mapping({"a": w.tensor()}), w.mapping({"a": w.tensor(w.storage("1"))})
        for other in ("params_ema", "model_ema", "state_dict_ema", "ema"):
            for entry in ("params", "student"):
                data = CONTAINERS[container](w.mapping({other: averaged, entry: raw}), five)
                assert_equal(read(tmp_path, data), {"a": FOUR})
                assert_equal(read(tmp_path, data, other), {"a": FOUR + 1})

    def test_a_choice_is_the_users(self, tmp_path, container):
        both = {"student": w.mapping({"a": w.tensor()}), "teacher": w.mapping({"b": w.tensor()})}
        data = CONTAINERS[container](w.mapping(both))
        with refused(CheckpointError, "missing", tmp_path / "file", "student (1 tensors), teacher (1 tensors)"):
            read(tmp_path, data)
        assert list(read(tmp_path, data, "teacher")) == ["b"]
        with refused(CheckpointError, "not_found", tmp_path / "file", "'x'", "student, teacher"):
            read(tmp_path, data, "x")

    def test_lists_are_numbered(self, tmp_path, container):
        body = w.sequence(w.tensor(), w.tensor(offset=1, shape=(3,)))
        assert_equal(read(tmp_path, CONTAINERS[container](body)), {"0": FOUR, "1": FOUR[1:]})

    def test_harmless_objects(self, tmp_path, container):
        """Parameters and _metadata; NumPy numbers, sets, sizes, devices and bytes beside the weights."""
        parameter = w.call(w.name("torch._utils", "_rebuild_parameter"), w.tensor(), b"\x88", w.mapping({}))
        dtype = w.call(w.name("numpy", "dtype"), w.text("f8"), b"\x89", b"\x88") + w.group(b"K\x03", w.text("<")) + b"b"
        data = w.call(w.name("_codecs", "encode"), w.text("12345678"), w.text("latin1"))
        extras = {
            "best_acc1": w.call(w.name("numpy.core.multiarray", "scalar"), dtype, data),
            "best": w.tensor(),
            "set": w.call(w.name("__builtin__", "set"), w.sequence(b"K\x01")),
            "new set": b"\x8f(K\x01K\x02\x90",
            "frozen": b"(K\x01\x91",
            "size": w.call(w.name("torch", "Size"), w.group(b"K\x01")),
            "device": w.call(w.name("torch", "device"), w.text("cuda")),
            "dtype": w.name("torch", "float32"),
            "bytes": b"C\x02ab",
            "framed": b"\x95" + bytes(8) + b"\x8c\x01a\x94",
        }
        weights = w.mapping({"a": parameter}) + w.mapping({"_metadata": w.mapping({})}, ordered=False) + b"b"
        body = w.mapping(extras | {"state_dict": weights})
        assert_equal(read(tmp_path, CONTAINERS[container](body)), {"a": FOUR})

    def test_python_2(self, tmp_path, container):
        """Byte strings for names, and ordered dicts from a list of pairs."""
        pairs = w.sequence(w.sequence(b"U\x01a", w.tensor()), w.sequence(b"U\x01b", w.tensor()))
        body = w.call(w.name("collections", "OrderedDict"), pairs)
        assert_equal(read(tmp_path, CONTAINERS[container](body)), {"a": FOUR, "b": FOUR})

    def test_dtypes_without_a_storage_class(self, tmp_path, container):
        array = np.arange(4, dtype=np.uint16)
        parts = [w.storage("0", 8, "uint8"), b"K\x00", w.group(b"K\x04"), w.group(b"K\x01"), b"\x89", w.mapping({})]
        body = w.mapping({"a": w.call(w.name("torch._utils", "_rebuild_tensor_v3"), *parts, w.name("torch", "uint16"))})
        assert_equal(read(tmp_path, CONTAINERS[container](body, {"0": array.view(np.uint8)})), {"a": array})


def test_legacy_storage_views(tmp_path):
    place = w.storage("0", 10, view=(3, 4))
    body = w.mapping({"a": w.tensor(place), "b": w.tensor(place, 1, (3,))})
    base = np.arange(10, dtype=np.float32)
    assert_equal(read(tmp_path, w.legacy_file(body, {"0": base})), {"a": base[3:7], "b": base[4:7]})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool"])
def test_big_endian_zip(tmp_path, dtype):
    array = np.arange(4).astype(DTYPES[dtype])
    data = w.zip_file(w.mapping({"a": w.whole("0", array)}), {"0": array.byteswap()}, {"x/byteorder": b"big"})
    assert_equal(read(tmp_path, data), {"a": array})


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_prefix_in_every_format(tmp_path, suffix):
    write_tensors(tmp_path / f"a{suffix}", {"module.a": FOUR, "module.b.module.c": FOUR})
    assert list(read_tensors(tmp_path / f"a{suffix}")) == ["a", "b.module.c"]


@pytest.mark.parametrize("names", [["b"], ["b", "a", "a"], ["b", "a", "c"], {}, "ab"])
def test_names_in_metadata_that_do_not_fit_are_left_out(tmp_path, names):
    tensors = {"b": FOUR, "a": FOUR + 1}
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors", {"jaxiqa.names": json.dumps(names)})
    assert_equal(read_tensors(tmp_path / "a.safetensors"), {"a": FOUR + 1, "b": FOUR})


def test_key_is_for_pytorch_files_only(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {"a": FOUR})
    with refused(CheckpointError, "not_found", tmp_path / "a.safetensors", "'model'"):
        read_tensors(tmp_path / "a.safetensors", "model")


REAL = {
    "CNNIQA-LIVE.pth": (8, "conv1.weight", (50, 1, 7, 7)),
    "DISTS_weights.pt": (2, "alpha", (1, 1475, 1, 1)),
    "lpips_v0.1_alex.pth": (5, "lin0.model.1.weight", (1, 64, 1, 1)),
    "mobilenet0.25_Final.pth": (300, "body.stage1.0.0.weight", (8, 3, 3, 3)),
    "resnet20-12fca82f.th": (97, "conv1.weight", (16, 3, 3, 3)),
    "scnn.pkl": (68, "features.0.weight", (48, 3, 3, 3)),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(shared, name, tmp_path):
    """Tensors equal those that torch reads; without torch, their number, names and shapes are checked."""
    path = shared / "data/weights" / name
    tensors = read_tensors(path)
    count, first, shape = REAL[name]
    assert (len(tensors), next(iter(tensors)), tensors[first].shape) == (count, first, shape)
    assert all(np.isfinite(a).all() for a in tensors.values())
    for target in ("a.pth", "a.safetensors"):
        write_tensors(tmp_path / target, tensors)
        assert_equal(read_tensors(tmp_path / target), tensors)
    torch = pytest.importorskip("torch", reason="torch, a reference for tests only, is not installed")
    expected = torch.load(path, map_location="cpu", weights_only=True)
    expected = {k.removeprefix("module."): v.numpy() for k, v in expected.get("state_dict", expected).items()}
    assert_equal(tensors, expected)


def test_torch_reads_what_is_written(tmp_path):
    torch = pytest.importorskip("torch", reason="torch, a reference for tests only, is not installed")
    write_tensors(tmp_path / "a.pth", samples())
    tensors = torch.load(tmp_path / "a.pth", weights_only=True)
    assert list(tensors) == list(samples())
    for name, array in samples().items():
        assert str(tensors[name].dtype) == f"torch.{array.dtype.name}" and tensors[name].shape == array.shape
        assert tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes() == array.tobytes()
    torch.save(tensors, tmp_path / "zip.pth")
    torch.save({"state_dict": tensors}, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    for name in ("zip.pth", "legacy.pth"):
        assert_equal(read_tensors(tmp_path / name), samples())


def test_safetensors_agrees_with_its_package(tmp_path):
    write_tensors(tmp_path / "a.safetensors", samples())
    found = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    assert_equal({name: found[name] for name in samples()}, samples())
    safetensors.numpy.save_file(samples(), tmp_path / "b.safetensors")
    found = read_tensors(tmp_path / "b.safetensors")
    assert_equal({name: found[name] for name in samples()}, samples())


def test_a_header_whose_length_begins_as_a_pickle_does(tmp_path):
    """One .safetensors file in 32 starts with this byte, because the length is a multiple of eight."""
    for letters in range(1, 40):
        path = tmp_path / "w.safetensors"
        write_tensors(path, {"w" * 8 * letters: np.zeros(1, np.float32)})
        if path.read_bytes()[:1] == b"\x80":
            assert read_tensors(path).keys() == {"w" * 8 * letters}
            return
    raise AssertionError("no such length")
