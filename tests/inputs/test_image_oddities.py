"""Odd images that every viewer shows are read; what is lost in them is still seen; all sources give the same pixels."""

import io
import struct
import sys
import types
import zlib

import numpy as np
import pytest
from picture_files import ALPHA, CMYK, GREY, JPEG, PHOTO, PNG, READABLE, RGB, chunk, encode, needs_avif
from PIL import Image, PngImagePlugin
from refused import refused

from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import from_pil, image_size, read_image
from jaxiqa.inputs.python_images import pixels


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def after_header(data: bytes, *chunks: bytes) -> bytes:
    """A PNG with chunks between its header and the rest."""
    return data[:33] + b"".join(chunks) + data[33:]


TABLES, SCAN = JPEG.index(b"\xff\xdb"), JPEG.index(b"\xff\xda")
DATA = SCAN + 2 + int.from_bytes(JPEG[SCAN + 2 : SCAN + 4], "big")
SAMSUNG = JPEG[: DATA - 3] + bytes(3) + JPEG[DATA:]
ADOBE = segment(0xEE, b"Adobe\0\x64\0\0\0\0\5")
RESTARTS = encode(RGB, "JPEG", restart_marker_rows=1)
RESTART = RESTARTS.index(b"\xff\xd0")
BIG_TEXT = zlib.compress(bytes(2_000_000))

