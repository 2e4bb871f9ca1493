"""Renders the training images of the model that ships: distorted crops of free photographs, with transferred scores.

  python launch/ready_model/render.py PHOTOGRAPHS OUT [--only 0/2]

PHOTOGRAPHS is a folder that holds the files listed in photographs.csv, anywhere below it; each is checked by its
SHA-256. OUT receives images/*.png, crops of 112 x 112 pixels, and index.csv with the columns path, mos (1 to 5),
content (the photograph), distortion, level and split (train, val or test). --only K/N renders every N-th view
from the K-th on, so that N processes share the work; the last one that ends writes index.csv.

A view is a window of a photograph, reduced by a random factor to 512 x 384 pixels, KADID-10k's size. It is distorted as
a whole. Each view gives one undistorted image, 12 of KADID-10k's types at two levels, ten chains of reducing, coding
and enlarging, four of coding (once or twice), and five of two distortions. Five crops of each are kept. Training
photographs have four views, the others one. Each photograph also gives eight crops of 20 undistorted windows: without
them, a model takes every smooth sky for a blurred one.
"""

import argparse
import csv
import hashlib
import io
import json
import pathlib
import sys
import zlib

import numpy as np
from damage import damage, scores
from PIL import Image
from tqdm import tqdm

from jaxiqa.datasets.readers.kadid10k import DISTORTIONS
from jaxiqa.distortions import distort_exact
from jaxiqa.files import write_bytes, writing
from jaxiqa.inputs.render import write_png

HEIGHT, WIDTH, CROP, CROPS = 384, 512, 112, 5
HERE = pathlib.Path(__file__).resolve().parent
CHAIN, CODEC, TWICE, TWO = 30, 31, 32, 33  # numbers of what is not one of KADID-10k's types
_NAMES = {0: "", CHAIN: "resized and coded", CODEC: "coded", TWICE: "coded twice", TWO: "two distortions"}
_PAIRABLE = (1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 13, 16, 17, 19, 24, 25)  # types that may meet another one
_R = Image.Resampling


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


