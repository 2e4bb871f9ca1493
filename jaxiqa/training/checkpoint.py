"""Checkpoints: asynchronous Orbax saves of the latest and the best step. The only file that imports Orbax."""

import math
from typing import Any

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from jaxiqa.errors import CheckpointError

_POLICIES = ocp.training.preservation_policies


class Checkpoints:
    """The checkpoints of one workdir: `WORKDIR/checkpoints/STEP`. Use it as a context manager.

    The latest step is kept, and the one with the highest validation SRCC. `meta` (JSON) is stored with each of them.
    """

    def __init__(self, workdir: epath.PathLike, meta: dict[str, Any]):
        self._meta = meta
        keep = [
            _POLICIES.LatestN(1),
            _POLICIES.BestN(get_metric_fn=lambda m: m["srcc"], n=1, keep_checkpoints_without_metrics=False),
        ]
        self._checkpointer = ocp.training.Checkpointer(
            epath.Path(workdir).resolve() / "checkpoints",
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
        """The step with the highest validation SRCC, None before the first evaluation. Of equal ones the earliest."""
        rated = [c for c in self._checkpointer.checkpoints if c.metrics]
        return max(rated, key=lambda c: (c.metrics["srcc"], -c.step)).step if rated else None

    def save(self, step: int, state: Any, metrics: dict[str, float] | None = None) -> None:
        """Start saving; returns as soon as the arrays are copied."""
        if metrics is not None:  # an undefined correlation (constant predictions) is worse than any other
            metrics = {"srcc": metrics["srcc"] if math.isfinite(metrics["srcc"]) else -1.0}
        self._checkpointer.save_async(step, state, metrics=metrics, custom_metadata=self._meta)

    def wait(self) -> None:
        """Until the save in flight is on disk."""
        self._checkpointer.wait()

    def restore(self, step: int, abstract_state: Any) -> Any:
        """The state at `step`, with the shapes, dtypes and shardings of `abstract_state` (ShapeDtypeStructs).

        Raises:
          CheckpointError: the step cannot be read, or holds another model's state.
        """
        try:
            return self._checkpointer.load(step, abstract_state)
        except Exception as error:  # Orbax raises bare Exceptions too
            path = self._checkpointer.directory / str(step)
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise CheckpointError(
                f"checkpoint {path} cannot be restored ({reason}); remove it to go on from the one before it, "
                "or check that config.model is the one it was trained with"
            ) from error


def abstract(state: Any, sharding: Any) -> Any:
    """ShapeDtypeStructs of `state` with the matching tree of shardings."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, sharding)
