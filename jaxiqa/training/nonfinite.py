"""A loss or gradient that is no number, or a spike: which pictures it was, and steps that then change nothing."""

import contextlib
import json
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from etils import epath

from jaxiqa.errors import NonFiniteError


def skipping(step: Callable, nonfinite: bool, largest: float) -> Callable:
    """The step(state, batch, key) -> (state, metrics), but one that changes nothing where it would be a bad one.

    Only the step counter moves then, so that the next batch is another one. The metrics say "skipped": 0 or 1.

    Args:
      step: to be jitted afterwards.
      nonfinite: whether a loss or a gradient that is no number is bad.
      largest: norm of a gradient above which it is bad, 0 for none. What is no number is not above it.
    """
    if not (nonfinite or largest):
        return step

    def skipping_step(state, batch, key):
        after, metrics = step(state, batch, key)
        bad = metrics["grad_norm"] > (largest or jnp.inf)
        if nonfinite:
            bad |= ~(jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"]))
        kept = jax.tree.map(lambda new, old: jnp.where(bad, old, new), after, state)
        return kept.replace(step=after.step), {**metrics, "skipped": bad.astype(jnp.float32)}

    return skipping_step


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
