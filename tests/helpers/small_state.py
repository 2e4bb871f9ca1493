"""A train state of a few small arrays, saved without a model, and ways to damage its files."""

import pathlib
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import programs

from jaxiqa.runs.checkpoint import Checkpoints
from jaxiqa.runs.checkpoint_meta import CheckpointMeta
from jaxiqa.training.state import TrainState

META = CheckpointMeta(config={"of": "a test"})


def make_state(step: int, size: int = 300, sharding=None) -> TrainState:
    """A state that depends on the step only; `w` has `size` x 8 values."""
    rng = np.random.default_rng(step)
    params = {"conv/kernel": rng.normal(size=(size, 8)).astype(np.float32), "conv/bias": np.zeros(8, np.float32)}
    state = TrainState(
        step=np.int32(step),
        params={"conv": {"kernel": params["conv/kernel"], "bias": params["conv/bias"]}},
        batch_stats={"norm": {"mean": rng.normal(size=5).astype(np.float32)}},
        opt_state=({"mu": {k: v * 2 for k, v in params.items()}, "count": np.int32(step)}, ()),
        ema={"conv/kernel": params["conv/kernel"].astype(jnp.bfloat16)},
    )
    return jax.device_put(state, sharding) if sharding is not None else jax.device_put(state)


def shapes_of(state: TrainState, sharding=None) -> TrainState:
    """The shapes with which a checkpoint is restored."""
    place = (lambda x: sharding) if sharding is not None else (lambda x: x.sharding)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place(x)), state)


def save_steps(workdir, steps, size: int = 300, srcc=lambda step: None) -> None:
    """Writes checkpoints of these steps, one after the other."""
    with Checkpoints(workdir, META) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step, size), srcc(step) and {"srcc": srcc(step)})
            checkpoints.wait()


def same(left, right) -> bool:
    """Whether two states are the same bit for bit."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() and a.dtype == b.dtype for a, b in pairs)


def files_of(workdir, step: int) -> list[str]:
    """All files of a step, the largest first."""
    folder = pathlib.Path(workdir) / "checkpoints" / str(step)
    files = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: (-p.stat().st_size, str(p)))
    return [str(p.relative_to(folder)) for p in files]


def copied(workdir, target) -> pathlib.Path:
    """A copy of a workdir, to be damaged."""
    return pathlib.Path(shutil.copytree(workdir, target))


def damage(path: pathlib.Path, how: str) -> None:
    """Damages a file: "removed", "emptied", "halved", "junk", or "flip N" (bit 0 of byte N)."""
    content = bytearray(path.read_bytes())
    if how == "removed":
        path.unlink()
    elif how.startswith("flip"):
        content[int(how.split()[1])] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes({"emptied": b"", "halved": content[: len(content) // 2], "junk": b"\x00junk{"}[how])


HERE = pathlib.Path(__file__).resolve().parent


def small_run(workdir, *options) -> programs.Child:
    """Starts small_run.py in a new process with one device; standard error goes to its output."""
    environment = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    return programs.start(HERE / "small_run.py", workdir, *options, env=environment, stderr=subprocess.STDOUT)
