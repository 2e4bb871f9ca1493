"""Checkpoints: asynchronous Orbax saves that are verified when they are read. The only file that imports Orbax."""

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from jaxiqa.errors import CheckpointError, DiskFull
from jaxiqa.runs import digests
from jaxiqa.runs.bucket import FOLDER, QUARANTINE, files_of
from jaxiqa.runs.failures import Listener, cause_of, is_damage, quiet
from jaxiqa.runs.meta import CheckpointMeta
from jaxiqa.runs.processes import from_first, gather, meet
from jaxiqa.runs.step_folders import best_of, find_steps, remove_unfinished

_POLICIES = ocp.training.preservation_policies
_TRIES = 3  # saves that may fail in a row
_PATIENCE = 1.0  # seconds that a save may wait for the one before it, without a word


class Checkpoints:
    """The checkpoints of one workdir: `WORKDIR/checkpoints/STEP`, for the run that writes them. A context manager.

    The two latest steps are kept (so that there is one to fall back to), and the best one: that with the highest
    validation metric named by `best_by`. An older one goes when the newer one is on disk. `meta` is stored with each of
    them. What a killed run left half written is removed, and a step that can be seen to be damaged is set
    aside in WORKDIR/quarantine. `check` is called before a save: it raises WorkdirInUse if another run has the workdir.
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
        self._failures, self._unsaved = 0, ""  # saves that failed, in a row, and what to say of the last
        self._bad: dict[int, str] = {}
        flawed = {s.step: s.flaw for s in find_steps(self._workdir) if s.flaw}
        self._set_aside(flawed)  # Orbax would not open the folder
        self._listener = Listener()
        try:
            self._checkpointer = self._open()
        except ValueError:  # of a small file that Orbax alone can judge
            self._set_aside(_unreadable(self._workdir))
            self._checkpointer = self._open()

    def _open(self) -> ocp.training.Checkpointer:
        best = _POLICIES.BestN(get_metric_fn=lambda m: m[self._best_by], n=1, keep_checkpoints_without_metrics=False)
        return ocp.training.Checkpointer(
            self._workdir / FOLDER,
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
        """The newest step on disk."""
        return max((s.step for s in find_steps(self._workdir)), default=None)

    def read_best_step(self) -> int | None:
        """The step on disk with the highest validation metric, of equal ones the latest; None without an evaluation."""
        return best_of(find_steps(self._workdir))

    def save(self, step: int, state: Any, metrics: dict[str, float] | None = None) -> None:
        """Start saving; returns as soon as the arrays are copied. One save is in flight at most.

        Raises:
          DiskFull: three saves in a row have failed; one in a run of many processes.
          WorkdirInUse: by `check`.
        """
        due, previous, began = time.monotonic(), self._saving, self._began
        self._settle()
        if previous is not None and time.monotonic() - due > _PATIENCE:
            print(
                f"warning: saving step {previous} took {time.monotonic() - began:.1f} s, but the next save was due "
                f"after {due - began:.1f} s and waited; raise config.save_every",
                flush=True,
            )
        if metrics is not None:  # an undefined correlation (constant predictions) is worse than any other
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
                    overwrite=self._files.in_place,  # of a damaged step in a bucket
                )
        except Exception as error:  # Orbax raises bare ones too
            self._failed(error)

    def poll(self) -> None:
        """Look whether the save in flight has ended, without waiting for it; warns where it has failed.

        Raises:
          DiskFull: as save().
        """
        if self._saving is not None and (self._abandoned or not self._checkpointer.is_saving_in_progress()):
            self._settle()

    def wait(self) -> None:
        """Until the save in flight is on disk.

        Raises:
          DiskFull: it could not be written.
        """
        self._settle()
        if self._failures:
            raise DiskFull(self._unsaved)

    def resume(self, abstract_state: Any, allow_restart: bool = False) -> tuple[int, Any]:
        """(step, state) of the newest step that is as it was saved; (0, None) where nothing has been saved yet.

        Steps that cannot be restored are set aside, with a line that says so.

        Args:
          abstract_state: shapes, dtypes and shardings (ShapeDtypeStructs).
          allow_restart: give (0, None) too where all steps are damaged.

        Raises:
          CheckpointError: all of them are damaged; or they hold another model's state, or cannot be read for want of
        memory, rights or a network (and stay where they are).
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
                f"{self._workdir} has no checkpoint that can be restored ({why or 'found at an earlier start'}); "
                f"{', '.join(p.name for p in there)} in {there[0].parent} can be looked at. --allow_restart trains "
                "anew from step 0"
            )
        for bad, reason in sorted(self._bad.items()):
            then = f"; going on from step {step}" if step else "; starting anew from step 0"
            redone = f", {bad - (step or 0)} steps are redone" if bad > (step or 0) else ""
            print(
                f"warning: the checkpoint of step {bad} is damaged ({reason}) and set aside in "
                f"{self._workdir / QUARANTINE}{then}{redone}",
                flush=True,
            )
        self._bad = {}
        return step or 0, state

    def restore(self, step: int, abstract_state: Any) -> Any:
        """The state at `step`, with the shapes, dtypes and shardings of `abstract_state` (ShapeDtypeStructs).

        Raises:
          CheckpointError: the step cannot be read, is not as it was saved, or holds another model's state.
        """
        state, reason = _restore(self._workdir / FOLDER / str(step), abstract_state)
        if reason:
            raise CheckpointError(
                f"checkpoint {self._workdir / FOLDER / str(step)} is damaged ({reason}); move it away to go on "
                "without it"
            )
        return state

    def _set_aside(self, bad: dict[int, str]) -> None:
        meet()  # all know them
        for step, reason in bad.items():
            if jax.process_index() == 0:
                self._files.set_aside(step, reason)
        meet()
        self._bad |= bad

    def _settle(self) -> None:
        """Wait for the save in flight, and note how it ended."""
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
        """Whether Orbax, which waits for all processes to write their parts of a step, waits in vain."""
        return self._listener.heard is not None and jax.process_count() > 1

    def _failed(self, error: Exception) -> None:
        step, self._saving = self._saving, None
        self._failures += 1
        if jax.process_index() == 0:
            remove_unfinished(self._workdir)  # they fill the disk
        latest = self.read_latest_step()
        kept = "nothing is saved yet" if latest is None else f"step {latest} stays"
        what = f"step {step} could not be saved ({cause_of(error)}); {kept}"
        self._unsaved = f"{what}. Make room in {self._workdir}, then the same command goes on from there"
        if self._failures == _TRIES or jax.process_count() > 1:  # where the others wait for this one's part of the step
            raise DiskFull(self._unsaved) from error
        self._checkpointer.reload()
        print(f"warning: {what}. Training goes on, and the next save tries again", flush=True)