# name -> (file, the file with the same pixels)
ODD = {
    "samsung's scan parameters": (SAMSUNG, JPEG),
    "bytes between segments": (JPEG[:TABLES] + b"abc" + JPEG[TABLES:], JPEG),
    "zeros before the end marker": (JPEG[:-2] + bytes(100) + JPEG[-2:], JPEG),
    "zeros before a restart marker": (RESTARTS[:RESTART] + bytes(9) + RESTARTS[RESTART:], RESTARTS),
    "fill bytes before the end marker": (JPEG[:-2] + b"\xff" * 9 + JPEG[-2:], JPEG),
    "jfif of another version": (JPEG.replace(b"JFIF\0\1", b"JFIF\0\2", 1), JPEG),
    "unknown transform of adobe": (JPEG[:2] + ADOBE + JPEG[20:], JPEG),
    "a segment without a length": (JPEG[:4] + b"\0\0" + JPEG[6:], JPEG),
    "all of them": (JPEG[:2] + ADOBE + b"xyz" + SAMSUNG[20:-2] + bytes(9) + JPEG[-2:] + b"film", JPEG),
    "zTXt": (after_header(PNG, chunk(b"zTXt", b"workflow\0\0" + BIG_TEXT)), PNG),
    "iTXt": (after_header(PNG, chunk(b"iTXt", b"workflow\0\1\0\0\0" + BIG_TEXT)), PNG),
    "iCCP": (after_header(PNG, chunk(b"iCCP", b"profile\0\0" + BIG_TEXT)), PNG),
    "broken iCCP": (after_header(PNG, chunk(b"iCCP", b"profile\0\0junk")), PNG),
    "text with a wrong checksum": (after_header(PNG, chunk(b"tEXt", b"a\0b")[:-1] + b"?"), PNG),
    "gAMA, cHRM, pHYs": (after_header(PNG, *(chunk(k, bytes(n)) for k, n in ((b"gAMA", 4), (b"cHRM", 32)))), PNG),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_costs_no_pixel_is_no_damage(name):
    data, plain = ODD[name]
    assert np.array_equal(read_image(data), read_image(plain))


ROT = b"\xff\x7f\xa5\x13" * 10
LOST = {
    "behind samsung's parameters": SAMSUNG[:-900] + ROT + SAMSUNG[-860:],
    "cut behind samsung's parameters": SAMSUNG[:-400] + JPEG[-2:],
    "behind bytes between segments": (JPEG[:TABLES] + b"abc" + JPEG[TABLES:])[:-700] + JPEG[-2:],
    "other bytes before the end marker": JPEG[:-2] + b"\x12" * 40 + JPEG[-2:],
    "a lost segment of adobe's": encode(CMYK, "JPEG").replace(b"\xff\xee\0\x0eAdobe", b"\x37\xee\0\x0eAdobe", 1),
    "rot in a chunk of colours": after_header(encode(GREY.convert("P"), "PNG"), chunk(b"tRNS", b"\1")[:-1] + b"?"),
    "a cut png with text": after_header(PNG, chunk(b"tEXt", b"a\0b"))[:-30],
}


@pytest.mark.parametrize("name", LOST)
def test_an_oddity_hides_no_damage(name):
    data = LOST[name]
    if name == "a lost segment of adobe's":  # as second segment: a file must begin with a whole one
        data = data[:2] + segment(0xFE, b"comment") + data[2:]
    with refused(DataError, "damaged"):
        read_image(data)


def grey_jpeg(*sampling: tuple[int, int]) -> bytes:
    """A mid-grey JPEG of 48 x 64 pixels: each block is the codes of difference 0 and end of block, in table 0."""
    base = encode(Image.new("RGB", (64, 48), (128, 128, 128)), "JPEG", subsampling=0)
    frame, scan = base.index(b"\xff\xc0"), base.index(b"\xff\xda")
    head = bytearray(base[: scan + 14])
    for i, (h, v) in enumerate(sampling):
        head[frame + 11 + 3 * i] = h << 4 | v
        head[scan + 6 + 2 * i] = 0
    width, height = (8 * max(side) for side in zip(*sampling, strict=True))
    blocks = -(-64 // width) * -(-48 // height) * sum(h * v for h, v in sampling)
    bits = "001010" * blocks
    bits += "1" * (-len(bits) % 8)
    return bytes(head) + int(bits, 2).to_bytes(len(bits) // 8, "big") + b"\xff\xd9"


@pytest.mark.parametrize(
    "sampling", [((1, 1),) * 3, ((4, 2), (1, 1), (1, 1)), ((1, 4), (1, 1), (1, 1)), ((2, 1), (1, 2), (1, 1))]
)
def test_any_legal_chroma_subsampling(sampling):
    data = grey_jpeg(*sampling)
    assert (read_image(data) == 128).all() and image_size(data) == (48, 64)
    with refused(DataError, "damaged"):
        read_image(data[:-9])


# --- orientation ------------------------------------------------------------------------------------------------------


def tiff(kind: int, value: bytes, order: str = "<") -> bytes:
    """EXIF data with one tag, the orientation."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    value, behind = (value.ljust(4, b"\0"), b"") if len(value) <= 4 else (struct.pack("<I", 26), value)
    return start + struct.pack(f"{order}IHHHI", 8, 1, 0x0112, kind, 1) + value + bytes(4) + behind


XMP = b'<rdf:Description tiff:Orientation="6"/>'
TYPES = {
    1: b"\6",
    2: b"6\0",
    3: b"\6\0",
    4: b"\6\0\0\0",
    5: struct.pack("<II", 12, 2),
    6: b"\6",
    7: b"\6",
    8: b"\6\0",
    9: b"\6\0\0\0",
    10: struct.pack("<ii", 6, 1),
    11: struct.pack("<f", 6),
    12: struct.pack("<d", 6),
}
JPEG_XMP = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
RAW_PROFILE = b"\nexif\n      32\n" + tiff(3, b"\6\0").hex().encode() + b"\n"


def jpeg_exif(*exif: bytes) -> bytes:
    return JPEG[:2] + b"".join(segment(0xE1, b"Exif\0\0" + one) for one in exif) + JPEG[2:]


TURNED = {
    **{f"tiff type {kind}": jpeg_exif(tiff(kind, value)) for kind, value in TYPES.items()},
    "big-endian": jpeg_exif(tiff(3, b"\0\6", ">")),
    "two exif segments": jpeg_exif(tiff(3, b"\6\0"), tiff(3, b"\6\0")),
    "xmp": JPEG[:2] + JPEG_XMP + JPEG[2:],
    "xmp before exif": JPEG[:2] + JPEG_XMP + segment(0xE1, b"Exif\0\0" + tiff(3, b"\6\0")) + JPEG[2:],
    "eXIf": after_header(PNG, chunk(b"eXIf", tiff(4, b"\6\0\0\0"))),
    "eXIf behind the pixels": PNG[:-12] + chunk(b"eXIf", tiff(3, b"\6\0")) + PNG[-12:],
    "png xmp": after_header(PNG, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    "packed png xmp": after_header(PNG, chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
    "raw profile": after_header(PNG, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(RAW_PROFILE))),
    "webp xmp": encode(RGB, "WEBP", lossless=True, xmp=XMP),
    "tiff tag": encode(RGB, "TIFF", tiffinfo={274: 6}),
    "tiff xmp": encode(RGB, "TIFF", tiffinfo={700: XMP}),
}
UPRIGHT = {
    "unknown type": jpeg_exif(tiff(99, b"\6")),
    "exif says 1, xmp says 6": JPEG[:2] + JPEG_XMP + jpeg_exif(tiff(3, b"\1\0"))[2:],
    "wrong byte order": jpeg_exif(b"II" + tiff(3, b"\0\6", ">")[2:]),
    "oversized directory": jpeg_exif(b"II*\0" + struct.pack("<IH", 8, 65535)),
    "division by zero": jpeg_exif(tiff(5, struct.pack("<II", 6, 0)[:8])[:-8] + struct.pack("<II", 60, 0)),
}


@pytest.mark.parametrize("name", [*TURNED, *UPRIGHT])
def test_orientation_of_any_form(name):
    data = {**TURNED, **UPRIGHT}[name]
    height, width = read_image(data).shape[:2]
    assert (height > width) == (name in TURNED) and image_size(data) == (height, width)


# --- one path for pixels ----------------------------------------------------------------------------------------------

DARK = Image.fromarray(np.dstack([PHOTO, np.zeros(PHOTO.shape[:2], np.uint8)]))
TWELVE = (np.asarray(GREY).astype(np.uint32) * 4095 + 127) // 255


def twelve_bit_tiff() -> bytes:
    a, b = TWELVE.reshape(-1, 2).T
    packed = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], -1).astype(np.uint8).tobytes()
    height, width = TWELVE.shape
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(packed)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + struct.pack("<H", len(tags)) + directory + bytes(4)


SAME = {
    **{name: data for name, (data, _, _) in READABLE.items()},
    **TURNED,
    **UPRIGHT,
    "12-bit tiff": twelve_bit_tiff(),
    "tiff, alpha 0": encode(DARK, "TIFF"),
    "jpeg in tiff": encode(RGB, "TIFF", compression="jpeg"),
    "animated": encode(RGB, "GIF", save_all=True, append_images=[GREY]),
    "thumbnail of a raw file": encode(RGB, "TIFF", tiffinfo={254: 1}),
    "dng": encode(RGB, "TIFF", tiffinfo={50706: b"\1\4\0\0"}),
    "lab": encode(Image.new("LAB", (4, 4)), "TIFF"),
    "rotten jpeg": JPEG[:-900] + ROT + JPEG[-860:],
    "rotten png": PNG[:9000] + b"\0\1" + PNG[9002:],
    "cut png": PNG[:-12],
}
SEEN_BY_PILLOW_TOO = {"rotten jpeg", "rotten png", "cut png"}  # refused only if the pixels are not yet decoded


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
@pytest.mark.parametrize("name", SAME)
def test_file_and_pillow_image_are_the_same(name):
    def outcome(read, source):
        try:
            return read(source).tolist()
        except DataError as error:
            return error.code

    expected = outcome(read_image, SAME[name])
    with Image.open(io.BytesIO(SAME[name])) as image:
        assert outcome(from_pil, image) == expected
        assert outcome(pixels, image) == expected
        if name not in SEEN_BY_PILLOW_TOO:
            image.load()
            assert outcome(from_pil, image) == expected


def test_pillow_images_that_are_not_as_in_their_file():
    with Image.open(io.BytesIO(JPEG)) as image:
        image.draft("RGB", (80, 60))
        assert from_pil(image).shape == (60, 80, 3)
    with Image.open(io.BytesIO(encode(RGB, "MPO", save_all=True, append_images=[GREY.resize((30, 20))]))) as image:
        image.seek(1)
        assert from_pil(image).shape == (20, 30, 3)


def test_twelve_bits_fill_the_range():
    assert np.array_equal(read_image(SAME["12-bit tiff"])[..., 0], np.asarray(GREY))


def bmp_with_alpha(alpha: int) -> bytes:
    height, width = PHOTO.shape[:2]
    rows = np.dstack([PHOTO[..., ::-1], np.full((height, width), alpha, np.uint8)])[::-1].tobytes()
    masks = struct.pack(">4I", 0x0000FF00, 0x00FF0000, 0xFF000000, 0x000000FF)
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(rows), 0, 0, 0, 0) + masks + bytes(52)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(rows), 0, 0, 14 + len(header)) + header + rows


def test_alpha_that_is_0_everywhere_is_an_unused_channel_of_bmp_and_tiff():
    for data in (bmp_with_alpha(0), SAME["tiff, alpha 0"]):
        assert np.array_equal(read_image(data), PHOTO)
    assert not np.array_equal(read_image(bmp_with_alpha(100)), PHOTO)
    assert (read_image(encode(DARK, "PNG")) == 128).all()
    assert not np.array_equal(read_image(encode(ALPHA, "TIFF")), PHOTO)


@pytest.mark.parametrize("value, right", [(np.nextafter(np.float32(1), np.float32(2)), 255), (-1e-9, 0)])
def test_floats_a_hair_outside(value, right):
    image = np.full((4, 5, 3), 0.5, np.float32)
    image[1, 2] = value
    assert (pixels(image)[1, 2] == right).all()
    assert (read_image(encode(Image.fromarray(image[..., 0]), "TIFF"))[1, 2] == right).all()
    with refused(DataError, "value", None, "0.5", "1.01"):
        pixels(np.where(image == value, np.float32(1.01), image))


# --- formats ----------------------------------------------------------------------------------------------------------


@needs_avif
def test_brands_of_avif():
    data = encode(RGB, "AVIF")
    assert np.array_equal(read_image(data[:8] + b"mif1" + data[12:]), read_image(data))  # "avif" is a compatible brand


HEIC, JXL = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", b"\xff\x0a\xfa\x1f"


@pytest.mark.parametrize(
    "data, module, name, extra",
    [
        (HEIC, "pillow_heif.as_plugin", "HeifImageFile", "heic"),
        (JXL, "pillow_jxl.JpegXLImagePlugin", "JXLImageFile", "jxl"),
    ],
)
def test_formats_of_extras(monkeypatch, data, module, name, extra):
    monkeypatch.setitem(sys.modules, module, None)  # not installed
    with refused(DataError, "package", None, f'pip install "jaxiqa[{extra}]"'):
        read_image(data)
    plugin = types.ModuleType(module)
    setattr(plugin, name, lambda file: PngImagePlugin.PngImageFile(io.BytesIO(PNG)) if file.read() == data else None)
    monkeypatch.setitem(sys.modules, module.split(".")[0], types.ModuleType("package"))
    monkeypatch.setitem(sys.modules, module, plugin)
    assert np.array_equal(read_image(data), read_image(PNG))


@pytest.mark.parametrize(
    "data, what",
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?><svg/>", "SVG"),
        (b"\n<!DOCTYPE HTML>", "web page"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "film"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw"),
        (b"II*\0\x10\0\0\0CR\2\0", "raw"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X        ", "macOS"),
    ],
)
def test_what_is_no_image_is_named(data, what):
    with refused(DataError, "format", None, what):
        read_image(data)


def test_12_bit_jpegs_are_named():
    with refused(DataError, "format", None, "12 bits"):
        read_image(JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"))
