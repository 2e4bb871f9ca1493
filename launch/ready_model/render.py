"""Renders the training images of the model that ships: distorted crops of free photographs, with transferred scores.

  python launch/ready_model/render.py PHOTOGRAPHS OUT [--only 0/2]

PHOTOGRAPHS is a folder that holds the files listed in photographs.csv, anywhere below it; each is checked by its
SHA-256. OUT receives images/*.png, crops of 112 x 112 pixels (96 x 96 of series), and index.csv with the columns path,
mos (1 to 5, empty for series), content (the photograph), distortion, level and split (train, val, train_series or
val_series). --only K/N does every N-th job from the K-th on, so that N processes share the work; the last one that ends
writes index.csv.

A view is a window of a photograph, reduced by a random factor to 512 x 384 pixels, KADID-10k's size. It is distorted as
a whole. Four kinds of views are rendered (JOBS):
  full   12 of KADID-10k's types at two levels, ten chains of reducing, coding and enlarging, four of coding (once or
         twice), five of two distortions, and the view itself; five crops of each
  light  three chains, two of coding, a blur, a noise, and the view itself; three crops of each
  clean  the view itself; eight crops. Without them, a model takes every smooth sky for a blurred one.
  series all of KADID-10k's types at all levels, and the view itself; the same eight crops of each, only to be compared
"""

import argparse
import csv
import hashlib
import io
import itertools
import json
import pathlib
import sys
import zlib

import numpy as np
from damage import damage, scores
from PIL import Image, ImageFilter
from tqdm import tqdm

from jaxiqa.datasets.readers.kadid10k import DISTORTIONS
from jaxiqa.distortions import distort_exact
from jaxiqa.files import write_bytes, writing
from jaxiqa.inputs.render import write_png

HEIGHT, WIDTH, CROP = 384, 512, 112
SERIES_CROPS, SERIES_CROP, SERIES_TYPES = 8, 96, range(1, 26)
HERE = pathlib.Path(__file__).resolve().parent
_PAIRABLE = (1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 13, 16, 17, 19, 24, 25)  # types that may meet another one
_R = Image.Resampling
JOBS = {  # part of the split: (kind of views, first view, number of views)
    "train": (("full", 0, 4), ("light", 200, 12), ("clean", 100, 20), ("series", 300, 2)),
    "val": (("full", 0, 1), ("clean", 100, 20), ("series", 300, 1)),
}


