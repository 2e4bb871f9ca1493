"""A job of many images that is killed and resumed: is its memory flat, and its result that of an unbroken run?"""

import dataclasses
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from etils import epath
from ready_stand_in import CARD, write_stand_in

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BROKEN = 100  # one in so many images cannot be read
_KINDS = 41  # different files; the others are links to them


class Seen(NamedTuple):
    """What a run of jaxiqa score showed from outside."""

    killed: bool
    memory: dict[int, int]  # number of finished shards: resident bytes when they were first seen
    last: int  # resident bytes at the end
    seconds: float
    text: str  # standard error


def write_images(folder: pathlib.Path, count: int) -> None:
    """Writes images of different sizes, of which one in BROKEN is cut off or is none."""
    rng = np.random.default_rng(0)
    (folder / "kinds").mkdir(parents=True)
    for kind in range(_KINDS):
        y, x = np.mgrid[: rng.integers(24, 160), : rng.integers(24, 160)]
        waves = np.stack([128 + 90 * np.sin(x / rng.uniform(2, 30) + y / rng.uniform(2, 30)) for _ in range(3)], -1)
        image = np.clip(waves + rng.normal(0, rng.uniform(0, 20), waves.shape), 0, 255).astype(np.uint8)
        (folder / "kinds" / f"{kind}.jpg").write_bytes(simplejpeg.encode_jpeg(image, int(rng.integers(20, 95))))
    whole = (folder / "kinds" / "0.jpg").read_bytes()
    for kind, data in (("cut", whole[: len(whole) // 2]), ("none", b"no image")):
        (folder / "kinds" / f"{kind}.jpg").write_bytes(data)
    for i in range(count):
        kind = ("cut", "none")[i // BROKEN % 2] if i % BROKEN == 7 else i % _KINDS
        inside = folder / "images" / f"{i // 1000:03d}"
        inside.mkdir(parents=True, exist_ok=True)
        os.link(folder / "kinds" / f"{kind}.jpg", inside / f"{i:06d}.jpg")


def write_checkpoint(folder: pathlib.Path) -> pathlib.Path:
    """The model that computes least for a crop, with random weights."""
    card = dataclasses.replace(CARD, model={"name": "cnniqa", "variant": "test"})
    return pathlib.Path(write_stand_in(epath.Path(folder), card))


def score(
    images: pathlib.Path,
    checkpoint: pathlib.Path,
    output: pathlib.Path,
    *options: str,
    kill_after: int = 0,
) -> Seen:
    """Runs jaxiqa score, and watches its memory. With `kill_after`, SIGKILL ends it after so many finished shards."""
    command = [sys.executable, "-m", "jaxiqa", "score", "--checkpoint", str(checkpoint)]
    command += [*options, "--output", str(output), str(images)]
    began, memory, last = time.monotonic(), {}, 0
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as child:
        while child.poll() is None:
            last = _resident(child.pid) or last
            finished = len(list(output.glob("part-*.parquet")))
            if finished not in memory and finished:
                memory[finished] = last
            if kill_after and finished >= kill_after:
                child.send_signal(signal.SIGKILL)
            time.sleep(0.05)
        text = child.stderr.read()
    killed = child.returncode == -signal.SIGKILL
    assert killed or child.returncode == 0, text
    return Seen(killed, memory, last, time.monotonic() - began, text)


def _resident(pid: int) -> int:
    try:
        return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):  # it has just ended
        return 0


def rows(output: pathlib.Path) -> pa.Table:
    """All rows of a job, in order."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(output.glob("part-*.parquet"))])