def coded(image_HWC: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image after a random codec (JPEG, WebP, AVIF or JPEG 2000) of random quality."""
    codec, file = rng.choice(["jpeg", "webp", "avif", "jp2"], p=[0.35, 0.15, 0.4, 0.1]), io.BytesIO()
    image = Image.fromarray(image_HWC)
    if codec == "jpeg":
        quality = np.exp(rng.uniform(np.log(5), np.log(95)))
        image.save(file, "JPEG", quality=int(quality), subsampling=int(quality) % 3 and 2)
    elif codec == "webp":
        image.save(file, "WEBP", quality=int(rng.uniform(0, 90)))
    elif codec == "avif":
        image.save(file, "AVIF", quality=int(rng.uniform(3, 75)), speed=9)
    else:
        rate = float(np.exp(rng.uniform(np.log(8), np.log(150))))
        image.save(file, "JPEG2000", quality_mode="rates", quality_layers=[rate], irreversible=True)
    return np.asarray(Image.open(file).convert("RGB"))


def chain(image_HWC: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image reduced by a factor of 1 to 6, mostly coded, and enlarged again."""
    factor = float(np.exp(rng.uniform(0, np.log(6))))
    enlarge = [_R.BICUBIC, _R.BICUBIC, _R.LANCZOS, _R.BILINEAR][rng.integers(4)]
    code = rng.random() < 0.75
    reduce = [_R.BICUBIC, _R.LANCZOS, _R.BOX][rng.integers(3)]
    small = Image.fromarray(image_HWC).resize((round(WIDTH / factor), round(HEIGHT / factor)), reduce)
    pixels = coded(np.asarray(small), rng) if code else np.asarray(small)
    return np.asarray(Image.fromarray(pixels).resize((WIDTH, HEIGHT), enlarge))


def degrade(image_HWC: np.ndarray, type_: int, level: int, rng: np.random.Generator) -> np.ndarray:
    """One of KADID-10k's types; the values are not stretched first, because photographs on the web are not."""
    return distort_exact(image_HWC, type_, level, int(rng.integers(2**31)), stretch=False)


def versions(source_HWC: np.ndarray, rng: np.random.Generator):
    """Yields (image, type, level) for all images of a view, the source first."""
    yield source_HWC, 0, 0
    for type_ in map(int, rng.permutation(25)[:12] + 1):
        for level in map(int, sorted(rng.permutation(5)[:2] + 1)):
            yield degrade(source_HWC, type_, level, rng), type_, level
    for _ in range(10):
        yield chain(source_HWC, rng), CHAIN, 0
    for _ in range(2):
        yield coded(source_HWC, rng), CODEC, 0
    for _ in range(2):
        yield coded(coded(source_HWC, rng), rng), TWICE, 0
    for _ in range(5):
        image = source_HWC
        for type_ in map(int, rng.permutation(_PAIRABLE)[:2]):
            image = degrade(image, type_, int(rng.integers(1, 5)), rng)
        yield coded(image, rng) if rng.random() < 0.4 else image, TWO, 0


def opened(row: dict) -> Image.Image:
    """The photograph, a JPEG file of more than 5000 pixels width at half its size."""
    photograph = Image.open(row["file"])
    if photograph.width > 5000:
        photograph.draft("RGB", (photograph.width // 2, photograph.height // 2))
    return photograph.convert("RGB")


def corners(rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
    """(top, left) of random crops of a view."""
    return [tuple(int(rng.integers(0, side - CROP + 1)) for side in (HEIGHT, WIDTH)) for _ in range(count)]


def seeded(row: dict, view: int) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{row['name']}:{view}".encode()))


def render(row: dict, view: int, out: pathlib.Path) -> list[dict]:
    """Writes the crops of one view; returns a row with its damage for each."""
    rng = seeded(row, view)
    source = window(opened(row), rng)
    found = list(versions(source, rng))
    shared, rows = corners(rng, CROPS), []
    for i, (image, type_, level) in enumerate(found):
        places = shared if type_ <= 25 else corners(rng, CROPS)
        values = damage(source, image, places, CROP).tolist()
        rows += [keep(row, f"{view}_{i:02d}_{k}", image, places[k], out, type_, level, values[k]) for k in range(CROPS)]
    return rows


def render_clean(row: dict, out: pathlib.Path) -> list[dict]:
    """Writes crops of undistorted windows of one photograph; returns a row for each."""
    photograph, rows = opened(row), []
    for view in range(100, 120):
        rng = seeded(row, view)
        image = window(photograph, rng)
        rows += [keep(row, f"{view}_{k}", image, place, out) for k, place in enumerate(corners(rng, 8))]
    return rows


def keep(row: dict, name: str, image_HWC, corner, out: pathlib.Path, type_=0, level=0, values=(0.0,) * 16) -> dict:
    """Writes one crop of an image; returns its row."""
    top, left = corner
    path = f"images/{pathlib.Path(row['name']).stem}_{name}.png"
    write_png(image_HWC[top : top + CROP, left : left + CROP], out / path)
    about = {"path": path, "content": row["name"], "split": row["split"], "type": type_, "level": level}
    return about | {"damage": list(values)}


def write_index(out: pathlib.Path, rows: list[dict]) -> None:
    """Writes index.csv."""
    type_, level = (np.array([row[key] for row in rows]) for key in ("type", "level"))
    mos = scores(np.array([row["damage"] for row in rows]), type_, level)
    with writing(out / "index.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("path", "mos", "content", "distortion", "level", "split"))
        for row, score in zip(rows, mos, strict=True):
            name = _NAMES.get(row["type"]) if row["type"] in _NAMES else DISTORTIONS[row["type"] - 1]
            table.writerow((row["path"], f"{score:.4f}", row["content"], name, row["level"] or "", row["split"]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Renders the training images of the model that ships.")
    parser.add_argument("photographs", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", default="0/1", help="K/N: every N-th view from the K-th on")
    args = parser.parse_args()
    rows, (first, step) = find_photographs(args.photographs), map(int, args.only.split("/"))
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    jobs = [(row, view) for row in rows for view in (*range(4 if row["split"] == "train" else 1), None)]
    parts = [args.out / f"{i:04d}.json" for i in range(len(jobs))]
    for i in tqdm(range(first, len(jobs), step), "rendering", unit=" views", disable=None):
        if not parts[i].exists():
            row, view = jobs[i]
            found = render_clean(row, args.out) if view is None else render(row, view, args.out)
            write_bytes(parts[i], json.dumps(found).encode())
    if all(part.exists() for part in parts):
        write_index(args.out, [row for part in parts for row in json.loads(part.read_text())])


if __name__ == "__main__":
    main()
