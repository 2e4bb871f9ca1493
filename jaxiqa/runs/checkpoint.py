"""Checkpoints: asynchronous Orbax saves, verified when they are read. No other file imports Orbax."""

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from jaxiqa.errors import CheckpointError, DiskFull
from jaxiqa.files import expanded
from jaxiqa.models import ready
from jaxiqa.runs import digests, hub, portable
from jaxiqa.runs.bucket import FOLDER, QUARANTINE, files_of
from jaxiqa.runs.checkpoint_meta import CheckpointMeta
from jaxiqa.runs.library_errors import Listener, cause_of, is_damage, quiet
from jaxiqa.runs.processes import from_first, gather, meet
from jaxiqa.runs.saved_steps import best_of, find_steps, remove_unfinished
from jaxiqa.training.sharding import local_devices

_POLICIES = ocp.training.preservation_policies
_TRIES = 3  # failed saves in a row that end the run
_SLICE = 1 << 20  # bytes; each device that holds an array writes a slice of it, if slices have at least this size
_PATIENCE = 1.0  # seconds that a save may wait for the one before it, without a warning


class Checkpoints:
    """The checkpoints of one workdir, `WORKDIR/checkpoints/STEP`, for the run that writes them. A context manager.

    The two latest steps and the best one are kept, so that a damaged step has a predecessor. An older step is deleted
    when the newer one is on disk. On opening, unfinished steps of a killed run are removed, and steps with damaged
    small files are set aside in WORKDIR/quarantine.

    Args:
      workdir: folder of the run, on a disk or in a bucket.
      meta: stored with each step.
      best_by: the validation metric whose highest value makes a step the best.
      check: called before each save; raises WorkdirInUse if another run has the workdir.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        meta: CheckpointMeta,
        best_by: str = "srcc",
        check: Callable[[], None] = lambda: None,
    ):
        self._files, self._check = files_of(workdir), check
        self._workdir = self._files.workdir
        self._meta, self._best_by = meta.to_dict(), best_by
        self._saving, self._began = None, 0.0  # the step in flight, and since when
        self._failures, self._unsaved = 0, ""  # failed saves in a row, and the message of the last
        self._bad: dict[int, str] = {}
        flawed = {s.step: s.flaw for s in find_steps(self._workdir) if s.flaw}
        self._set_aside(flawed)  # Orbax would not open a folder with such a step
        self._listener = Listener()
        try:
            self._checkpointer = self._open()
        except ValueError:  # a small file that only Orbax can check is damaged
            self._set_aside(_unreadable(self._workdir))
            self._checkpointer = self._open()

    def _open(self) -> ocp.training.Checkpointer:
        best = _POLICIES.BestN(get_metric_fn=lambda m: m[self._best_by], n=1, keep_checkpoints_without_metrics=False)
        # Orbax compiles a program for every slice, which would take most of the time of the first save.
        context = ocp.Context()
        context.array.saving.min_slice_bytes_for_replica_parallel = _SLICE
        return ocp.training.Checkpointer(
            self._workdir / FOLDER,
            context=context,
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),  # the loop decides
            preservation_policy=_POLICIES.AnyPreservationPolicy([_POLICIES.LatestN(2), best]),
            cleanup_tmp_directories=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            with contextlib.suppress(DiskFull) if kind else contextlib.nullcontext():
                self._settle()
        finally:
            self._listener.close()
            if not self._abandoned:
                self._checkpointer.close()

    def read_latest_step(self) -> int | None:
        """The newest step on disk; None if there is none."""
        return max((s.step for s in find_steps(self._workdir)), default=None)

    def read_best_step(self) -> int | None:
        """The step on disk with the highest validation metric, else the latest; None if there is no step."""
        steps = find_steps(self._workdir)
        return best_of(steps) if steps else None

    def save(self, step: int, state: Any, metrics: dict[str, float] | None = None) -> None:
        """Start a save. Returns as soon as the arrays are copied; at most one save is in flight.

        Raises:
          DiskFull: three saves in a row failed; with many processes, one save failed.
          WorkdirInUse: raised by `check`.
        """
        due, previous, began = time.monotonic(), self._saving, self._began
        self._settle()
        if previous is not None and time.monotonic() - due > _PATIENCE:
            print(
                f"warning: saving step {previous} took {time.monotonic() - began:.1f} s, but the next save was due "
                f"after {due - began:.1f} s and waited; raise config.save_every",
                flush=True,
            )
        if metrics is not None:  # an undefined correlation (constant predictions) ranks below all others
            best = metrics[self._best_by]
            metrics = {self._best_by: float(best) if math.isfinite(best) else -1.0}
        parts = {"state": state, digests.FOLDER: digests.Digests(state, [self._meta, metrics])}
        self._check()
        self._files.release(step)
        self._saving, self._began, self._listener.heard = step, time.monotonic(), None
        try:
            with quiet():
                self._checkpointer.save_checkpointables_async(
                    step,
                    parts,
                    metrics=metrics,
                    custom_metadata=self._meta,
                    force=True,
                    overwrite=self._files.in_place,  # a damaged step in a bucket may be in the way
                )
        except Exception as error:  # Orbax raises bare ones too
            self._failed(error)

    def poll(self) -> None:
        """Check, without waiting, whether the save in flight has ended. Warns if it failed.

        Raises:
          DiskFull: as save().
        """
        if self._saving is not None and (self._abandoned or not self._checkpointer.is_saving_in_progress()):
            self._settle()

    def wait(self) -> None:
        """Wait until the save in flight is on disk.

        Raises:
          DiskFull: the step could not be saved.
        """
        self._settle()
        if self._failures:
            raise DiskFull(self._unsaved)

    def resume(self, abstract_state: Any, allow_restart: bool = False) -> tuple[int, Any]:
        """(step, state) of the newest step that is intact; (0, None) if nothing has been saved yet.

        Steps that cannot be restored are set aside, with a warning.

        Args:
          abstract_state: shapes, dtypes and shardings (ShapeDtypeStructs).
          allow_restart: return (0, None) also if all steps are damaged.

        Raises:
          CheckpointError: all steps are damaged; or the newest one holds the state of another model, or cannot be read
            for lack of memory, permission or network (and stays in place).
        """
        state, step = None, from_first(self.read_latest_step())
        while step is not None:
            state, reason = _restore(self._workdir / FOLDER / str(step), abstract_state)
            if not reason:
                break
            self._set_aside({step: reason})
            self._checkpointer.reload()
            step = from_first(self.read_latest_step())
        if step is None and not allow_restart and (there := self._files.set_aside_before()):
            why = "; ".join(f"step {bad}: {reason}" for bad, reason in sorted(self._bad.items()))
            raise CheckpointError(
                f"{self._workdir} has no intact checkpoint ({why or 'found at an earlier start'}); "
                f"{', '.join(p.name for p in there)} are kept in {there[0].parent}. --allow_restart trains from step 0",
                code="damaged",
                key=self._workdir,
            )
        for bad, reason in sorted(self._bad.items()):
            then = f"the run {'resumes from' if step else 'restarts at'} step {step or 0}"
            again = f" and repeats {bad - (step or 0)} steps" if bad > (step or 0) else ""
            print(
                f"warning: the checkpoint of step {bad} is damaged ({reason}) and is set aside in "
                f"{self._workdir / QUARANTINE}; {then}{again}",
                flush=True,
            )
        self._bad = {}
        return step or 0, state

    def restore(self, step: int, abstract_state: Any) -> Any:
        """The state at `step`, with the shapes, dtypes and shardings of `abstract_state` (ShapeDtypeStructs).

        Raises:
          CheckpointError: the step cannot be read, is damaged, or holds the state of another model.
        """
        state, reason = _restore(self._workdir / FOLDER / str(step), abstract_state)
        if reason:
            raise CheckpointError(
                f"checkpoint {self._workdir / FOLDER / str(step)} is damaged ({reason}); move it away to resume from "
                "another step",
                code="damaged",
                key=self._workdir / FOLDER / str(step),
            )
        return state

    def _set_aside(self, bad: dict[int, str]) -> None:
        meet()  # all processes have read the steps before one is moved
        for step, reason in bad.items():
            if jax.process_index() == 0:
                self._files.set_aside(step, reason)
        meet()
        self._bad |= bad

    def _settle(self) -> None:
        """Wait for the save in flight, and record how it ended."""
        if self._saving is None:
            return
        while self._checkpointer.is_saving_in_progress() and not self._abandoned:
            time.sleep(0.01)
        try:
            if self._abandoned:
                raise self._listener.heard
            with quiet():
                self._checkpointer.wait()
        except Exception as error:
            self._failed(error)
        else:
            self._saving, self._failures = None, 0

    @property
    def _abandoned(self) -> bool:
        """Whether this process failed to write its part of a step. Orbax then waits for the other processes in vain."""
        return self._listener.heard is not None and jax.process_count() > 1

    def _failed(self, error: Exception) -> None:
        step, self._saving = self._saving, None
        self._failures += 1
        if jax.process_index() == 0:
            remove_unfinished(self._workdir)  # to free the disk
        latest = self.read_latest_step()
        kept = "no earlier step is saved" if latest is None else f"step {latest} is kept"
        what = f"step {step} could not be saved ({cause_of(error)}); {kept}"
        self._unsaved = f"{what}. Make room in {self._workdir}, then the same command resumes"
        if self._failures == _TRIES or jax.process_count() > 1:  # other processes would wait for this one's part
            raise DiskFull(self._unsaved) from error
        self._checkpointer.reload()
        print(f"warning: {what}. Training continues, and the next save tries again", flush=True)


def _restore(path: epath.Path, wanted: Any, whole: bool = True) -> tuple[Any, str]:
    """The arrays of one step. All processes must call it, and all get the same answer.

    Args:
      path: folder of the step.
      wanted: ShapeDtypeStructs with shardings.
      whole: whether `wanted` must be the whole step.

    Returns:
      (state, ""), or (None, what is damaged).

    Raises:
      CheckpointError: the step holds the state of another model, or cannot be read for lack of memory, permission or
        network.
    """
    state, reason, elsewhere, stored = None, "", "", {}
    try:
        stored = digests.read(path)
        if whole and stored and (other := digests.unlike(wanted, stored)):
            raise CheckpointError(
                f"checkpoint {path} holds the state of another model ({other}); use another --workdir, or the "
                "config.model of the checkpoint",
                code="mismatch",
                key=path,
            )
        context = ocp.Context()
        context.pytree.loading.partial_load = not whole
        with quiet(), context:
            state = ocp.load(path, wanted)
    except CheckpointError:
        raise
    except Exception as error:  # Orbax raises bare ones too
        reason = cause_of(error)
        elsewhere = "" if is_damage(error) else reason
    reason, elsewhere = (next(filter(None, gather(why)), "") for why in (reason, elsewhere))
    if elsewhere:
        raise CheckpointError(
            f"checkpoint {path} cannot be read now ({elsewhere}); the checkpoint is kept, so try again",
            code="unreadable",
            key=path,
        )
    if not reason:
        names = gather(digests.differing(state, stored) if stored else "")
        if name := next(filter(None, names), ""):
            state, reason = None, f"{name} differs from what was saved"
    return state, reason


def _unreadable(workdir: epath.Path) -> dict[int, str]:
    """{step: reason} of the steps whose description Orbax cannot read."""
    found = {}
    for one in find_steps(workdir):
        try:
            with quiet():
                ocp.metadata(one.path)
        except Exception as error:  # Orbax raises bare ones too
            found[one.step] = cause_of(error)
    return found


def save_once(workdir: epath.PathLike, state: Any, meta: CheckpointMeta) -> None:
    """Write a workdir with one checkpoint, step 0, of a tree of NumPy arrays. It needs almost no additional memory.

    Raises:
      DiskFull: the checkpoint could not be written.
    """
    context = ocp.Context()
    context.memory.deepcopy_host_arrays = False
    context.memory.write_concurrent_bytes = 64 << 20
    with context, Checkpoints(workdir, meta) as checkpoints:
        checkpoints.save(0, state)
        checkpoints.wait()


class Saved:
    """One saved step, for reading: nothing is moved or removed.

    Args:
      path: a workdir, or the folder of one step in WORKDIR/checkpoints. Of a workdir the best step is read, or the
        latest one if there are no evaluations. "ready" is the one that comes with jaxiqa (jaxiqa.models.ready).
        hf://OWNER/NAME[@REVISION] is on a hub (runs.hub); a folder as runs.portable writes it is read too.
      step: read this step of the workdir instead.

    Attributes:
      workdir, step: of the step that is read.
      meta: the CheckpointMeta that is stored with it.

    Raises:
      CheckpointError: there is no such step or it is damaged. Without `step`, also if any other step is damaged: it
        could be the best one.
    """

    def __init__(self, path: epath.PathLike, step: int | None = None):
        local_devices()  # Orbax asks for them, and its errors count as damage
        path = files_of(expanded(hub.find(ready.find(path)))).workdir
        self._arrays: dict[str, dict] | None = None  # of a checkpoint in plain files, their digests
        if path.parent.name == FOLDER and path.name.isdigit() and step is None:
            path, step = path.parent.parent, int(path.name)
        if not (path / FOLDER).is_dir():
            if portable.is_one(path):
                self._open_plain(path, step)
                return
            if path.is_file():
                raise CheckpointError(
                    f"checkpoint {path} is a file; convert it first: jaxiqa convert --model NAME --source "
                    f"{path} --output DIR (--help names the models)",
                    code="format",
                    key=path,
                )
            there = "has no checkpoints" if path.is_dir() else "does not exist"
            raise CheckpointError(
                f"checkpoint {path} {there}; name the --workdir of a training run", code="not_found", key=path
            )
        found = find_steps(path)
        if any(one.flaw for one in found):  # the run that writes here may be deleting it right now
            time.sleep(1.0)
            found = find_steps(path)
        steps = [s.step for s in found]
        if not found or step not in (None, *steps):
            has = f"name one of {', '.join(map(str, steps))}" if found else "wait until the run has saved one"
            raise CheckpointError(
                f"checkpoint {path} has no {'finished step' if step is None else f'step {step}'}; {has}",
                code="not_found",
                key=path,
            )
        self.workdir = path
        self._others = steps
        for one in found:
            if one.flaw and step in (None, one.step):
                self._refuse(one.step, one.flaw)
        self.step = step = best_of(found) if step is None else step
        self._path = path / FOLDER / str(step)
        try:
            with quiet():
                described = ocp.metadata(self._path)
            if described.metadata is None:
                raise ValueError("state/_METADATA cannot be read")
            self._shapes = described.metadata
        except Exception as error:  # Orbax raises bare ones too
            self._refuse(step, cause_of(error), error)
        self.meta = CheckpointMeta.from_dict(described.custom_metadata or {}, self._path)

    def _open_plain(self, path: epath.Path, step: int | None) -> None:
        self.workdir = self._path = path
        self.meta, self.step, self._arrays = portable.read_about(path)
        if step not in (None, self.step):
            raise CheckpointError(
                f"checkpoint {path} has no step {step}; it holds step {self.step}", code="not_found", key=path
            )

    def digest(self) -> str:
        """SHA-256 of the names, types, shapes and values of all arrays; "" if the step was saved without digests."""
        stored = digests.read(self._path) if self._arrays is None else self._arrays
        return digests.of_json(stored) if stored else ""

    def load(self, parts: tuple[str, ...], sharding) -> dict[str, Any]:
        """Some parts of the state ("params", "batch_stats", ...), every array with `sharding`; {} for absent parts.

        In a run of many processes, all must call it.

        Raises:
          CheckpointError: the step cannot be read or is damaged.
        """
        if self._arrays is not None:
            state = jax.device_put(portable.read_arrays(self._path, self._arrays, parts), sharding)
            return {part: {} for part in parts} | state
        wanted = {part: self._shapes[part] for part in parts if self._shapes.get(part)}
        wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), wanted)
        state, reason = _restore(self._path, wanted, whole=False)
        if reason:
            self._refuse(self.step, reason)
        return {part: {} for part in parts} | state

    def _refuse(self, step: int, reason: str, error: Exception | None = None) -> None:
        others = ", ".join(str(s) for s in self._others if s != step)
        remedy = f"name another --step: {others}" if others else "there is no other step"
        if self.workdir == epath.Path(ready.FOLDER):
            remedy = "install jaxiqa again"
        raise CheckpointError(
            f"checkpoint {self.workdir / FOLDER / str(step)} is damaged ({reason}); {remedy}",
            code="damaged",
            key=self.workdir / FOLDER / str(step),
        ) from error
