"""Speed of the training step of a shipped experiment, its share of the ceiling, and that of its PyTorch twin."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa import config as configs
from jaxiqa.benchmarks import measure
from jaxiqa.benchmarks.forward import (
    add_times,
    best_twin,
    in_full_precision,
    outputs_of,
    random_images,
    random_variables,
    twin_calls,
    variant_of,
)
from jaxiqa.benchmarks.twin import Twin
from jaxiqa.runs import compile_cache
from jaxiqa.tasks.quality import Quality
from jaxiqa.training import loop, optim, sharding

CONFIGS = {
    "glintiqa": "glintiqa_kadid10k",
    "mfen": "mfen_kadid10k",
}  # model -> its experiment, which names frozen parts
_EXAMPLES = 10_000  # of an epoch; the time of a step does not depend on it


def make_task(model: str, batch: int, dtype: str, tiny: bool, **changes) -> Quality:
    """The task of the model's experiment, with this batch and type; `changes` are other keys."""
    config = configs.load(CONFIGS[model])
    config.update_from_flattened_dict({"batch_size": batch, "dtype": dtype, "total": "1000 steps", **changes})
    if tiny:
        config.model.variant, config.frozen = "test", config.frozen[1:]  # the test variant lacks some of these layers
    return Quality(config, sharding.make_mesh())


def make_step(task: Quality):
    """Returns (step(state, batch, key) as the loop runs it, its state, its batch, its key, all on the devices, and
    the variables of the model, on the host).
    """
    plan = loop.make_plan(task, _EXAMPLES)
    variables = random_variables(task.model)
    rng = np.random.default_rng(0)

    def fill(path, leaf):
        names = [str(getattr(part, "key", getattr(part, "name", ""))) for part in path]
        if names[0] in ("params", "batch_stats"):
            value = functools.reduce(lambda tree, name: tree[name], names[1:], variables[names[0]])
        else:
            value = np.zeros(leaf.shape, leaf.dtype)  # step, moments of the optimiser
        return jax.device_put(value, leaf.sharding)

    _, batch, key = loop.abstract_arguments(task, plan)
    draw = {jnp.uint8: lambda s: rng.integers(0, 256, s, np.uint8), jnp.float32: lambda s: rng.random(s, np.float32)}
    filled = {
        name: jax.device_put(draw.get(x.dtype.type, lambda s: np.zeros(s, np.int32))(x.shape), x.sharding)
        for name, x in batch.items()
    }
    state = jax.tree.map_with_path(fill, plan.abstract)
    return plan.step, state, filled, jax.device_put(jax.random.key(0), key.sharding), variables


def run(
    model: str = "glintiqa",
    batch_size: int | None = None,
    tiny: bool = False,
    twin: bool = False,
    torch_python: str | None = None,
    output: str | None = None,
    compare: str | None = None,
) -> int:
    """Prints the table; returns 0. Arguments as for forward.run; `model` is one of CONFIGS."""
    measure.one_of("--model", model, CONFIGS)
    compile_cache.enable()
    ledger = measure.Ledger(f"train {model}", output, compare)
    on_cpu = jax.default_backend() == "cpu"
    batch = batch_size or (4 if tiny else 8 if on_cpu else 128)
    calls, flops, tasks = {}, {}, {}
    for dtype in ("float32",) if on_cpu and not tiny else ("float32", "bfloat16"):
        tasks[dtype] = task = make_task(model, batch, dtype, tiny)
        step, state, rows, key, variables = make_step(task)
        flops[dtype] = measure.arithmetic(step, state, rows, key)
        compiled = step.lower(state, rows, key).compile()
        memory = compiled.memory_analysis()
        donated = memory.alias_size_in_bytes / sum(x.nbytes for x in jax.tree.leaves(state))
        ledger.add(f"{dtype}, memory", temporary_gb=memory.temp_size_in_bytes / 1e9, donated=donated)
        calls[dtype] = Repeated(compiled, state, rows, key)
    task = tasks["float32"]
    images = random_images(task.model, batch)
    forward = measure.arithmetic(functools.partial(outputs_of, task.model), variables, jnp.asarray(images))
    ledger.add(
        "arithmetic", step_over_forward=flops["float32"] / forward, gflop_per_image=flops["float32"] / batch / 1e9
    )
    frozen = optim.split_frozen(variables["params"], task.frozen)[1]
    arguments = torch_python, model, variant_of(model, tiny), task.model, variables, images, frozen
    with Twin(*arguments) if twin else contextlib.nullcontext() as process:
        if process:
            expected = in_full_precision(task.model, variables, images)
            ledger.add(f"difference of {process.version}", relative=process.refuse_other(expected))
        times = measure.race(calls | twin_calls(process, tiny, "train "), 2 if tiny else measure.ROUNDS)
    add_times(ledger, times, flops, batch, tiny)
    if summary := best_twin(times):
        ledger.add("summary", batch=batch, **summary)
    ledger.close()
    return 0


class Repeated:
    """A step as a call without arguments, whose state is donated and replaced each time."""

    def __init__(self, step, state, batch, key):
        self._step, self._state, self._rest = step, state, (batch, key)

    def __call__(self):
        self._state, metrics = self._step(self._state, *self._rest)
        return metrics
