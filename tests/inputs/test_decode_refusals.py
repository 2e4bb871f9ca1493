"""A file that is not an image, or a damaged one, is refused in one line, fast and without a crash."""

import concurrent.futures
import io
import os
import pathlib
import re
import resource
import struct
import time

import numpy as np
import pytest
from picture_files import BIG, CMYK, GREY, GREY16, JPEG, PNG, READABLE, RGB, chunk, encode, needs_avif, patched, png
from PIL import Image, ImageFile
from refused import refused

from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import MAX_PIXELS, image_size, read_image

J2K = encode(RGB, "JPEG2000")
SOF = JPEG.index(b"\xff\xc0")
NAN = np.asarray(GREY).astype(np.float32) / 255
NAN[3, 3] = np.nan

REFUSED = {
    "empty": (b"", "empty"),
    "text": (b"not an image at all", "not an image"),
    "html": (b"<!DOCTYPE html><html><img src=x.jpg></html>", "not an image"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "not an image"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not an image"),
    "pdf": (b"%PDF-1.7\n", "not an image"),
    "other image format": (encode(RGB, "SGI"), "not an image"),
    "pillow's own ppm": (b"PyRGBA 1 1 255\n1234", "not an image"),
    "jpeg cut in half": (JPEG[: len(JPEG) // 2], "truncated or damaged JPEG"),
    "progressive jpeg cut": (encode(BIG, "JPEG", progressive=True)[:-200], "truncated or damaged JPEG"),
    "jpeg without its last 2 bytes": (JPEG[:-2], "truncated or damaged JPEG"),
    "jpeg cut in its header": (JPEG[: SOF - 3], "unreadable header"),
    "jpeg start only": (b"\xff\xd8\xff", "unreadable header"),
    "jpeg without frame": (JPEG[:SOF] + JPEG[JPEG.index(b"\xff\xda") :], "unreadable header"),
    "jpeg of height 0": (patched(JPEG, SOF + 5, b"\0\0"), "unreadable header"),
    "jpeg with 40 rotten bytes": (patched(JPEG, len(JPEG) // 2, b"\xff\x7f\xa5" * 13), "truncated or damaged JPEG"),
    "jpeg with too much data": (JPEG[:-2] + b"\x12" * 40 + JPEG[-2:], "truncated or damaged JPEG"),
    "rotten cmyk jpeg": (patched(encode(CMYK, "JPEG"), -400, b"\xff\x7f\xa5" * 13), "truncated or damaged JPEG"),
    "png cut in half": (PNG[: len(PNG) // 2], "truncated or damaged PNG"),
    "png without its end": (PNG[:-12], "truncated or damaged PNG"),
    "png with one rotten bit": (patched(PNG, 9000, bytes([PNG[9000] ^ 1])), "truncated or damaged PNG"),
    "webp cut": (encode(RGB, "WEBP")[:-9], "WebP|unreadable header"),
    "gif cut": (encode(RGB, "GIF")[:-300], "truncated or damaged GIF"),
    "bmp cut": (encode(RGB, "BMP")[:-9], "truncated or damaged BMP"),
    "ppm cut": (encode(RGB, "PPM")[:-9], "truncated or damaged PPM"),
    "tiff cut": (encode(RGB, "TIFF")[:-9], "truncated or damaged TIFF"),
    "tiff lzw cut": (encode(RGB, "TIFF", compression="tiff_lzw")[:-400], "damaged TIFF|unreadable header"),
    "jpeg 2000, two sizes": (patched(J2K, J2K.index(b"\xff\x51") + 6, b"\0\0\xff\xff" * 2), "damaged JPEG 2000"),
    "jpeg 2000 cut": (encode(RGB, "JPEG2000")[:-99], "truncated or damaged JPEG 2000"),
    "animated gif": (encode(RGB, "GIF", save_all=True, append_images=[GREY]), "several frames"),
    "animated webp": (encode(RGB, "WEBP", save_all=True, append_images=[GREY]), "several frames"),
    "animated png": (encode(RGB, "PNG", save_all=True, append_images=[GREY]), "several frames"),
    "two-page tiff": (encode(RGB, "TIFF", save_all=True, append_images=[RGB]), "several frames"),
    "float tiff above 1": (encode(Image.fromarray(np.full((4, 4), 1.5, np.float32)), "TIFF"), "white is unknown"),
    "float tiff with NaN": (encode(Image.fromarray(NAN), "TIFF"), "white is unknown"),
    "32-bit tiff": (encode(Image.fromarray(np.full((4, 4), 300, np.int32)), "TIFF"), "white is unknown"),
    "16-bit tiff, white is 0": (encode(GREY16, "TIFF", tiffinfo={262: 0}), "inverted"),
    "lab tiff": (encode(Image.new("LAB", (4, 4)), "TIFF"), "white is unknown"),
    "16-bit png, transparent colour": (png(1, 1, 16, 0, b"\0\1\2", chunk(b"tRNS", b"\1\2")), "transparent"),
}  # fmt: skip


def refusal(source, *code: str) -> str:
    """The message of the refusal, which names the path if there is one."""
    path = source if isinstance(source, str | os.PathLike) else ""
    with pytest.raises(DataError) as caught:
        read_image(source)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 500
    assert caught.value.key == os.fspath(path) and (not code or caught.value.code in code), caught.value.code
    return message


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_in_one_line(kind, tmp_path):
    data, reason = REFUSED[kind]
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    message = refusal(path, "damaged" if re.search("damaged|header|empty", reason) else "format")
    assert re.search(reason, message), message
    assert str(path) in message


def test_size_of_what_cannot_be_decoded_is_refused_too():
    for kind in ("empty", "text", "jpeg cut in its header", "jpeg of height 0"):
        with pytest.raises(DataError):
            image_size(REFUSED[kind][0])


@needs_avif
def test_cut_avif_is_refused():
    assert "truncated or damaged AVIF" in refusal(encode(RGB, "AVIF")[:-20], "damaged")


BMP, GIF, WEBP = (encode(RGB, kind) for kind in ("BMP", "GIF", "WEBP"))
BOMBS = {
    "png": png(30000, 30000, 1, 0, b""),
    "rgb png": png(65500, 65500, 8, 2, b""),
    "jpeg": patched(JPEG, SOF + 5, struct.pack(">HH", 65500, 65500)),
    "bmp": patched(BMP, 18, struct.pack("<ii", 65500, 65500)),
    "gif": patched(GIF, 6, struct.pack("<HH", 65500, 65500)),
    "webp": patched(WEBP, 26, struct.pack("<HH", 16383, 16383)),
    "ppm": b"P6 100000 100000 255\n",
    "jpeg 2000": patched(J2K, J2K.index(b"ihdr") + 4, struct.pack(">II", 65500, 65500)),
    "jpeg 2000 stream": patched(encode(RGB, "JPEG2000", no_jp2=True), 8, struct.pack(">II", 65500, 65500)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bomb_is_refused_from_its_header(kind):
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert "178,000,000 pixels" in refusal(BOMBS[kind], "value")
    with refused(DataError, "value", None, "pixels"):
        image_size(BOMBS[kind])
    assert time.monotonic() - start < 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_tags_of_exif_that_all_point_to_the_same_megabytes():
    """Pillow's own reading of EXIF would copy 700 kB for each of 50,000 tags."""
    tags = b"".join(struct.pack(">HHII", tag, 7, 700_000, 8) for tag in range(0x200, 0xC550))
    exif = b"MM\0*" + struct.pack(">IH", 8, 50_000) + tags + bytes(100_000)
    parts = [b"Exif\0\0" + exif[at : at + 65_000] for at in range(0, len(exif), 65_000)]
    data = JPEG[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(p) + 2) + p for p in parts) + JPEG[2:]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert image_size(data) == (120, 160) and (read_image(data) == read_image(JPEG)).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_many_exif_segments_take_linear_time():
    part = b"\xff\xe1" + struct.pack(">H", 12) + b"Exif\0\0abcd"
    start = time.process_time()
    assert image_size(JPEG[:2] + part * 200_000 + JPEG[2:]) == (120, 160)
    assert time.process_time() - start < 4


def test_the_limit_is_on_the_number_of_pixels():
    side = int(MAX_PIXELS**0.5)
    assert image_size(png(side, side, 1, 0, b"")) == (side, side)  # and no DecompressionBombWarning
    with refused(DataError, "value", None, "178,000,000"):
        image_size(png(side + 1, side + 1, 1, 0, b""))


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a b\nc.jpg", "-x.jpg", "grün 😀.jpg", b"\xff\xfe.jpg", "x" * 251 + ".jpg", "no ending"]
)
def test_any_name(tmp_path, name):
    path = os.path.join(tmp_path, os.fsdecode(name))
    with open(path, "wb") as file:
        file.write(JPEG)
    assert read_image(path).shape == (120, 160, 3)
    with open(path, "wb") as file:
        file.write(JPEG[:-99])
    assert "truncated" in refusal(path, "damaged")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    start = time.monotonic()
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    for name in ("pipe.jpg", "folder.jpg", "/dev/zero"):
        assert "not a regular file" in refusal(tmp_path / name, "format")
    assert "Too many levels" in refusal(tmp_path / "loop.jpg", "unreadable")
    assert "No such file" in refusal(tmp_path / "absent.jpg", "not_found")
    assert "embedded null" in refusal("a\0b.jpg")
    assert time.monotonic() - start < 1
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_file_object_that_fails_or_holds_text_is_bad_data():
    assert "file object" in refusal(io.StringIO("text"))
    with open(os.devnull, "wb") as write_only:
        assert "unreadable file object" in refusal(write_only)


def test_other_sources_are_a_mistake_of_the_caller():
    with pytest.raises(TypeError, match="path, bytes or binary file object, not ndarray"):
        read_image(np.zeros((1, 1, 3), np.uint8))


# --- robustness -------------------------------------------------------------------------------------------------------


def test_pillows_process_wide_switch_is_neither_set_nor_obeyed(monkeypatch):
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert "LOAD_TRUNCATED_IMAGES" in refusal(PNG, "conflict")
    assert read_image(JPEG).shape == (120, 160, 3)


def test_every_single_bit_of_rot_in_a_png_is_seen():
    rng = np.random.default_rng(1)
    for data in (PNG, READABLE["rgba png"][0], encode(GREY.convert("P"), "PNG"), encode(GREY16, "PNG")):
        for _ in range(50):
            at = int(rng.integers(len(data)))
            refusal(patched(data, at, bytes([data[at] ^ (1 << int(rng.integers(8)))])))


def test_damage_of_any_kind_ends_in_an_image_or_a_refusal():
    rng = np.random.default_rng(2)
    files = [data for data, _, _ in READABLE.values()] + [data for data, _ in REFUSED.values() if len(data) > 50]
    for data in files:
        for _ in range(5):
            at = int(rng.integers(len(data)))
            rot = rng.integers(0, 256, rng.choice([1, 4, 40]), dtype=np.uint8).tobytes()
            try:
                pixels = read_image(patched(data, at, rot)[: int(rng.integers(len(data) // 2, 2 * len(data)))])
            except DataError as error:
                assert str(error).isprintable()
            else:
                assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


def test_threads():
    files = [data for data, _, _ in READABLE.values()]
    expected = [read_image(data) for data in files]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for pixels, single in zip(pool.map(read_image, files), expected, strict=True):
                assert (pixels == single).all()


def test_photographs(shared: pathlib.Path):
    """Real JPEGs equal Pillow's default decoding. JPEG has no checksum, so not all damage is detected: 85 % here."""
    rng = np.random.default_rng(3)
    seen, trials = 0, 0
    for path in sorted((shared / "data/mos/tub_acr/images").glob("*.jpg"))[::7]:
        data = path.read_bytes()
        with Image.open(path) as image:
            assert (read_image(path) == np.asarray(image.convert("RGB"))).all()
            assert image_size(path) == (image.height, image.width)
        for _ in range(15):
            at = int(rng.integers(data.rindex(b"\xff\xda") + 20, len(data) - 60))
            trials += 1
            try:
                read_image(patched(data, at, rng.integers(0, 256, 40, dtype=np.uint8).tobytes()))
            except DataError:
                seen += 1
    assert seen >= 0.75 * trials
