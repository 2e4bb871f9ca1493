"""Render distorted versions of images: 25 types at five levels.

  jaxiqa distort photo.png --output distorted --sheet
  jaxiqa distort pristine/ --types gaussian_blur,jpeg,25 --levels 1-3 --output distorted

The types are those of KADID-10k, with the real codecs. Every image NAME gives NAME_TT_LL.png (type 01 to 25, level 01
to 05, as in KADID-10k and KADIS-700k). Existing files are kept: repeat the command to resume where it stopped. The
seed of a random type depends on NAME, type, level and --seed only, so that a single file can be rendered again. --sheet
draws NAME_sheet.png with one row per type.

The sides of an image must be 64 pixels or more. Each image size needs one compilation per type, so a set of images of
one size takes less time.

Exit codes: 0 done, 2 usage, 3 an image could not be used (the others are done), 75 disk full.
"""

import concurrent.futures
import functools
import itertools
import json
import multiprocessing
import os
import re
import signal
import zlib

import numpy as np
from absl import flags
from etils import epath
from PIL import Image
from tqdm import tqdm

from jaxiqa import program, shared_flags
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.files import write_json
from jaxiqa.inputs.image_paths import find_images
from jaxiqa.version import __version__

LEVELS = (1, 2, 3, 4, 5)
MIN_SIDE = 64

_FLAGS = flags.FlagValues()
_OUTPUT = shared_flags.output_folder(_FLAGS)
_TYPES = shared_flags.types(_FLAGS)
_LEVELS = flags.DEFINE_string(
    "levels", "1-5", "Levels of distortion, 1 to 5, e.g. 3, 1-5 or 1,4-5.", flag_values=_FLAGS
)
_SHEET = flags.DEFINE_bool("sheet", False, "Draw a contact sheet for each image.", flag_values=_FLAGS)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the random distortion types.", flag_values=_FLAGS)
_PROCESSES = flags.DEFINE_integer(
    "processes", os.cpu_count() or 1, "Number of processes that render in parallel.", lower_bound=1, flag_values=_FLAGS
)


def parse_levels(text: str) -> list[int]:
    """Parses levels from 1 to 5, e.g. "3", "1-5" or "1,4-5". Raises ConfigError for any other text."""
    levels = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([1-5])\s*(?:-\s*([1-5])\s*)?", part)
        span = range(int(match[1]), int(match[2] or match[1]) + 1) if match else ()
        if not span:
            raise ConfigError(
                f'--levels "{text}" is not a list of levels; write e.g. 3, 1-5 or 1,4-5', code="value", key="--levels"
            )
        levels |= set(span)
    return sorted(levels)


def file_name(name: str, type: int, level: int) -> str:
    """The file name as in KADID-10k: I01_05_02.png is the image I01 with type 5 at level 2."""
    return f"{name}_{type:02d}_{level:02d}.png"


def render_one(path: str, type: int, level: int, seed: int, target: str) -> str:
    """Distorts the image `path` and writes `target`. Returns "", or the reason if the image cannot be used."""
    from jaxiqa.distortions import distort_exact
    from jaxiqa.inputs.render import write_png

    try:
        image = _read(path)
        if min(image.shape[:2]) < MIN_SIDE:
            return f"{path}: {image.shape[1]} x {image.shape[0]} pixels; both sides must have {MIN_SIDE} or more"
    except DataError as error:
        return str(error)
    own = zlib.crc32(f"{os.path.basename(target)}\t{seed}".encode("utf-8", "surrogateescape"))
    write_png(distort_exact(image, type, level, own), target)
    return ""


@functools.lru_cache(maxsize=1)
def _read(path: str):
    from jaxiqa.inputs.decode import read_image

    return read_image(path)


def sheet(path: str, name: str, folder: str, types: list[int], levels: list[int]) -> None:
    """Draws NAME_sheet.png from the rendered files: a row per type, a column per level."""
    from jaxiqa.distortions import get_distortion
    from jaxiqa.figures import report
    from jaxiqa.inputs.decode import read_image

    images, captions = [], []
    for type, level in itertools.product(types, levels):
        image = Image.fromarray(read_image(os.path.join(folder, file_name(name, type, level))))
        image.thumbnail((300, 300))
        images.append(np.asarray(image))
        captions.append(f"{type} {get_distortion(type).name}, level {level}")
    report.contact_sheet(os.path.join(folder, f"{name}_sheet.png"), images, captions, path, len(levels))


