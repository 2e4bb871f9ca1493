"""Writes PyTorch files opcode by opcode, and hostile pickles; for tests, independent of jaxiqa's writer."""

import struct
import zlib

import numpy as np

CLASSES = {
    "float64": "Double",
    "float32": "Float",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value):
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def group(*items):
    return b"(" + b"".join(items) + b"t"


def call(function, *arguments):
    return function + group(*arguments) + b"R"


def mapping(items, ordered=True):
    start = name("collections", "OrderedDict") + b")R" if ordered else b"}"
    return start + b"(" + b"".join(text(k) + v for k, v in items.items()) + b"u"


def sequence(*items):
    return b"](" + b"".join(items) + b"e"


def pickled(body):
    return b"\x80\x02" + body + b"."


def storage(key="0", numel=4, dtype="float32", view=None):
    """A persistent id; with a view (start, size) as in old legacy files."""
    more = [] if view is None else [group(text("v"), integer(view[0]), integer(view[1]))]
    cls = name("torch", CLASSES[dtype] + "Storage")
    return group(text("storage"), cls, text(key), text("cuda:0"), integer(numel), *more) + b"Q"


def tensor(place=None, offset=0, shape=(4,), strides=(1,)):
    parts = [place or storage(), integer(offset), group(*map(integer, shape)), group(*map(integer, strides))]
    return call(name("torch._utils", "_rebuild_tensor_v2"), *parts, b"\x89", mapping({}))


def whole(key, array):
    """A tensor that is all of storage `key`."""
    strides = [s // array.itemsize for s in array.strides]
    return tensor(storage(key, array.size, array.dtype.name), 0, array.shape, strides)


def archive(entries, comment=b"", both=None, central=None):
    """A zip file of {name: bytes} or [(name, bytes)], stored.

    both: changes of an entry's two headers, {name: {field: value}}; the fields are those of `fields` below.
    central: changes of its header in the directory only.
    """
    out, directory, count = bytearray(), bytearray(), 0
    for label, data in entries.items() if isinstance(entries, dict) else entries:
        fields = dict(flags=0, method=0, crc=zlib.crc32(data), stored=len(data), size=len(data), name=label.encode())
        fields |= {"offset": len(out)} | (both or {}).get(label, {})
        own = tuple(fields[k] for k in ("flags", "method", "crc", "stored", "size"))
        out += (
            struct.pack("<4s5H3L2H", b"PK\3\4", 20, *own[:2], 0, 0, *own[2:], len(fields["name"]), 0) + fields["name"]
        )
        out += data
        fields |= (central or {}).get(label, {})
        listed = tuple(fields[k] for k in ("flags", "method", "crc", "stored", "size"))
        directory += struct.pack("<4s6H3L", b"PK\1\2", 20, 20, *listed[:2], 0, 0, *listed[2:])
        directory += struct.pack("<5H2L", len(fields["name"]), 0, 0, 0, 0, 0, fields["offset"]) + fields["name"]
        count += 1
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(out), len(comment))
    return bytes(out + directory + end + comment)


def zip_file(body, arrays=None, extra=None, **options):
    """A file as torch >= 1.6 writes it: one pickle and {key: array or bytes}."""
    arrays = {"0": np.arange(4, dtype=np.float32)} if arrays is None else arrays
    raw = {f"x/data/{k}": a if isinstance(a, bytes) else a.tobytes() for k, a in arrays.items()}
    return archive({"x/data.pkl": pickled(body), **(extra or {}), **raw, "x/version": b"3\n"}, **options)


def module(items, cls="__torch__.M"):
    """The record of an instance in a TorchScript archive, with these attributes."""
    return name(*cls.rsplit(".", 1)) + b")\x81" + mapping(items, ordered=False) + b"b"


def script_file(body, arrays=None, **options):
    """A TorchScript archive; its code would leave the canary if it were run."""
    code = {
        "x/constants.pkl": pickled(b")"),
        "x/code/__torch__.py": b"import os; os.system('touch %s')" % CANARY.encode(),
    }
    return zip_file(body, arrays, code, **options)


def legacy_file(
    body, arrays=None, counts=None, little_endian=True, magic=0x1950A86A20F9469CFC6C, version=1001, keys=None
):
    """A file as torch < 1.6 writes it; `counts` replaces the numbers before the values."""
    arrays = {"0": np.arange(4, dtype=np.float32)} if arrays is None else arrays
    machine = mapping({"little_endian": b"\x88" if little_endian else b"\x89"}, ordered=False)
    listed = sequence(*map(text, arrays if keys is None else keys))
    out = bytearray().join(map(pickled, (integer(magic), integer(version), machine, body, listed)))
    for key, array in arrays.items():
        out += struct.pack("<q", (counts or {}).get(key, array.size)) + array.tobytes()
    return bytes(out)