def find_photographs(folder: pathlib.Path) -> list[dict]:
    """The rows of photographs.csv with the key `file`; ends the program if one is missing or differs."""
    with open(HERE / "photographs.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    there = {path.name: path for path in folder.rglob("*")}
    missing = [row["name"] for row in rows if row["name"] not in there]
    if missing:
        sys.exit(
            f"{folder}: {len(missing)} of {len(rows)} photographs are missing (photographs.csv says where they "
            f"are): {', '.join(missing[:5])}"
        )
    for row in rows:
        row["file"] = there[row["name"]]
        if hashlib.sha256(row["file"].read_bytes()).hexdigest() != row["sha256"]:
            sys.exit(f"{row['file']} is not the file of photographs.csv: its SHA-256 differs")
    return rows


def window(photograph: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A random window, reduced to uint8 (384, 512, 3), of a large photograph by a factor of 2 or more."""
    width, height = photograph.size
    if rng.random() < 0.25:
        photograph = photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    largest = min(width / WIDTH, height / HEIGHT)
    smallest = min(largest, 2.0 if largest > 4 else 1.5 if largest > 2 else 1.2)
    factor = largest if largest < 1 else float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))
    w, h = int(WIDTH * factor), int(HEIGHT * factor)
    left, top = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
    return np.asarray(photograph.resize((WIDTH, HEIGHT), _R.LANCZOS, box=(left, top, left + w, top + h)))


def coded(image_HWC: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[str, float]]:
    """The image after a random codec of random quality, with the name of the codec and the logarithm of the quality."""
    codec = str(rng.choice(["jpeg", "webp", "avif", "jp2"], p=[0.35, 0.15, 0.4, 0.1]))
    if codec == "jpeg":
        quality = float(np.exp(rng.uniform(np.log(5), np.log(95))))
        return saved(image_HWC, "JPEG", **jpeg(quality)), (codec, float(np.log(quality)))
    if codec == "webp":
        quality = rng.uniform(0, 90)
        return saved(image_HWC, "WEBP", quality=int(quality)), (codec, float(np.log(quality + 5)))
    if codec == "avif":
        quality = rng.uniform(3, 75)
        return saved(image_HWC, "AVIF", quality=int(quality), speed=9), (codec, float(np.log(quality)))
    rate = float(np.exp(rng.uniform(np.log(8), np.log(150))))
    how = {"quality_mode": "rates", "quality_layers": [rate], "irreversible": True}
    return saved(image_HWC, "JPEG2000", **how), (codec, float(np.log(rate)))


def jpeg(quality: float) -> dict:
    """Options of a JPEG file; two thirds of the qualities have reduced chroma."""
    return {"quality": int(quality), "subsampling": 2 if int(quality) % 3 else 0}


def saved(image_HWC: np.ndarray, form: str, **how) -> np.ndarray:
    """The image after it was saved in a format and read again."""
    file = io.BytesIO()
    Image.fromarray(image_HWC).save(file, form, **how)
    return np.asarray(Image.open(file).convert("RGB"))


def chain(image_HWC: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple]:
    """The image reduced by a factor of 1 to 6, mostly coded, and enlarged again; with its kind."""
    factor = float(np.exp(rng.uniform(0, np.log(6))))
    enlarge = [_R.BICUBIC, _R.BICUBIC, _R.LANCZOS, _R.BILINEAR][rng.integers(4)]
    code = rng.random() < 0.75
    reduce = [_R.BICUBIC, _R.LANCZOS, _R.BOX][rng.integers(3)]
    small = np.asarray(Image.fromarray(image_HWC).resize((round(WIDTH / factor), round(HEIGHT / factor)), reduce))
    small, (codec, quality) = coded(small, rng) if code else (small, ("", 0.0))
    large = np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT), enlarge))
    return large, ("codec", codec, float(np.log(factor)), quality)


def degrade(image_HWC: np.ndarray, type_: int, level: int, rng: np.random.Generator) -> np.ndarray:
    """One of KADID-10k's types; the values are not stretched first, because photographs on the web are not."""
    return distort_exact(image_HWC, type_, level, int(rng.integers(2**31)), stretch=False)


def full(source_HWC: np.ndarray, rng: np.random.Generator):
    """Yields (image, kind) for all images of a full view; `kind` as damage.scores takes it."""
    yield source_HWC, ()
    for type_ in map(int, rng.permutation(25)[:12] + 1):
        for level in map(int, sorted(rng.permutation(5)[:2] + 1)):
            yield degrade(source_HWC, type_, level, rng), ("cell", type_, level)
    for _ in range(10):
        yield chain(source_HWC, rng)
    for _ in range(2):
        image, (codec, quality) = coded(source_HWC, rng)
        yield image, ("codec", codec, 0.0, quality)
    for _ in range(2):
        image, (codec, quality) = coded(coded(source_HWC, rng)[0], rng)
        yield image, ("codec", codec, 0.0, quality)
    for _ in range(5):
        image = source_HWC
        for type_ in map(int, rng.permutation(_PAIRABLE)[:2]):
            image = degrade(image, type_, int(rng.integers(1, 5)), rng)
        yield coded(image, rng)[0] if rng.random() < 0.4 else image, ("two",)


def light(source_HWC: np.ndarray, rng: np.random.Generator):
    """Yields (image, kind) for all images of a light view."""
    yield source_HWC, ()
    for _ in range(3):
        yield chain(source_HWC, rng)
    image, (codec, quality) = coded(source_HWC, rng)
    yield image, ("codec", codec, 0.0, quality)
    quality = float(np.exp(rng.uniform(np.log(5), np.log(95))))
    yield saved(source_HWC, "JPEG", **jpeg(quality)), ("codec", "jpeg", 0.0, float(np.log(quality)))
    width = float(np.exp(rng.uniform(np.log(0.4), np.log(6))))
    yield (
        np.asarray(Image.fromarray(source_HWC).filter(ImageFilter.GaussianBlur(width))),
        ("blur", float(np.log(width))),
    )
    strength = float(np.exp(rng.uniform(np.log(2), np.log(50))))
    channels = 3 if rng.random() < 0.6 else 1
    noisy = source_HWC + rng.standard_normal((HEIGHT, WIDTH, channels)) * strength
    kind = ("noise", "colour" if channels == 3 else "grey", float(np.log(strength)))
    yield np.clip(noisy + 0.5, 0, 255).astype(np.uint8), kind


def clean(source_HWC: np.ndarray, rng: np.random.Generator):
    """Yields (image, kind) of a view without distortions."""
    yield source_HWC, ()


VIEWS = {"full": (full, 5), "light": (light, 3), "clean": (clean, 8)}  # the images of a view, and crops of each


def opened(row: dict) -> Image.Image:
    """The photograph, a JPEG file of more than 5000 pixels width at half its size."""
    photograph = Image.open(row["file"])
    if photograph.width > 5000:
        photograph.draft("RGB", (photograph.width // 2, photograph.height // 2))
    return photograph.convert("RGB")


def corners(rng: np.random.Generator, count: int, crop: int = CROP) -> list[tuple[int, int]]:
    """(top, left) of random crops of a view."""
    return [tuple(int(rng.integers(0, side - crop + 1)) for side in (HEIGHT, WIDTH)) for _ in range(count)]


def seeded(row: dict, view: int) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{row['name']}:{view}".encode()))


def render(row: dict, kind: str, first: int, number: int, out: pathlib.Path) -> list[dict]:
    """Writes the crops of all views of one kind; returns a row for each crop."""
    if kind == "series":
        return [found for view in range(first, first + number) for found in render_series(row, view, out)]
    photograph, (versions, count), rows = opened(row), VIEWS[kind], []
    for view in range(first, first + number):
        rng = seeded(row, view)
        source = window(photograph, rng)
        found = list(versions(source, rng))
        shared = corners(rng, count) if kind == "full" else None  # the crops of all levels of a type are the same
        for i, (image, done) in enumerate(found):
            places = shared if shared and done[:1] in ((), ("cell",)) else corners(rng, count)
            values = damage(source, image, places, CROP) if done else np.zeros((count, 16), np.float32)
            for k, (top, left) in enumerate(places):
                path = f"images/{pathlib.Path(row['name']).stem}_{view}_{i:02d}_{k}.png"
                write_png(image[top : top + CROP, left : left + CROP], out / path)
                about = {"path": path, "content": row["name"], "split": row["split"]}
                rows.append(about | {"done": done, "damage": values[k].tolist()})
    return rows


def render_series(row: dict, view: int, out: pathlib.Path) -> list[dict]:
    """Writes the same crops of a view undistorted and at all levels of all types; returns a row for each crop."""
    rng, rows = seeded(row, view), []
    source = window(opened(row), rng)
    places = corners(rng, SERIES_CROPS, SERIES_CROP)
    seeds = rng.integers(2**31, size=25)  # the levels of a type have the same random numbers
    cells = [(), *itertools.product(("cell",), SERIES_TYPES, range(1, 6))]
    for i, done in enumerate(cells):
        image = distort_exact(source, *done[1:], int(seeds[done[1] - 1]), stretch=False) if done else source
        for k, (top, left) in enumerate(places):
            path = f"images/{pathlib.Path(row['name']).stem}_{view}_{i:03d}_{k}.png"
            write_png(image[top : top + SERIES_CROP, left : left + SERIES_CROP], out / path)
            rows.append({"path": path, "content": row["name"], "split": f"{row['split']}_series", "done": done})
    return rows


def write_index(out: pathlib.Path, rows: list[dict]) -> None:
    """Writes index.csv. The crops of series have no score."""
    rows = sorted(rows, key=lambda row: "series" in row["split"])
    rated = [row for row in rows if "series" not in row["split"]]
    kinds = [tuple(row["done"]) for row in rows]
    images = [row["path"].rpartition("_")[0] for row in rated]
    _, image_N = np.unique(images, return_inverse=True)
    found = scores(np.array([row["damage"] for row in rated]), kinds[: len(rated)], image_N)
    mos = [f"{score:.4f}" for score in found] + [""] * (len(rows) - len(rated))
    with writing(out / "index.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("path", "mos", "content", "distortion", "level", "split"))
        for row, kind, score in zip(rows, kinds, mos, strict=True):
            is_cell = kind[:1] == ("cell",)
            name, level = (DISTORTIONS[kind[1] - 1], kind[2]) if is_cell else (kind[0] if kind else "", "")
            table.writerow((row["path"], score, row["content"], name, level, row["split"]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Renders the training images of the model that ships.")
    parser.add_argument("photographs", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", default="0/1", help="K/N: every N-th job from the K-th on")
    args = parser.parse_args()
    rows, (first, step) = find_photographs(args.photographs), map(int, args.only.split("/"))
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    jobs = [(row, *job) for row in rows for job in JOBS.get(row["split"], ())]
    parts = [args.out / f"{i:04d}.json" for i in range(len(jobs))]
    for i in tqdm(range(first, len(jobs), step), "rendering", unit=" jobs", disable=None):
        if not parts[i].exists():
            write_bytes(parts[i], json.dumps(render(*jobs[i], args.out)).encode())
    if all(part.exists() for part in parts):
        write_index(args.out, [row for part in parts for row in json.loads(part.read_text())])


if __name__ == "__main__":
    main()