def main(paths: list[str]) -> None:
    """The program."""
    if not paths:
        raise ConfigError(
            "there are no images to distort; name files or folders: jaxiqa distort PATH... --output DIR",
            code="missing",
            key="images",
        )
    if not _OUTPUT.value:
        raise ConfigError("--output is missing; name a folder for the distorted images", code="missing", key="--output")
    levels = parse_levels(_LEVELS.value)

    from jaxiqa.distortions import parse_types

    types = parse_types(_TYPES.value)
    sources = {}
    for path in find_images(paths):
        name = os.path.splitext(os.path.basename(path))[0]
        if name in sources:
            raise DataError(
                f"{path} and {sources[name]} would both become {name}_TT_LL.png; rename one of them",
                code="conflict",
                key=path,
            )
        sources[name] = path
    folder = epath.Path(_OUTPUT.value)
    with program.writes_output(folder):
        _claim(folder)
    there = set(os.listdir(folder))
    # Images of one size follow one another, so that each process compiles once per size.
    order = sorted(sources, key=lambda name: (_size(sources[name]), name))
    jobs = [
        (sources[name], type, level, _SEED.value, os.path.join(folder, file_name(name, type, level)))
        for name, type, level in itertools.product(order, types, levels)
        if file_name(name, type, level) not in there
    ]
    refused = _run(jobs, min(_PROCESSES.value, max(1, len(jobs) // 5)))
    if _SHEET.value:
        for name in tqdm(order, "sheets", unit=" images", disable=None):
            if sources[name] not in refused:
                sheet(sources[name], name, folder, types, levels)
    done = len(jobs) - sum(job[0] in refused for job in jobs)
    print(f"{done} images written to {folder}, {len(sources) * len(types) * len(levels) - len(jobs)} existed already")
    if refused:
        for reason in refused.values():
            print(f"refused: {reason}")
        raise DataError(
            f"{len(refused)} of {len(sources)} images could not be used: {', '.join(refused)}",
            code="faults",
            key=folder,
        )


def _run(jobs: list[tuple], processes: int) -> dict[str, str]:
    """Runs the jobs. Returns {path: reason} of the images that could not be used."""
    refused = {}
    if not jobs:
        return refused

    from jaxiqa.inputs.render import remove_scratch
    from jaxiqa.runs import compile_cache

    context = multiprocessing.get_context("spawn")  # JAX hangs in forked processes
    os.environ["JAX_PLATFORMS"] = "cpu"  # for the child processes: distort_exact runs on the host
    pool = concurrent.futures.ProcessPoolExecutor(processes, context, compile_cache.enable)
    try:
        chunk = max(1, min(len(LEVELS), len(jobs) // processes))  # the levels of a type share a compiled function
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # for child processes; this one handles Ctrl-C
        results = pool.map(render_one, *zip(*jobs, strict=True), chunksize=chunk)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        bar = tqdm(results, "distorting", len(jobs), unit=" images", mininterval=1, disable=None)
        for job, reason in zip(jobs, bar, strict=True):
            if reason:
                refused[job[0]] = reason
    except BaseException as error:
        workers = multiprocessing.active_children()
        for worker in workers:  # otherwise they would finish their jobs first
            worker.terminate()
        pool.shutdown(cancel_futures=True)
        for worker in workers:
            remove_scratch(os.path.dirname(jobs[0][-1]), worker.pid)
        error.add_note("repeat the command to continue where it stopped")
        raise
    pool.shutdown()
    return refused


def _size(path: str) -> tuple[int, int]:
    from jaxiqa.inputs.decode import image_size

    try:
        return image_size(path)
    except DataError:
        return (0, 0)


def _claim(folder: epath.Path) -> None:
    """Creates the folder. Refuses one with images of another seed or version."""
    folder.mkdir(parents=True, exist_ok=True)
    note, settings = folder / "distort.json", {"jaxiqa": __version__, "seed": _SEED.value}
    if note.exists():
        try:
            held = json.loads(note.read_text())
        except ValueError as error:
            raise ConfigError(
                f"{note} is damaged ({error}); remove it, or name another folder", code="damaged", key=note
            ) from error
        if held != settings:
            raise ConfigError(
                f"--output {folder} holds images made with {held}, not with {settings}; name another folder",
                code="changed",
                key="--output",
            )
    write_json(note, settings)


if __name__ == "__main__":
    program.run(main, _FLAGS, takes_arguments=True)
