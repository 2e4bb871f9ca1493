"""A training run without a model: lock, checkpoints, log and stop signals of jaxiqa train around simple arithmetic.

It saves every second step and logs every step. --kill=before_commit:N (or after_commit, in_gc) ends it by SIGKILL
inside its N-th save. See `small_run` in small_state.py.
"""

import argparse
import os
import pathlib
import resource
import signal
import sys
import time

import jax
import jax.numpy as jnp
from etils import epath
from small_state import META, make_state, shapes_of

from jaxiqa.errors import Stopped, UserError
from jaxiqa.runs.checkpoint import Checkpoints
from jaxiqa.runs.log import MetricLog
from jaxiqa.runs.signals import stop_signals
from jaxiqa.runs.workdir import open_workdir
from jaxiqa.runs.workdir_lease import WorkdirLease


def train_step(state):
    """A step whose result depends on all earlier steps, to the last bit."""
    mix = lambda x: x * 0.999 + jnp.sin(x + state.step) * 0.01  # noqa: E731
    params = jax.tree.map(mix, state.params)
    loss = sum(jnp.square(x).sum() for x in jax.tree.leaves(params))
    metrics = {"loss": loss, "learning_rate": jnp.float32(0.1), "grad_norm": jnp.sqrt(loss)}
    return state.replace(step=state.step + 1, params=params), metrics


def run(workdir, total: int, size: int, pause: float) -> None:
    workdir = epath.Path(workdir)
    with WorkdirLease(workdir) as lease:
        open_workdir(workdir)
        step_on = jax.jit(train_step, donate_argnums=0)
        state = make_state(0, size)
        with Checkpoints(workdir, META, check=lease.check) as checkpoints, stop_signals() as stopped_by:
            start, found = checkpoints.resume(shapes_of(state))
            state = found or state
            print(f"from step {start}", flush=True)
            log, last = MetricLog(workdir, start, total, 1), None
            for step in range(start, total + 1):
                lease.check()
                if step > start and (step == total or stopped_by or step % 2 == 0):
                    log.write_step(last, 1, must_be_finite=True)
                    last = None
                    checkpoints.save(step, state)
                if stopped_by:
                    checkpoints.wait()
                    raise Stopped(f"stopped at step {step}", stopped_by[0])
                if step == total:
                    break
                state, metrics = step_on(state)
                checkpoints.poll()
                log.write_step(last, 1)
                last = (step + 1, metrics)
                time.sleep(pause)
            checkpoints.wait()
            log.close()
    print("done", flush=True)


def kill_inside_a_save(where: str, number: int) -> None:
    """Sends SIGKILL to this process at a point of its `number`-th save."""
    from orbax.checkpoint._src.path import deleter

    from jaxiqa.runs.digests import Digests

    saves = 0

    def die(function, after: bool = False, deleting: bool = False):
        def wrapped(*arguments, **options):
            nonlocal saves
            saves += 1
            if saves == number and not after:
                if deleting:  # half of the files are already deleted
                    for path in list(pathlib.Path(arguments[1]).rglob("*"))[::2]:
                        if path.is_file():
                            path.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments, **options)
            if saves == number and after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    if where == "before_commit":
        Digests._write = die(Digests._write, after=True)
    elif where == "after_commit":
        finalize = _manager()._finalize_checkpoint
        _manager()._finalize_checkpoint = die(finalize)
    else:
        deleter.PathDeleter.delete = die(deleter.PathDeleter.delete, deleting=True)


def _manager():
    from orbax.checkpoint import checkpoint_manager

    return checkpoint_manager.CheckpointManager


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir")
    parser.add_argument("--total", type=int, default=12)
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--kill", default="")
    parser.add_argument("--file_limit", type=int, default=resource.RLIM_INFINITY)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_FSIZE, (options.file_limit, options.file_limit))
    if options.kill:
        place, _, count = options.kill.partition(":")
        kill_inside_a_save(place, int(count))
    try:
        run(options.workdir, options.total, options.size, options.pause)
    except UserError as error:
        print(f"small_run.py: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
