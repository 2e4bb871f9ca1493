"""Render distorted versions of pictures: KADID-10k's 25 types at five levels, with the real codecs.

  python -m jaxiqa.distort photo.png --output distorted --sheet
  python -m jaxiqa.distort pristine/ --types gaussian_blur,jpeg,25 --levels 1-3 --output distorted

Every picture NAME gives NAME_TT_LL.png (type 01..25, level 01..05, as in KADID-10k and KADIS-700k). Files that exist
are kept, so the same command goes on where it stopped. Random types are seeded by NAME, type, level and --seed: any
single file can be made again alone. --sheet draws NAME_sheet.png, one row per type. Pictures need sides of 64 pixels or
more; each new size costs a compilation per type, so sets of one size are fast.

Exit codes: 0 done, 2 usage, 3 a picture that could not be used (the others are done), 75 disk full.
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

from jaxiqa import program
from jaxiqa.distortions import distort_exact, get_distortion, parse_types
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.evaluation import report
from jaxiqa.inputs.decode import image_size, read_image
from jaxiqa.inputs.files import find_pictures
from jaxiqa.inputs.render import remove_scratch, write_png
from jaxiqa.runs import compile_cache
from jaxiqa.version import __version__

LEVELS = (1, 2, 3, 4, 5)
MIN_SIDE = 64

_OUTPUT = flags.DEFINE_string("output", None, "Folder to write.")
_TYPES = flags.DEFINE_string("types", "all", "all, or names and numbers with commas: gaussian_blur,jpeg,25.")
_LEVELS = flags.DEFINE_string("levels", "1-5", "A level, a range or several with commas: 3, 1-5, 1,4-5.")
_SHEET = flags.DEFINE_bool("sheet", False, "Draw a contact sheet for each picture.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the random types.")
_PROCESSES = flags.DEFINE_integer("processes", os.cpu_count() or 1, "How many render side by side.", lower_bound=1)


def parse_levels(text: str) -> list[int]:
    """Levels 1..5 of "3", "1-5" or "1,4-5"; ConfigError for anything else."""
    levels = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([1-5])\s*(?:-\s*([1-5])\s*)?", part)
        span = range(int(match[1]), int(match[2] or match[1]) + 1) if match else ()
        if not span:
            raise ConfigError(f'--levels: "{text}" is no list of levels; write 3, 1-5 or 1,4-5')
        levels |= set(span)
    return sorted(levels)


def file_name(name: str, type: int, level: int) -> str:
    """As in KADID-10k: I01_05_02.png is the picture I01 with type 5 at level 2."""
    return f"{name}_{type:02d}_{level:02d}.png"


def render_one(path: str, type: int, level: int, seed: int, target: str) -> str:
    """Distort the picture at `path` and write `target`; returns why not, or ""."""
    try:
        image = _read(path)
        if min(image.shape[:2]) < MIN_SIDE:
            return f"{path}: {image.shape[1]} x {image.shape[0]} pixels, but sides of {MIN_SIDE} are needed"
    except DataError as error:
        return str(error)
    own = zlib.crc32(f"{os.path.basename(target)}\t{seed}".encode("utf-8", "surrogateescape"))
    write_png(distort_exact(image, type, level, own), target)
    return ""


@functools.lru_cache(maxsize=1)
def _read(path: str):
    return read_image(path)


def sheet(path: str, name: str, folder: str, types: list[int], levels: list[int]) -> None:
    """NAME_sheet.png of the files that were rendered: a row per type, a column per level."""
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
        raise ConfigError("no picture to distort; name files or folders: python -m jaxiqa.distort PATH... --output DIR")
    if not _OUTPUT.value:
        raise ConfigError("--output is missing; name a folder for the distorted pictures")
    types, levels = parse_types(_TYPES.value), parse_levels(_LEVELS.value)
    sources = {}
    for path in find_pictures(paths):
        name = os.path.splitext(os.path.basename(path))[0]
        if name in sources:
            raise DataError(f"{path} and {sources[name]} would both become {name}_TT_LL.png; rename one of them")
        sources[name] = path
    folder = epath.Path(_OUTPUT.value)
    try:
        _claim(folder)
    except OSError as error:
        raise ConfigError(f"--output {folder} cannot be written ({error.strerror}); name another folder") from error
    there = set(os.listdir(folder))
    # Pictures of one size together, so that each process compiles for a size once.
    order = sorted(sources, key=lambda name: (_size(sources[name]), name))
    jobs = [
        (sources[name], type, level, _SEED.value, os.path.join(folder, file_name(name, type, level)))
        for name, type, level in itertools.product(order, types, levels)
        if file_name(name, type, level) not in there
    ]
    refused = _run(jobs, min(_PROCESSES.value, max(1, len(jobs) // 5)))
    if _SHEET.value:
        for name in tqdm(order, "sheets", unit=" pictures", disable=None):
            if sources[name] not in refused:
                sheet(sources[name], name, folder, types, levels)
    done = len(jobs) - sum(job[0] in refused for job in jobs)
    print(f"{done} pictures written to {folder}, {len(sources) * len(types) * len(levels) - len(jobs)} were there")
    if refused:
        for reason in refused.values():
            print(f"refused: {reason}")
        raise DataError(f"{len(refused)} of {len(sources)} pictures could not be used: {', '.join(refused)}")


def _run(jobs: list[tuple], processes: int) -> dict[str, str]:
    """Does the jobs; {path: reason} of the pictures that could not be used."""
    refused = {}
    if not jobs:
        return refused
    context = multiprocessing.get_context("spawn")  # forked JAX hangs
    os.environ["JAX_PLATFORMS"] = "cpu"  # for the children: the exact form is the host's
    pool = concurrent.futures.ProcessPoolExecutor(processes, context, compile_cache.enable)
    try:
        chunk = max(1, min(len(LEVELS), len(jobs) // processes))  # the levels of a type share its compiled function
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit it: Ctrl-C is for this process
        results = pool.map(render_one, *zip(*jobs, strict=True), chunksize=chunk)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        bar = tqdm(results, "distorting", len(jobs), unit=" pictures", mininterval=1, disable=None)
        for job, reason in zip(jobs, bar, strict=True):
            if reason:
                refused[job[0]] = reason
    except BaseException as error:
        workers = multiprocessing.active_children()
        for worker in workers:  # else they would finish what they have been given, compilations included
            worker.terminate()
        pool.shutdown(cancel_futures=True)
        for worker in workers:
            remove_scratch(os.path.dirname(jobs[0][-1]), worker.pid)
        error.add_note("the same command goes on where it stopped")
        raise
    pool.shutdown()
    return refused


def _size(path: str) -> tuple[int, int]:
    try:
        return image_size(path)
    except DataError:
        return (0, 0)


def _claim(folder: epath.Path) -> None:
    """Make the folder, and refuse one whose files were drawn with another seed or version."""
    folder.mkdir(parents=True, exist_ok=True)
    note, ours = folder / "distort.json", {"jaxiqa": __version__, "seed": _SEED.value}
    if note.exists():
        try:
            theirs = json.loads(note.read_text())
        except ValueError as error:
            raise ConfigError(f"{note} is damaged ({error}); remove it, or name another folder") from error
        if theirs != ours:
            raise ConfigError(f"--output {folder} holds pictures of {theirs}, not {ours}; name another folder")
    report.write_json(note, ours)


if __name__ == "__main__":
    program.run(main, takes_arguments=True)
