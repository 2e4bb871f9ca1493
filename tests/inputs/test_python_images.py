"""What Python programs hand over as images: the pixels of every form, and one sentence for what is none."""

import io
import pathlib
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from refused import refused

from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import from_pil
from jaxiqa.inputs.python_images import pixels, several

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 17, 3), np.uint8)
FLOATS = IMAGE.astype(np.float32) / 255
GREY = IMAGE[..., 0]


class Tensor:
    """The parts of a tensor of PyTorch that a conversion needs: it needs no gradient, on the CPU, and no bfloat16."""

    def __init__(self, array, dtype="torch.float32", needs=("detach", "cpu")):
        self.array, self.shape, self.dtype, self.needs = array, array.shape, dtype, needs

    def _without(self, need):
        return Tensor(self.array, self.dtype, tuple(n for n in self.needs if n != need))

    def detach(self):
        return self._without("detach")

    def cpu(self):
        return self._without("cpu")

    def float(self):
        return Tensor(self.array, needs=self.needs)

    def permute(self, *axes):
        return Tensor(self.array.transpose(axes), self.dtype, self.needs)

    def __array__(self, dtype=None, copy=None):
        if self.needs or "bfloat16" in self.dtype:
            raise TypeError(f"{self.needs} {self.dtype}")
        return self.array


class Column:
    """As a column of pandas: one axis, no NumPy dtype, positions are not its keys."""

    shape, dtype, ndim = (2,), "string", 1

    def __init__(self, values):
        self.values = values

    def __iter__(self):
        return iter(self.values)

    def __getitem__(self, key):
        raise KeyError(key)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    Image.fromarray(IMAGE).save(folder / "a.png")
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(folder / "a.png", "a.png")
    return folder


def test_every_form_of_a_file(files):
    path = files / "a.png"
    data = path.read_bytes()

    class Stream(io.BytesIO):
        def seekable(self):
            return False

        def tell(self):
            raise OSError("not seekable")

    forms = [path, str(path), np.str_(path), bytes(path), data, bytearray(data), memoryview(data), io.BytesIO(data)]
    forms += [Stream(data), np.frombuffer(data, np.uint8), np.array(str(path))]
    with (
        zipfile.ZipFile(files / "a.zip") as archive,
        archive.open("a.png") as entry,
        path.open("rb") as file,
        Image.open(path) as image,
    ):
        for form in [*forms, zipfile.Path(archive, "a.png"), entry, file, image]:
            assert several(form) is None
            np.testing.assert_array_equal(pixels(form), IMAGE, err_msg=str(type(form)))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (IMAGE[::-1, ::-1], IMAGE[::-1, ::-1]),
        (memoryview(IMAGE), IMAGE),
        (jnp.asarray(IMAGE), IMAGE),
        (FLOATS, IMAGE),
        (FLOATS.astype(np.float64), IMAGE),
        (FLOATS.astype(np.float16), IMAGE),
        (Tensor(FLOATS), IMAGE),
        (Tensor(FLOATS, "torch.bfloat16"), IMAGE),
        (FLOATS * np.float32(1.000001), IMAGE),
        (FLOATS - np.float32(1e-7), IMAGE),
        (GREY, np.stack([GREY] * 3, -1)),
        (GREY[..., None], np.stack([GREY] * 3, -1)),
        (GREY > 99, np.stack([255 * (GREY > 99)] * 3, -1)),
        (np.dstack([IMAGE, GREY]), from_pil(Image.fromarray(np.dstack([IMAGE, GREY])))),
        (np.dstack([FLOATS, GREY / 255]), from_pil(Image.fromarray(np.dstack([IMAGE, GREY])))),
    ],
    ids=[
        *("strides", "memoryview", "jax", "float32", "float64", "float16", "tensor", "bfloat16", "above", "below"),
        *("grey", "one channel", "bool", "alpha", "float alpha"),
    ],
)
def test_arrays(form, expected):
    assert several(form) is None
    found = pixels(form)
    assert found.dtype == np.uint8 and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("form", "code", "named"),
    [
        (None, "format", ("None", "cv2.imread")),
        (7, "format", ("int",)),
        (float("nan"), "format", ("float",)),
        (IMAGE.tolist(), "format", ("list",)),
        (io.StringIO("text"), "format", ("'rb'",)),
        (IMAGE.transpose(2, 0, 1), "format", ("(3, 12, 17)", "channels last", "transpose(1, 2, 0)")),
        (Tensor(FLOATS.transpose(2, 0, 1)), "format", ("(3, 12, 17)", "CHW", "permute(1, 2, 0)")),
        (np.zeros((5,), np.float32), "format", ("(5,)",)),
        (np.zeros((0, 3), np.uint8), "format", ("(0, 3)",)),
        (np.zeros((8, 9, 2), np.uint8), "format", ("(8, 9, 2)",)),
        (IMAGE.astype(np.uint16), "format", ("uint16",)),
        (FLOATS * 255, "value", ("255",)),
        (FLOATS * 1.5 - 0.25, "value", ("clip",)),
        (np.where(FLOATS > 0.5, np.nan, FLOATS), "value", ("nan_to_num",)),
        (np.where(FLOATS > 0.5, np.inf, FLOATS), "value", ("nan_to_num",)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_image(form, code, named):
    with refused(DataError, code, None, *named):
        pixels(form)


def test_a_file_that_was_read_before_or_is_closed(files):
    file = io.BytesIO((files / "a.png").read_bytes())
    pixels(file)
    with refused(DataError, "damaged", None, "seek(0)"):
        pixels(file)
    file.close()
    with refused(DataError, "unreadable", None, "closed"):
        pixels(file)


def test_collections():
    a, b = pathlib.Path("a.png"), "b.png"
    for form in ([a, b], (a, b), iter([a, b]), (p for p in (a, b)), np.array([a, b], object), Column([a, b])):
        assert list(several(form)) == [a, b]
    assert set(several({a, b})) == {a, b} and list(several(np.array(["a.png"]))) == ["a.png"]
    assert list(several([])) == [] and len(several(np.zeros((0, 8, 8, 3)))) == 0
    assert len(several(Tensor(np.zeros((2, 8, 8, 3)))).shape) == 4
    for form in (None, 7, "a.png", IMAGE, GREY, np.zeros(3), np.array(b)):
        assert several(form) is None


def test_what_is_not_clear_to_iterate_over():
    table = type("DataFrame", (), {"columns": ["path"], "shape": (2, 1)})()
    for form, name in (({"a": "a.png"}, "values()"), (table, "columns")):
        with refused(DataError, "format", None, type(form).__name__, name):
            several(form)
