"""What scoring costs: decoding alone, the model alone, both together, and what that makes for 100 million images."""

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
import simplejpeg
import skimage.data
from PIL import Image

from jaxiqa.errors import DataError
from jaxiqa.inputs.image_paths import find_images
from jaxiqa.runs import compile_cache
from jaxiqa.scoring.batch_scorer import BatchScorer
from jaxiqa.scoring.engine import in_order, readers_by_default
from jaxiqa.scoring.meter import Meter

MANY = 100_000_000
BAR = 0.8  # of the slower stage alone; on a CPU, of what two stages reach that take turns on the same cores
ROUNDS, SECONDS = 3, 5.0  # of each measurement
SIDES = (512, 1080, 3000)  # shorter sides of the photographs that are measured without --images
_BATCH = 64  # images that are scored together by the model alone


def photographs(folder: str, side: int) -> list[str]:
    """Writes the photographs of scikit-image as JPEG files with this shorter side, and returns their paths."""
    paths = []
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        image = Image.fromarray(getattr(skimage.data, name)())
        factor = side / min(image.size)
        image = image.resize([round(n * factor) for n in image.size], Image.Resampling.BICUBIC)
        paths.append(os.path.join(folder, f"{name}_{side}.jpg"))
        with open(paths[-1], "wb") as file:
            file.write(simplejpeg.encode_jpeg(np.asarray(image), 90, "RGB", "420"))
    return paths


def rate(images: Iterator) -> float:
    """Images per second of an endless iterator, which has begun."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        next(images)
        count += 1
    return count / (time.perf_counter() - began)


def decoding(scorer: BatchScorer, paths: list[str], readers: int) -> Iterator:
    """Decodes and cuts, without the model, again and again."""
    return in_order(itertools.cycle(paths), lambda path: scorer.decode({"path": [path]}), readers)


def scoring(scorer: BatchScorer, paths: list[str]) -> Iterator:
    """Scores images that are decoded and cut, again and again."""
    stages = [scorer.decode({"path": [path]}) for path in paths]
    columns = {name: np.concatenate([one[name] for one in stages]) for name in ("tiles", "reason")}
    some = {name: np.resize(column, _BATCH) for name, column in columns.items()}
    while True:
        yield from scorer.score(some)["score"]


def measure(ways: dict[str, Callable[[], Iterator]]) -> dict[str, float]:
    """Median rate of each way. They take turns, so that a busy machine slows all of them."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, start in ways.items():
            images = start()
            next(images)
            if turn:  # the first turn compiles
                rates[name].append(rate(images))
            images.close()
    return {name: statistics.median(found) for name, found in rates.items()}


def run(checkpoint: str | None = None, crops: str | None = None, images: str | None = None) -> int:
    """Prints the tables; returns 1 if both stages together are below the bar.

    Args:
      checkpoint, crops: as for BatchScorer.
      images: a folder of images to measure; None for photographs of three sizes.
    """
    compile_cache.enable()
    scorer = BatchScorer(checkpoint, crops)
    devices = jax.local_devices()
    cores = readers_by_default()
    print(
        f"{scorer.model}, crops {scorer.card.crops}; {cores} core(s), {len(devices)} device(s) "
        f"{devices[0].device_kind}; medians of {ROUNDS} rounds of {SECONDS:g} s, in images/s"
    )
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        sets = {f"{side} pixels": photographs(folder, side) for side in SIDES}
        if images:
            sets = {images: find_images([images])[:_BATCH]}
        for name, paths in sets.items():
            missed |= _one(name, scorer, paths, cores, devices)
    return int(missed)


def _one(name: str, scorer: BatchScorer, paths: list[str], cores: int, devices: list) -> bool:
    """Measures one set of images. Returns whether it is below the bar."""
    stage = scorer.decode({"path": paths})
    good = [path for path, reason in zip(paths, stage["reason"], strict=True) if not reason]
    if not good:
        raise DataError(f"{name}: no image can be read: {stage['reason'][0]}", code="empty", key=name)
    crop = int(np.prod(scorer.scorer.predictor.cropper.shape))
    crops = statistics.mean(len(tiles) / crop for tiles in stage["tiles"] if tiles)
    meter = Meter()
    two = scorer.copy(readers=2)
    found = measure(
        {
            "one reader": lambda: decoding(scorer, good, 1),
            "two readers": lambda: decoding(scorer, good, 2),
            "all cores": lambda: decoding(scorer, good, cores),
            "model": lambda: scoring(scorer, good),
            "together": lambda: scorer.rows(itertools.cycle(good), meter),
            "together, two readers": lambda: two.rows(itertools.cycle(good)),
        }
    )
    decode, model, both = found["all cores"], found["model"], found["together"]
    on_cpu = devices[0].platform == "cpu"
    least, shared = min(decode, model), 1 / (1 / decode + 1 / model)
    possible = shared if on_cpu else least
    print(f"\n{name}: {crops:.1f} crops an image")
    print(f"  decode alone: {found['one reader']:.1f} with one reader, {found['two readers']:.1f} with two, ", end="")
    print(f"{decode:.1f} with {cores}")
    print(f"  model alone: {model:.1f} ({model * crops:.0f} crops/s)")
    print(f"  together: {both:.1f} with {cores} readers, {found['together, two readers']:.1f} with two", end="")
    print(f"; {both / least:.2f} of the slower stage", end="")
    print(f", {both / shared:.2f} of what shared cores allow" if on_cpu else "", f"(bar {BAR})")
    cores_needed = MANY / found["one reader"] / 3600
    print(f"  {MANY:,} images: {cores_needed:,.0f} core hours of decoding, ", end="")
    print(
        f"{MANY / model / 3600 * len(devices):,.0f} hours of {'this CPU' if on_cpu else 'a device'} for the model, ",
        end="",
    )
    print(f"{MANY / both / 3600:,.0f} hours on this machine", flush=True)
    return both < BAR * possible
