"""The train state: everything that a step changes, and nothing else."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class TrainState:
    """Step counter (int32), parameters, batch statistics and the optimiser's state.

    The step is the whole state of data order, augmentation and dropout: their keys are functions of (seed, step).
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any

    @classmethod
    def create(cls, variables, tx, trainable) -> "TrainState":
        """A new state at step 0; `tx` sees only the flat dict `trainable`."""
        return cls(jnp.zeros((), jnp.int32), variables["params"], variables.get("batch_stats", {}), tx.init(trainable))

    @property
    def variables(self) -> dict:
        """What model.apply takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}
