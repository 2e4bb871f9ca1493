"""A run: its workdir, lease, signals, checkpoints, log and timing, with one process or many."""

import contextlib
import json
import math
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
from etils import epath
from jax.experimental import multihost_utils

from jaxiqa.errors import NonFiniteError, WorkdirInUse, full_disk
from jaxiqa.files import expanded
from jaxiqa.runs import compile_cache, processes
from jaxiqa.runs.bucket import files_of
from jaxiqa.runs.checkpoint import Checkpoints
from jaxiqa.runs.checkpoint_meta import CheckpointMeta
from jaxiqa.runs.log import MetricLog
from jaxiqa.runs.signals import as_sigterm, stop_signals
from jaxiqa.runs.timing import Timing
from jaxiqa.runs.workdir import open_workdir, save_config
from jaxiqa.runs.workdir_lease import WorkdirLease
from jaxiqa.training.sharding import local_devices

if TYPE_CHECKING:
    from jaxiqa.training.loop import Plan, Task


class Run:
    """One run in one workdir. It is a context manager; enter it inside the block of processes.start().

    Args:
      workdir: folder of the run, on a disk or in a bucket (gs://...).
      override: whether a resumed run may change the keys that config.py marks OVERRIDE (schedule, loss, total, ...).
      allow_restart: whether the run may restart at step 0 if every checkpoint is damaged.

    Attributes:
      workdir: folder of the run.
      is_first: whether this is the process that writes and prints.
      timing: the Timing of the run.
      path: folder for small files; set by open().
      checkpoints: the Checkpoints of the run; set by open().
      log: the MetricLog of the run; set by open().

    Raises:
      WorkdirInUse, ConfigError, DiskFull: when it is entered, as for WorkdirLease.
    """

    def __init__(self, workdir: epath.PathLike, override: bool = False, allow_restart: bool = False):
        local_devices()
        self.workdir = epath.Path(expanded(workdir))
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
    def open(self, task: "Task", plan: "Plan"):
        """Open the checkpoints and the log. A signal in the block stops the run after a step and a save.

        Yields (start, state): the newest step and its state, or (0, None) for a new run.

        Args:
          task: its config and its data must be those that a resumed run began with.
          plan: from make_plan.

        Raises:
          ConfigError, CheckpointError, DiskFull: as for Task.check_data, save_config and Checkpoints.resume.
        """
        config, same = task.config, task.same()
        about = CheckpointMeta(config=config.to_dict(), **task.meta())
        with contextlib.ExitStack() as stack:
            self.checkpoints = stack.enter_context(Checkpoints(self.workdir, about, task.best_by, self._lease.check))
            if jax.process_count() == 1:  # with many processes, JAX handles SIGTERM
                self._received = stack.enter_context(stop_signals())
            folder = stack.enter_context(files_of(self.workdir).run_folder(self.is_first))
            self.path, self._push = folder.path, folder.push
            processes.check_same(config=config.to_json(), **same)
            latest = processes.from_first(self.checkpoints.read_latest_step())
            if latest is not None:
                task.check_data(self.path)
            save_config(config, next(iter(same.values())), self.path, latest, self._override)
            start, state = self.checkpoints.resume(plan.abstract, self._allow_restart)
            if start:
                print(f"resumed at step {start} of {plan.total} from {self.workdir}")
            self.log = stack.enter_context(contextlib.closing(MetricLog(self.path, start, plan.total, task.batch_size)))
            stack.push(self._write_timing)
            yield start, state

    def _write_timing(self, kind: type[BaseException] | None, *_) -> None:
        if kind is not WorkdirInUse:  # the workdir belongs to another run by now
            self.timing.write(self.workdir, self.log.skipped)

    def compiled_together(self, function: Callable) -> Callable:
        """Returns a jitted function for one set of shapes. All processes compile it before any of them runs it.

        Devices cannot communicate if their processes start the communication more than 30 s apart.
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
        """Returns the number of a signal if the run must stop before this step, else None; the same on all processes.

        Call it once for each step. A run of one process stops as soon as it has received a signal. A run of many
        processes stops at a step that none of them has passed.

        Raises:
          WorkdirInUse: the lease on the workdir is lost.
        """
        self._lease.check()
        if jax.process_count() == 1:
            return self._received[0] if self._received else None
        self._asked += 1  # not the step: JAX counts from 0, also in a resumed run
        return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(self._asked) else None

    def save(self, step: int, state: Any, scores: dict[str, float] | None) -> None:
        """Start to save a step, and push small files to the bucket. Raises the errors of Checkpoints.save."""
        with self.timing.timed("save"):
            self.checkpoints.save(step, state, scores)
        self._push()

    def wait(self) -> None:
        """Wait until the save in flight is on disk. Raises the errors of Checkpoints.wait, and WorkdirInUse."""
        with self.timing.timed("save"):
            self.checkpoints.wait()
        self._lease.check()

    def from_first(self, value: Any) -> Any:
        """Returns the value of the first process, on all processes."""
        return processes.from_first(value)

    @contextlib.contextmanager
    def naming_batch(self, rows_of: Callable[[int], list[dict]]):
        """Write WORKDIR/nonfinite_STEP.json if the loss of a step is NaN or infinite, and name the file in the error.

        Args:
          rows_of: returns {"id", "label", ...} for each image of a step. Each process writes its own file.

        Raises:
          NonFiniteError: the error of the block, with the name of the file added.
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
            raise NonFiniteError(f"{error}; the images of this batch are listed in {path}", error.step) from error