CANARY = "jaxiqa_canary"  # a file that appears in the working directory if anything is executed
COMMAND = text(f"touch {CANARY}")
CODE = text(f"open('{CANARY}', 'w')")
SHELL = sequence(text("touch"), text(CANARY))


def bytes8(opcode, length, data=b""):
    return opcode + struct.pack("<Q", length) + data


def laughs(open_, close, levels=40):
    """Each level holds the level before twice, through the memo."""
    return (
        text("ha")
        + b"q\0"
        + b"".join(open_ + b"h" + bytes([i]) + b"h" + bytes([i]) + close(i + 1) for i in range(levels))
    )


COMPLEX = group(text("storage"), name("torch", "ComplexFloatStorage"), text("0"), text("cpu"), b"K\4") + b"Q"

# name -> (pickle, code of the error, value that the message names): objects beside or instead of tensors
CALLS = {
    "os.system": (call(name("os", "system"), COMMAND), "unsafe", "os.system"),
    "posix.system": (call(name("posix", "system"), COMMAND), "unsafe", "posix.system"),
    "nt.system": (call(name("nt", "system"), COMMAND), "unsafe", "nt.system"),
    "eval": (call(name("builtins", "eval"), CODE), "unsafe", "builtins.eval"),
    "eval of Python 2": (call(name("__builtin__", "eval"), CODE), "unsafe", "__builtin__.eval"),
    "exec": (call(name("builtins", "exec"), CODE), "unsafe", "builtins.exec"),
    "compile": (call(name("builtins", "compile"), CODE, text(""), text("exec")), "unsafe", "builtins.compile"),
    "getattr": (call(name("builtins", "getattr"), name("os", "x"), text("system")), "unsafe", "os.x"),
    "open": (call(name("builtins", "open"), text(CANARY), text("w")), "unsafe", "builtins.open"),
    "apply": (call(name("__builtin__", "apply"), CODE), "unsafe", "__builtin__.apply"),
    "__import__": (call(name("builtins", "__import__"), text("os")), "unsafe", "builtins.__import__"),
    "Popen": (call(name("subprocess", "Popen"), SHELL), "unsafe", "subprocess.Popen"),
    "check_output": (call(name("subprocess", "check_output"), SHELL), "unsafe", "subprocess.check_output"),
    "importlib": (call(name("importlib", "import_module"), text("antigravity")), "unsafe", "importlib.import_module"),
    "runpy": (call(name("runpy", "_run_code"), CODE, b"}"), "unsafe", "runpy._run_code"),
    "pty": (call(name("pty", "spawn"), SHELL), "unsafe", "pty.spawn"),
    "pickle in a pickle": (
        call(name("pickle", "loads"), b"B" + struct.pack("<I", 4) + b"cos\n"),
        "unsafe",
        "pickle.loads",
    ),
    "torch.load": (call(name("torch", "load"), text("other.pth")), "unsafe", "torch.load"),
    "numpy.load": (call(name("numpy", "load"), text("x.npy"), b"N", b"\x88"), "unsafe", "numpy.load"),
    "partial": (call(name("functools", "partial"), name("os", "system")), "unsafe", "os.system"),
    "methodcaller": (call(name("operator", "methodcaller"), text("system")), "unsafe", "operator.methodcaller"),
    "code object": (call(name("types", "CodeType"), b"K\0"), "unsafe", "types.CodeType"),
    "our own function": (call(name("jaxiqa.weights.files", "write_tensors"), COMMAND), "unsafe", "files.write_tensors"),
    "a dotted name": (call(name("torch", "os.system"), COMMAND), "unsafe", "torch.os.system"),
    "a dotted allowed name": (
        call(name("collections", "OrderedDict.fromkeys"), COMMAND),
        "unsafe",
        "OrderedDict.fromkeys",
    ),
    "defaultdict": (call(name("collections", "defaultdict"), name("os", "system")), "unsafe", "os.system"),
    "namespace": (
        call(name("argparse", "Namespace")) + b"}" + text("run") + name("os", "system") + b"sb",
        "unsafe",
        "os.system",
    ),
    "enum": (call(name("lab.modes", "Mode"), call(name("os", "popen"), COMMAND)), "unsafe", "os.popen"),
    "nested class": (
        call(name("builtins", "getattr"), name("lab", "Net"), text("Inner")) + name("subprocess", "run") + b"\x85R",
        "unsafe",
        "subprocess.run",
    ),
    "class in a dict": (b"}" + text("optimizer") + name("builtins", "exec") + b"s", "unsafe", "builtins.exec"),
    "numpy array of objects": (
        call(name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), group(b"K\0"), text("b"))
        + group(
            b"K\1", group(b"K\1"), name("numpy", "dtype"), b"\x89", sequence(call(name("nt", "startfile"), COMMAND))
        )
        + b"b",
        "unsafe",
        "nt.startfile",
    ),
    "a later part of a module": (name("lab", "subprocess.run"), "unsafe", "lab.subprocess.run"),
    "quantised": (call(name("torch._utils", "_rebuild_qtensor"), b"N"), "format", "b is quantised"),
    "sparse": (call(name("torch._utils", "_rebuild_sparse_tensor"), b"N"), "format", "b is sparse"),
    "8-bit floats": (
        call(
            name("torch._utils", "_rebuild_tensor_v3"),
            storage("0", 4, "float32"),
            b"K\0",
            group(b"K\4"),
            group(b"K\1"),
            b"\x89",
            mapping({}),
            name("torch", "float8_e4m3fn"),
        ),
        "format",
        "b has values of type torch.float8_e4m3fn",
    ),
    "meta": (call(name("torch._utils", "_rebuild_meta_tensor_no_storage"), b"N"), "format", "meta"),
    "distributed": (call(name("torch._utils", "_rebuild_wrapper_subclass"), b"N"), "format", "full_tensor()"),
    "unknown tensor": (call(name("torch._utils", "_rebuild_new_tensor"), b"N"), "format", "_rebuild_new_tensor"),
    "tensor of a TPU": (
        call(name("torch._utils", "_rebuild_device_tensor_from_numpy"), b"N", text("float32"), text("xla:0"), b"\x89"),
        "format",
        "model.cpu()",
    ),
    "STACK_GLOBAL": (text("os") + text("system") + b"\x93" + COMMAND + b"\x85R", "unsafe", "os.system"),
    "STACK_GLOBAL of no strings": (b"NN\x93" + COMMAND + b"\x85R", "unsafe", "NoneType in the place of a str"),
    "INST": (b"(" + COMMAND + b"ios\nsystem\n", "unsafe", "INST of os.system"),
    "OBJ": (b"(" + name("os", "system") + COMMAND + b"o", "unsafe", "os.system"),
    "OBJ of an ordered dict": (
        b"(" + name("collections", "OrderedDict") + COMMAND + b"o",
        "unsafe",
        "str in the place of a list",
    ),
    "NEWOBJ": (name("subprocess", "Popen") + SHELL + b"\x85\x81", "unsafe", "subprocess.Popen"),
    "NEWOBJ_EX": (name("subprocess", "Popen") + b")}\x92", "unsafe", "subprocess.Popen"),
    "NEWOBJ_EX of a number": (name("lab", "Net") + b"K\5}\x92", "unsafe", "int in the place of a tuple"),
    "EXT1": (b"\x82\x01", "unsafe", "opcode EXT1"),
    "EXT2": (b"\x83\x01\x01", "unsafe", "opcode EXT2"),
    "EXT4": (b"\x84\x01\x01\x01\x01", "unsafe", "opcode EXT4"),
    "BUILD of a class": (
        name("collections", "OrderedDict") + b"}" + text("__setstate__") + CODE + b"sb",
        "unsafe",
        "sets attributes",
    ),
    "BUILD of a tensor": (tensor() + b"}b", "damaged"),
    "REDUCE of a string": (COMMAND + b")R", "unsafe", "str in the place of a class"),
    "REDUCE of a tensor": (tensor() + b")R", "damaged", "not callable"),
    "REDUCE of a storage class": (call(name("torch", "FloatStorage"), b"K\x05"), "unsafe", "calls torch.FloatStorage"),
    "REDUCE without a tuple": (name("collections", "OrderedDict") + b"]R", "unsafe", "list in the place of a tuple"),
    "ordered dict of a number": (
        call(name("collections", "OrderedDict"), b"K\x05"),
        "unsafe",
        "int in the place of a list",
    ),
    "ordered dict of no pairs": (
        call(name("collections", "OrderedDict"), b"](K\x01K\x02e"),
        "unsafe",
        "collections.OrderedDict",
    ),
    "tensor of strings": (call(name("torch._utils", "_rebuild_tensor_v2"), *[COMMAND] * 6), "unsafe", "str"),
    "tensor of nothing": (call(name("torch._utils", "_rebuild_tensor_v2")), "unsafe", "_rebuild_tensor"),
    "parameter of a string": (
        call(name("torch._utils", "_rebuild_parameter"), COMMAND),
        "unsafe",
        "str in the place of a Tensor",
    ),
    "new type of a name": (
        call(name("torch._utils", "_rebuild_tensor_v3"), *[b"N"] * 6, COMMAND),
        "unsafe",
        "str in the place of a class",
    ),
}
DATA = {
    "id: string": (COMMAND + b"Q", "unsafe", "persistent id"),
    "id: text": (b"Pos.system\n", "unsafe", "opcode PERSID"),
    "id: number": (b"K\x05Q", "unsafe", "persistent id"),
    "id: module": (group(text("module"), b"N", COMMAND, CODE) + b"Q", "unsafe", "persistent id"),
    "id: no class": (group(text("storage"), COMMAND, text("0"), text("cpu"), b"K\4") + b"Q", "unsafe", "persistent id"),
    "id: other class": (
        group(text("storage"), name("collections", "OrderedDict"), text("0"), text("cpu"), b"K\4") + b"Q",
        "unsafe", "class collections.OrderedDict",
    ),
    "id: negative size": (storage(numel=-4), "unsafe", "persistent id"),
    "id: view outside": (storage(view=(2, 3)), "unsafe", "persistent id"),
    "id: one storage of two types": (storage() + storage(numel=2, dtype="float64"), "unsafe", "twice"),
    "tensor: larger than its storage": (tensor(shape=(5,)), "unsafe", "storage of 4 values"),
    "tensor: strides outside": (tensor(shape=(2, 2), strides=(3, 1)), "unsafe", "storage of 4 values"),
    "tensor: offset outside": (tensor(offset=1), "unsafe", "storage of 4 values"),
    "tensor: huge offset": (tensor(offset=2**70), "unsafe", "storage of 4 values"),
    "tensor: negative offset": (tensor(offset=-1, shape=(3,)), "unsafe", "offset"),
    "tensor: negative shape": (tensor(shape=(-4,)), "unsafe", "offset"),
    "tensor: negative stride": (tensor(offset=3, strides=(-1,)), "unsafe", "offset"),
    "tensor: fewer strides": (tensor(shape=(2, 2)), "unsafe", "offset"),
    "tensor: 33 dimensions": (tensor(shape=(1,) * 33, strides=(1,) * 33), "unsafe", "_rebuild_tensor"),
    "tensor: 10^12 values of one": (mapping({"a": tensor(shape=(10**12,), strides=(0,))}), "unsafe", "4000000000000"),
    "tensor: huge but empty": (mapping({"a": tensor(shape=(0, 2**62, 2**62), strides=(1,) * 3)}), "damaged"),
    "tensor: name twice": (b"}(" + 2 * (text("a") + tensor()) + b"u", "unsafe", "'a' occurs twice"),
    "tensor: name twice in pairs": (
        call(name("collections", "OrderedDict"), sequence(*2 * [sequence(text("a"), tensor())])),
        "unsafe", "'a' occurs twice",
    ),
    "tensor: no name": (tensor(), "format", "state_dict"),
    "tensor: a number for a name": (b"}K\1" + tensor() + b"s", "format", "state_dict"),
    "dict: tuple for a key": (b"})Ns", "format", "state_dict"),
    "dict: list for a key": (b"}]Ns", "unsafe", "list as the key"),
    "dict: complex values": (
        mapping({"a": tensor(COMPLEX)}),
        "format", "a has complex64 values"
    ),
    "dict: whole module": (
        mapping({"model": name("torchvision.models.resnet", "ResNet") + b")\x81}" + text("_modules") + b"}sb"}),
        "format", "whole model of class torchvision.models.resnet.ResNet"
    ),
    "dict: odd items": (b"}(" + text("a") + b"u", "damaged"),
    "dict: items of a list": (b"](" + text("a") + b"Nu", "unsafe", "list in the place of a dict"),
    "list: items of a dict": (b"}(Ne", "unsafe", "dict in the place of a list"),
    "bomb: memo read before written": (b"j\xff\xff\xff\x7f", "damaged"),
    "bomb: memo": (b"N" + b"".join(b"r" + struct.pack("<I", 2**32 - 1 - i) for i in range(400_000)), "unsafe", "memo"),
    "bomb: many objects": (b"]" * 600_000, "unsafe", "over 500000 opcodes"),
    "bomb: marks": (b"(" * 600_000, "unsafe", "over 500000 opcodes"),
    "bomb: nested lists": (b"]" * 200_000 + b"a" * 199_999, "unsafe", "nested over 500 deep"),
    "bomb: nested tuples": (b")" + b"\x85" * 400_000, "unsafe", "nested over 500 deep"),
    "bomb: nested tuple for a key": (b"})" + b"\x85" * 400_000 + b"Ns", "unsafe", "nested over 500 deep"),
    "bomb: nested dicts": (b"}" + b"K\0}" * 150_000 + b"s" * 150_000, "unsafe", "nested over 500 deep"),
    "bomb: laughing tuples": (laughs(b"", lambda i: b"\x86q" + bytes([i])), "format", "state_dict"),
    "bomb: laughing lists": (laughs(b"](", lambda i: b"eq" + bytes([i])), "format", "state_dict"),
    "bomb: laughing key": (laughs(b"", lambda i: b"\x86q" + bytes([i])) + b"}h\x28Ns", "unsafe", "costly"),
    "bomb: laughing member": (laughs(b"", lambda i: b"\x86q" + bytes([i])) + b"\x8f(h\x28\x90", "unsafe", "sets"),
    "bomb: laughing items": (
        b"}" + laughs(b"", lambda i: b"\x86q" + bytes([i])) + b"Ns", "unsafe", "tuple in the place of a dict"
    ),
    "bomb: one list, many dicts": (
        sequence(*(sequence(text(str(i)), b"N") for i in range(50_000)))
        + b"q\0"
        + name("collections", "OrderedDict")
        + b"q\1"
        + b"h\1h\0\x85R" * 40_000,
        "format", "state_dict",
    ),
    "bomb: one shape, many tensors": (
        b"(" + b"K\1" * 100_000 + b"tq\0" + name("torch._utils", "_rebuild_tensor") + b"q\1" + storage() + b"q\2"
        + b"h\1(h\2K\0h\0h\0tR" * 10_000,
        "unsafe", "_rebuild_tensor",
    ),
    "bomb: one dict, many names": (
        b"}(" + b"".join(integer(i) + b"N" for i in range(50_000)) + b"uq\0"
        + b"}(" + b"".join(integer(i) + b"h\0" for i in range(50_000)) + b"u",
        "format", "state_dict",
    ),
    "bomb: expanded tensors": (
        mapping({str(i): tensor(shape=(2**20,), strides=(0,)) for i in range(20)}), "unsafe", "83886080"
    ),
    "bomb: LONG4 that lies": (b"\x8b\xff\xff\xff\x7f", "damaged"),
    "bomb: LONG4": (b"\x8b" + struct.pack("<i", 2**23) + b"\x7f" * 2**23, "unsafe", "opcode LONG4"),
    "bomb: LONG": (b"L" + b"9" * 2**20 + b"L\n", "damaged"),
    "bomb: INT": (b"I" + b"9" * 60_000 + b"\n", "damaged"),
    "bomb: FLOAT": (b"F" + b"\xe9" * 2**22 + b"\n", "damaged"),
    "bomb: STRING": (b"S" + b"\xe9" * 2**22 + b"\n", "damaged"),
    "bomb: BINUNICODE8": (bytes8(b"\x8d", 2**62), "damaged"),
    "bomb: a prefix, a million times": (mapping({"module." * 1_000_000: tensor()}), "unsafe", "over 1000 characters"),
    "bomb: wide text": (text("\N{GRINNING FACE}" + "a" * 15_000_000), "format", "state_dict"),
    "bomb: many wide texts": ((text("\N{GRINNING FACE}" + "a" * 55) + b"\x94") * 245_000, "format", "state_dict"),
    "bomb: BINBYTES8": (bytes8(b"\x8e", 2**62), "damaged"),
    "bomb: BYTEARRAY8": (bytes8(b"\x96", 2**62), "damaged"),
    "bomb: BINSTRING": (b"T\xff\xff\xff\xff", "damaged"),
    "bomb: 17 MB of pickle": (b"B" + struct.pack("<I", 17 << 20) + bytes(17 << 20), "format", "state_dict"),
    "bomb: wide texts": (
        (text("\N{GRINNING FACE}" + "a" * 1_000_000) + b"0") * 25, "unsafe", "long texts of wide characters"
    ),
    "bomb: names by getattr": (
        name("lab", "A") + b"q\0" + name("builtins", "getattr") + b"q\1"
        + b"".join(b"h\1h\0" + text(str(i)) + b"\x86R0" for i in range(50_000)),
        "unsafe", "over 1000 names"
    ),
    "list in itself": (b"]q\0h\0a", "format", "state_dict"),
    "dict in itself": (b"}q\0K\1h\0s", "format", "state_dict"),
    "empty stack": (b"R", "damaged"),
    "unknown opcode": (b"\xff", "damaged"),
    "opcode that torch.save has no use for": (text("a") + b"2", "unsafe", "opcode DUP"),
}  # fmt: skip
