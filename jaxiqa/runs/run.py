"""A run on machines: its workdir, lease, signals, checkpoints, log and timing, in one process or in many."""

import contextlib
import json
import math
import signal
from collections.abc import Callable
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils

from jaxiqa.errors import NonFiniteError, Stopped, full_disk
from jaxiqa.runs import compile_cache, processes
from jaxiqa.runs.bucket import files_of
from jaxiqa.runs.checkpoint import Checkpoints
from jaxiqa.runs.lock import WorkdirLease
from jaxiqa.runs.log import MetricLog
from jaxiqa.runs.meta import CheckpointMeta
from jaxiqa.runs.signals import as_sigterm, stop_signals
from jaxiqa.runs.timing import Timing
from jaxiqa.runs.workdir import open_workdir, save_config


class Run:
    """One run in one workdir, from its first file to its last. A context manager, within processes.start().

    Args:
      workdir: folder of the run, on a disk or in a bucket (gs://...).
      override: whether a resumed run may have another optimizer, schedule, loss or total.
      allow_restart: whether it may start from step 0 if every checkpoint is damaged.

    Attributes:
      workdir: of the run.
      is_first: whether this process writes and prints.
      timing: where the time goes.
      path, checkpoints, log: where to write small files, the steps, the metrics; of open().

    Raises:
      WorkdirInUse, ConfigError, DiskFull: as WorkdirLease, on entering.
    """

    def __init__(self, workdir: epath.PathLike, override: bool = False, allow_restart: bool = False):
        self.workdir = epath.Path(workdir)
        self.is_first = processes.is_first()
        self.timing = Timing()
        self._override, self._allow_restart = override, allow_restart
        self._lease = WorkdirLease(self.workdir, held=self.is_first)
        self._stack, self._received, self._asked = contextlib.ExitStack(), [], 0

    def __enter__(self) -> "Run":
        with contextlib.ExitStack() as stack:
            stack.enter_context(full_disk(self.workdir))
            stack.enter_context(self._lease)
            if self.is_first:
                open_workdir(self.workdir)
            compile_cache.enable()
            stack.enter_context(self.timing)
            if jax.process_count() > 1:
                stack.enter_context(as_sigterm())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised):
        return self._stack.__exit__(*raised)

    @contextlib.contextmanager
    def open(self, meta: dict, best_by: str, config, total: int, batch_size: int, same: dict, abstract: Any):
        """What a signal ends in order: gives (start, state) of the newest step, (0, None) of a new run.

        Args:
          meta: stored with each step beside the config: fields of CheckpointMeta.
          best_by: the metric of evaluations that picks the best step.
          config: of the run; what it must not change is compared with what it began with.
          total: the step it ends at.
          batch_size: images in a step.
          same: {name: JSON} that must be alike on all processes; its first value is stored with the config.
          abstract: the state's shapes, dtypes and shardings.

        Raises:
          ConfigError, CheckpointError, DiskFull: as save_config and Checkpoints.resume.
        """
        about = CheckpointMeta(config=config.to_dict(), **meta)
        with contextlib.ExitStack() as stack:
            self.checkpoints = stack.enter_context(Checkpoints(self.workdir, about, best_by, self._lease.check))
            if jax.process_count() == 1:  # with many, SIGTERM is JAX's
                self._received = stack.enter_context(stop_signals())
            folder = stack.enter_context(files_of(self.workdir).run_folder(self.is_first))
            self.path, self._push = folder.path, folder.push
            processes.check_same(config=config.to_json(), **same)
            latest = processes.from_first(self.checkpoints.read_latest_step())
            save_config(config, next(iter(same.values())), self.path, latest, self._override)
            start, state = self.checkpoints.resume(abstract, self._allow_restart)
            if start:
                print(f"resumed at step {start} of {total} from {self.workdir}")
            self.log = stack.enter_context(contextlib.closing(MetricLog(self.path, start, total, batch_size)))
            stack.callback(lambda: self.timing.write(self.workdir, self.log.skipped))
            yield start, state

    def compiled_together(self, function: Callable) -> Callable:
        """A jitted function of one set of shapes; of many processes all have compiled it before any runs it.

        The devices of processes that begin an exchange more than 30 s apart do not find one another.
        """
        if jax.process_count() == 1:
            return function
        compiled = []

        def call(*arguments):
            if not compiled:
                compiled.append(function.lower(*arguments).compile())
                processes.meet()
            return compiled[0](*arguments)

        return call

    def stop_at(self, step: int) -> int | None:
        """The signal by which the run stops before this step, alike on all processes; ask once for each step.

        One process stops as soon as it has received a signal, many at a step that none of them has passed.

        Raises:
          WorkdirInUse: the lease on the workdir is lost.
        """
        self._lease.check()
        if jax.process_count() == 1:
            return self._received[0] if self._received else None
        self._asked += 1  # JAX counts from 0, a resumed run does not
        return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(self._asked) else None

    def save(self, step: int, state: Any, scores: dict[str, float] | None) -> None:
        """Start to save a step, and push small files to the bucket; DiskFull as Checkpoints.save."""
        with self.timing.timed("save"):
            self.checkpoints.save(step, state, scores)
        self._push()

    def stop(self, step: int, total: int, number: int):
        """Wait for the save in flight and raise Stopped."""
        self.wait()
        raise Stopped(f"stopped at step {step} of {total}; the same command resumes", number)

    def wait(self) -> None:
        """Until the save in flight is on disk; DiskFull."""
        with self.timing.timed("save"):
            self.checkpoints.wait()

    def from_first(self, value: Any) -> Any:
        """The first process's value, on all of them."""
        return processes.from_first(value)

    @contextlib.contextmanager
    def naming_batch(self, rows_of: Callable[[int], list[dict]]):
        """Write WORKDIR/nonfinite_STEP.json if a step's loss is NaN or infinite, and name it in the error.

        Args:
          rows_of: rows that say what a step saw, {"id", "label", ...} each. Each process writes its own.

        Raises:
          NonFiniteError: as raised inside.
        """
        try:
            yield
        except NonFiniteError as error:
            host = "" if self.is_first else f"_process{jax.process_index()}"
            path = self.workdir / f"nonfinite_{error.step}{host}.json"
            rows = [
                {k: v if not isinstance(v, float) or math.isfinite(v) else str(v) for k, v in row.items()}
                for row in rows_of(error.step)
            ]
            path.write_text(json.dumps({"step": error.step, "error": str(error), "batch": rows}, indent=1) + "\n")
            raise NonFiniteError(f"{error}: its images are in {path}", error.step) from error
