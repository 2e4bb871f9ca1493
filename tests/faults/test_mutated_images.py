"""Good images with random mutations: nothing crashes or hangs, and no image that is still whole is refused."""

import collections
import io
import time

import numpy as np
import simplejpeg
from picture_files import BIG, CMYK, GREY, GREY16, RGB, chunk, encode
from PIL import Image

from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import image_size, read_image

SECONDS = 5  # of computing, for one small file
END = {"JPEG": b"\xff\xd9", "PNG": chunk(b"IEND", b"")}

TEXT = chunk(b"tEXt", b"comment\0" + b"a word or two " * 9)
ABOUT = {"exif": Image.Exif().tobytes(), "comment": b"a word or two", "icc_profile": bytes(400)}
PNGS = [encode(image, "PNG") for image in (RGB, GREY, GREY16, GREY.convert("P"))]
GOOD = {
    "JPEG": [
        encode(BIG, "JPEG", quality=90, **ABOUT),
        encode(BIG, "JPEG", quality=75, subsampling=0, restart_marker_rows=1),
        encode(BIG, "JPEG", quality=90, progressive=True, **ABOUT),
        encode(GREY, "JPEG"),
        encode(CMYK, "JPEG"),
        encode(RGB, "JPEG") + b"an appendix",
    ],
    "PNG": [*PNGS, PNGS[0][:33] + TEXT + PNGS[0][33:-12] + TEXT + PNGS[0][-12:]],
    "WebP": [
        encode(RGB, "WEBP", exif=Image.Exif().tobytes(), xmp=b"<x/>"),
        encode(RGB, "WEBP", lossless=True),
        encode(RGB.convert("RGBA"), "WEBP"),
    ],
}


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The file with one mutation: bytes overwritten, a bit flipped, bytes put in, taken out, cut off or added."""
    at, n = int(rng.integers(len(data))), int(rng.choice([1, 4, 40]))
    noise = rng.integers(0, 256, n, dtype=np.uint8).tobytes() if rng.random() < 0.7 else bytes(n)
    flipped = bytes([data[at] ^ (1 << int(rng.integers(8)))])
    forms = [
        data[:at] + noise + data[at + n :],
        data[:at] + flipped + data[at + 1 :],
        data[:at] + noise + data[at:],
        data[:at] + data[at + n :],
        data[:at],
        data + noise,
    ]
    return forms[rng.choice(6, p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.05])]


def is_whole(kind: str, data: bytes, good: bytes) -> bool:
    """Whether Pillow, with all its checks, and libjpeg read the pixels of the file that was mutated.

    A file without its end marker or end chunk is not whole: it is cut off, even if no pixel is lost.
    """
    if END.get(kind, b"") not in data:
        return False
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.verify()
        with Image.open(io.BytesIO(data)) as image, Image.open(io.BytesIO(good)) as first:
            same = image.mode == first.mode and np.array_equal(np.asarray(image), np.asarray(first))
        space = "CMYK" if first.mode == "CMYK" else "RGB"
        decode = simplejpeg.decode_jpeg
        return same and (kind != "JPEG" or np.array_equal(decode(data, space, strict=False), decode(good, space)))
    except Exception:
        return False


def mutate(trials: int, seed: int = 0) -> tuple[collections.Counter, list[tuple[str, str]], float]:
    """Reads `trials` mutations; returns counts, the whole files that were refused (kind, reason), most seconds."""
    rng, counts, wrong, slowest = np.random.default_rng(seed), collections.Counter(), [], 0.0
    kinds = list(GOOD)
    for trial in range(trials):
        kind = kinds[trial % len(kinds)]
        good = GOOD[kind][int(rng.integers(len(GOOD[kind])))]
        data, began = mutated(good, rng), time.process_time()
        whole = is_whole(kind, data, good)
        try:
            pixels = read_image(data)
            assert pixels.dtype == np.uint8 and pixels.shape == (*image_size(data), 3)
            counts["read"] += 1
        except DataError as error:
            assert str(error).isprintable()
            counts["refused"] += 1
            wrong += [(kind, str(error))] if whole else []
        counts["whole"] += whole
        slowest = max(slowest, time.process_time() - began)
    return counts, wrong, slowest


def test_mutations(recwarn):
    counts, wrong, slowest = mutate(300)
    assert not wrong and slowest < SECONDS, wrong
    assert min(counts["read"], counts["refused"], counts["whole"]) > 30, counts
