"""A loss or a gradient that is no number: which pictures it was, and a step that then changes nothing."""

import contextlib
import json
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from etils import epath

from jaxiqa.errors import NonFiniteError
from jaxiqa.training.state import TrainState


def unless_nonfinite(before: TrainState, after: TrainState, metrics: dict) -> tuple[TrainState, dict]:
    """(state, metrics) of a step, for use in jit: `after`, or `before` where the loss or the gradient is no number.

    Only the step counter moves then, so that the next batch is another one. The metrics say "skipped": 0 or 1.
    """
    good = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
    kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, before)
    return kept.replace(step=after.step), {**metrics, "skipped": 1.0 - good}


@contextlib.contextmanager
def naming_batch(workdir: epath.Path, batch_of: Callable[[int], list[dict]]) -> Iterator[None]:
    """Write WORKDIR/nonfinite_STEP.json where a step's loss is no number, and name it in the error.

    Args:
      workdir: of the run.
      batch_of: rows that say what a step saw, {"id", "label", ...} each. On many hosts each one writes its own.

    Raises:
      NonFiniteError: as raised inside.
    """
    try:
        yield
    except NonFiniteError as error:
        host = f"_process{jax.process_index()}" if jax.process_index() else ""
        path = workdir / f"nonfinite_{error.step}{host}.json"
        rows = [
            {k: v if not isinstance(v, float) or math.isfinite(v) else str(v) for k, v in row.items()}
            for row in batch_of(error.step)
        ]
        path.write_text(json.dumps({"step": error.step, "error": str(error), "batch": rows}, indent=1) + "\n")
        raise NonFiniteError(f"{error}: its pictures are in {path}", error.step) from error