def _restore(path: epath.Path, wanted: Any, whole: bool = True) -> tuple[Any, str]:
    """The arrays of one step, alike on all processes, which must all ask: (state, ""), or (None, what is damaged).

    Args:
      path: the step's folder.
      wanted: ShapeDtypeStructs with shardings.
      whole: whether `wanted` must be all of the step.

    Raises:
      CheckpointError: it holds another model's state, or cannot be read for want of memory, rights or a network.
    """
    state, reason, elsewhere, stored = None, "", "", {}
    try:
        stored = digests.read(path)
        if whole and stored and (other := digests.unlike(wanted, stored)):
            raise CheckpointError(
                f"checkpoint {path} holds another model's state ({other}); use another --workdir, or the config.model "
                "that it was trained with"
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
        raise CheckpointError(f"checkpoint {path} cannot be read now ({elsewhere}); it was left where it is")
    if not reason:
        names = gather(digests.differing(state, stored) if stored else "")
        if name := next(filter(None, names), ""):
            state, reason = None, f"{name} is not what was saved"
    return state, reason


def _unreadable(workdir: epath.Path) -> dict[int, str]:
    """{step: why} of steps whose description Orbax does not read."""
    found = {}
    for one in find_steps(workdir):
        try:
            with quiet():
                ocp.metadata(one.path)
        except Exception as error:  # Orbax raises bare ones too
            found[one.step] = cause_of(error)
    return found


def save_once(workdir: epath.PathLike, state: Any, meta: CheckpointMeta) -> None:
    """A workdir with one checkpoint, step 0, of a tree of NumPy arrays; as good as no further memory is used.

    Raises:
      DiskFull: it could not be written.
    """
    context = ocp.Context()
    context.memory.deepcopy_host_arrays = False
    context.memory.write_concurrent_bytes = 64 << 20
    with context, Checkpoints(workdir, meta) as checkpoints:
        checkpoints.save(0, state)
        checkpoints.wait()


class Saved:
    """One step that is on disk, for reading: nothing is moved or removed.

    Args:
      path: a workdir (its best step is taken, without evaluations its latest) or one step's folder in
        WORKDIR/checkpoints.
      step: this step of the workdir instead.

    Attributes:
      workdir, step: where it is.
      meta: what was stored with it.

    Raises:
      CheckpointError: there is no such step, it is damaged, or (without `step`) another one is, so that it is not known
        which is the best.
    """

    def __init__(self, path: epath.PathLike, step: int | None = None):
        path = files_of(epath.Path(path).expanduser()).workdir
        if path.parent.name == FOLDER and path.name.isdigit() and step is None:
            path, step = path.parent.parent, int(path.name)
        if not (path / FOLDER).is_dir():
            if path.is_file():
                raise CheckpointError(
                    f"checkpoint {path} is a file; convert it first: python -m jaxiqa.convert --model NAME --source "
                    f"{path} --output DIR (--help names the models)"
                )
            there = "has no checkpoints" if path.is_dir() else "does not exist"
            raise CheckpointError(f"checkpoint {path} {there}; name the --workdir of a training run")
        found = find_steps(path)
        if any(one.flaw for one in found):  # or half deleted just now, by the run that writes here
            time.sleep(1.0)
            found = find_steps(path)
        steps = [s.step for s in found]
        if not found or step not in (None, *steps):
            has = f"it has {', '.join(map(str, steps))}" if found else "it has none yet"
            raise CheckpointError(
                f"checkpoint {path} has no {'finished step' if step is None else f'step {step}'}; {has}"
            )
        self.workdir = path
        self._others = steps
        for one in found:
            if one.flaw and step in (None, one.step):
                self._refuse(one.step, one.flaw)
        if step is None:
            best = best_of(found)
            step = max(steps) if best is None else best
        self.step = step
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

    def load(self, parts: tuple[str, ...], sharding) -> dict[str, Any]:
        """Some parts of the state ("params", "batch_stats", ...), every array with `sharding`; {} for absent ones.

        Of a run's many processes all must ask.

        Raises:
          CheckpointError: it cannot be read, or is not as it was saved.
        """
        wanted = {part: self._shapes[part] for part in parts if self._shapes.get(part)}
        wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), wanted)
        state, reason = _restore(self._path, wanted, whole=False)
        if reason:
            self._refuse(self.step, reason)
        return {part: {} for part in parts} | state

    def _refuse(self, step: int, reason: str, error: Exception | None = None) -> None:
        others = ", ".join(str(s) for s in self._others if s != step)
        raise CheckpointError(
            f"checkpoint {self.workdir / FOLDER / str(step)} is damaged ({reason}); "
            + (f"name another --step: {others}" if others else "there is no other step")
        ) from error
