"""Checkpoints: asynchronous Orbax saves of the latest and the best step. The only file that imports Orbax."""

import contextlib
import math
from typing import Any

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from jaxiqa.errors import CheckpointError

_FOLDER = "checkpoints"
_POLICIES = ocp.training.preservation_policies


class Checkpoints:
    """The checkpoints of one workdir: `WORKDIR/checkpoints/STEP`. Use it as a context manager.

    The latest step is kept, and the best one: that with the highest validation metric named by `best_by`. `meta` (JSON)
    is stored with each of them.
    """

    def __init__(self, workdir: epath.PathLike, meta: dict[str, Any], best_by: str = "srcc"):
        self._meta, self._best_by = meta, best_by
        keep = [
            _POLICIES.LatestN(1),
            _POLICIES.BestN(get_metric_fn=lambda m: m[best_by], n=1, keep_checkpoints_without_metrics=False),
        ]
        self._checkpointer = ocp.training.Checkpointer(
            epath.Path(workdir).resolve() / _FOLDER,
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),  # train.py decides
            preservation_policy=_POLICIES.AnyPreservationPolicy(keep),
            cleanup_tmp_directories=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._checkpointer.close()  # waits for a save in flight

    @property
    def latest_step(self) -> int | None:
        """The newest step on disk."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    @property
    def best_step(self) -> int | None:
        """The step with the highest validation metric, None before the first evaluation. Of equal ones the latest."""
        return _best(self._checkpointer.checkpoints)

    def save(self, step: int, state: Any, metrics: dict[str, float] | None = None) -> None:
        """Start saving; returns as soon as the arrays are copied."""
        if metrics is not None:  # an undefined correlation (constant predictions) is worse than any other
            best = metrics[self._best_by]
            metrics = {self._best_by: best if math.isfinite(best) else -1.0}
        self._checkpointer.save_async(step, state, metrics=metrics, custom_metadata=self._meta)

    def wait(self) -> None:
        """Until the save in flight is on disk."""
        self._checkpointer.wait()

    def restore(self, step: int, abstract_state: Any) -> Any:
        """The state at `step`, with the shapes, dtypes and shardings of `abstract_state` (ShapeDtypeStructs).

        Raises:
          CheckpointError: the step cannot be read, or holds another model's state.
        """
        with _refusing(self._checkpointer.directory / str(step), "remove it to go on from the one before it"):
            return self._checkpointer.load(step, abstract_state)


def save_once(workdir: epath.PathLike, state: Any, meta: dict[str, Any]) -> None:
    """A workdir with one checkpoint, step 0, of a tree of NumPy arrays; as good as no further memory is used."""
    context = ocp.Context()
    context.memory.deepcopy_host_arrays = False
    context.memory.write_concurrent_bytes = 64 << 20
    with context, Checkpoints(workdir, meta) as checkpoints:
        checkpoints.save(0, state)


class Saved:
    """One step that is on disk, for reading.

    Args:
      path: a workdir (its best step is taken, without evaluations its latest) or one step's folder in
        WORKDIR/checkpoints.
      step: this step of the workdir instead.

    Attributes:
      workdir, step: where it is.
      meta: what was stored with it.

    Raises:
      CheckpointError: there is no such step, or its description cannot be read.
    """

    def __init__(self, path: epath.PathLike, step: int | None = None):
        path = epath.Path(path).expanduser().resolve()
        if path.parent.name == _FOLDER and path.name.isdigit() and step is None:
            path, step = path.parent.parent, int(path.name)
        folder = path / _FOLDER
        if not folder.is_dir():
            there = "has no checkpoints" if path.is_dir() else "does not exist"
            raise CheckpointError(f"checkpoint {path} {there}; name the --workdir of a training run")
        with ocp.training.Checkpointer(folder) as checkpointer:
            found = list(checkpointer.checkpoints)
        steps = [c.step for c in found]
        if not found or step not in (None, *steps):
            has = f"it has {', '.join(map(str, sorted(steps)))}" if found else "it has none yet"
            raise CheckpointError(
                f"checkpoint {path} has no {'finished step' if step is None else f'step {step}'}; {has}"
            )
        if step is None:
            best = _best(found)
            step = max(steps) if best is None else best
        self.workdir, self.step = path, step
        self._path = folder / str(self.step)
        with _refusing(self._path, "name another --step"):
            described = ocp.metadata(self._path)
        self.meta, self._shapes = described.custom_metadata or {}, described.metadata

    def load(self, parts: tuple[str, ...], sharding) -> dict[str, Any]:
        """Some parts of the state ("params", "batch_stats", ...), every array with `sharding`; {} for absent ones.

        Raises:
          CheckpointError: it cannot be read.
        """
        wanted = {part: self._shapes[part] for part in parts if self._shapes.get(part)}
        wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), wanted)
        context = ocp.Context()
        context.pytree.loading.partial_load = True
        with _refusing(self._path, "name another --step"), context:
            return {part: {} for part in parts} | ocp.load(self._path, wanted)


def _best(checkpoints) -> int | None:
    rated = [c for c in checkpoints if c.metrics]
    return max(rated, key=lambda c: (*c.metrics.values(), c.step)).step if rated else None  # one metric each


@contextlib.contextmanager
def _refusing(path: epath.Path, advice: str):
    """Whatever Orbax raises (bare Exceptions too) as one line that names the checkpoint."""
    try:
        yield
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CheckpointError(
            f"checkpoint {path} cannot be restored ({reason}); {advice}, or check that config.model is the one it was "
            "trained with"
        ) from error


def abstract(state: Any, sharding: Any) -> Any:
    """ShapeDtypeStructs of `state` with the matching tree of shardings."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, sharding)
