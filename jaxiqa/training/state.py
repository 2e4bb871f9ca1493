"""The train state: everything that a step changes."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax import traverse_util

from jaxiqa.training import optim


@flax.struct.dataclass
class TrainState:
    """Step counter (int32), parameters, batch statistics, state of the optimiser, and averaged parameters (EMA).

    The step is the whole state of data order, augmentation and dropout: their keys are functions of (seed, step).
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any

    @classmethod
    def create(cls, variables, tx, trainable, with_ema: bool) -> "TrainState":
        """A new state at step 0. The optimiser `tx` and the average are over the flat dict `trainable` only."""
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        ema = jax.tree.map(jnp.copy, trainable) if with_ema else {}
        return cls(jnp.zeros((), jnp.int32), params, batch_stats, tx.init(trainable), ema)

    @property
    def variables(self) -> dict:
        """The variables for model.apply to score images: with averaged parameters if there are any."""
        return scoring_variables(self.params, self.batch_stats, self.ema)


def make_init(model, crop_size: int, tx, frozen: tuple[str, ...], with_ema: bool = False):
    """init(key, loaded) -> a new state. `loaded` ({"params/...": array}) replaces initial values of the model."""

    def init(key, loaded):
        variables = model.init(key, jnp.zeros((1, crop_size, crop_size, 3)))
        variables = optim.merge(traverse_util.flatten_dict(variables, sep="/"), loaded)
        trainable, _ = optim.split_frozen(variables["params"], frozen)
        return TrainState.create(variables, tx, trainable, with_ema)

    return init


def scoring_variables(params, batch_stats, ema) -> dict:
    """The variables to score images with. `ema` is a flat dict of averaged parameters, or empty."""
    flat = {**traverse_util.flatten_dict(params, sep="/"), **ema}
    return {"params": traverse_util.unflatten_dict(flat, sep="/"), "batch_stats": batch_stats}


def update_ema(ema, trainable, decay: float, step):
    """The averaged parameters after one more step. `ema` and `trainable` are flat dicts.

    ema <- d ema + (1 - d) params with d = min(decay, (1 + step) / (10 + step)), where `step` is the number of steps
    before this one. This ramp of d, as in TensorFlow's ExponentialMovingAverage, soon forgets the random start.
    """
    step = step.astype(jnp.float32)
    d = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda average, new: d * average + (1.0 - d) * new, ema, trainable)


def jit_once(function, **options):
    """jax.jit for a function that is called once, such as the init of a model.

    On a CPU it is compiled without optimisation, because optimisation would take minutes and save milliseconds. The
    devices are those of `out_shardings`, if given, else the default ones.
    """
    devices = [d for s in jax.tree.leaves(options.get("out_shardings"))[:1] for d in s.device_set]
    if (devices[0].platform if devices else jax.default_backend()) == "cpu":
        options["compiler_options"] = {"xla_backend_optimization_level": 0}
    return jax.jit(function, **options)
