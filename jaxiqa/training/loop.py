"""The loop of every training run, whatever it trains: evaluate, save, next batch, step, log the step before."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jaxiqa.training import optim, sharding
from jaxiqa.training.durations import to_steps
from jaxiqa.training.state import jit_once, make_init
from jaxiqa.training.step import jit_step, make_train_step


class Task:
    """What is trained: the step's loss, the data, the evaluation. A base class; what raises must be given.

    Attributes:
      config: of the run. Its keys are read here: seed, mesh, total, *_every, optimizer, schedule, and if they are there
        frozen, ema, accumulate, skip_nonfinite.
      mesh: of all devices.
      model: the Flax module that trains.
      crop_size: side in pixels of the images that initialise it.
      frozen: patterns of the parameters that do not train.
      batch_size: images that a step draws, of which durations count.
      best_by: the metric of evaluate() whose highest value picks the best step.
      logged_as: what metrics.jsonl puts before the names of metrics.
    """

    model: Any
    crop_size: int
    best_by: str
    logged_as = ""

    def __init__(self, config, mesh: Mesh):
        self.config, self.mesh = config, mesh
        self.frozen = tuple(config.get("frozen", ()))
        self.batch_size = config.batch_size

    def loss(self, params, batch_stats, batch, key):
        """(loss, batch_stats) of what prepare() gives, differentiated by the parameters that train."""
        raise NotImplementedError

    prepare = None  # or a method (batch, key) -> batch: what the device does to a batch first

    def batch_spec(self) -> dict:
        """{name: (shape of one row, dtype)} of a batch, so that a step can be compiled without data."""
        raise NotImplementedError

    def open(self) -> int:
        """Read labels and splits, refuse what cannot work, and say how many images train."""
        raise NotImplementedError

    def render(self) -> None:
        """What takes minutes, once nothing is left to refuse."""

    def meta(self) -> dict:
        """What is stored with each step beside the config: fields of runs.meta.CheckpointMeta."""
        return {}

    def same(self) -> dict[str, str]:
        """{name: fingerprint} of what all processes must share; the first is stored with the config."""
        return {"data": ""}

    def begin(self, run, make, shapes) -> Any:
        """The state of a new run: make({"params/...": array}) replaces what the model starts with."""
        return make({})

    def resume(self, run) -> None:
        """What a resumed run checks."""

    def batches(self, start: int) -> Iterator[dict]:
        """This process's share of the batches from number `start` on, each a function of (seed, number)."""
        raise NotImplementedError

    def rows(self, step: int) -> list[dict]:
        """What the batch that led to `step` held, a row for each image: {"id": ..., "label": ...}."""
        return []

    def evaluate(self, variables, part: str = "val") -> dict[str, float]:
        """Metrics of variables that lie whole on each device of this process; all processes ask."""
        raise NotImplementedError

    def describe(self, scores: dict[str, float]) -> str:
        """The metrics for the progress line."""
        return "  ".join(f"{name} {value:.4f}" for name, value in scores.items())

    def finish(self, run, variables, step: int) -> dict[str, float]:
        """Test the best step, write results, return metrics."""
        return self.evaluate(variables, "test")


class Plan(NamedTuple):
    """What a run compiles, and when it does what.

    Attributes:
      init: (key, loaded) -> state.
      abstract: the state's shapes, dtypes and shardings.
      step: (state, batch, key) -> (state, metrics), jitted.
      total, every: steps of the run, and {"log", "eval", "save"} between two of each.
    """

    init: Any
    abstract: Any
    step: Any
    total: int
    every: dict[str, int]


def make_plan(task: Task, examples: int) -> Plan:
    """The Plan of a task with so many training images. Nothing is compiled yet; prints what trains.

    Raises:
      ConfigError: a duration, schedule, optimiser or pattern that cannot be.
    """
    config, mesh = task.config, task.mesh
    steps = functools.partial(to_steps, batch_size=task.batch_size, examples=examples)
    total = steps(config.total, "total", least=1)
    every = {k: steps(config[f"{k}_every"], f"{k}_every", total=total, least=1) for k in ("log", "eval", "save")}
    schedule = optim.schedule_of(config, total, steps)
    tx = optim.make_optimizer(config.optimizer, schedule)
    ema = config.get("ema", 0.0)
    init = make_init(task.model, task.crop_size, tx, task.frozen, with_ema=ema > 0)
    shapes = jax.eval_shape(init, jax.random.key(0), {})
    print(f"{config.model.name} {config.model.variant}: {optim.freeze_report(shapes.params, task.frozen)}")
    if config.optimizer.lr_multipliers:
        print(optim.lr_report(optim.split_frozen(shapes.params, task.frozen)[0], config.optimizer.lr_multipliers))
    step = make_train_step(
        task.loss,
        tx,
        schedule,
        task.frozen,
        prepare=task.prepare,
        parts=config.get("accumulate", 1),
        ema=ema,
        skip_nonfinite=config.skip_nonfinite,
        skip_above=config.optimizer.grad_skip_norm,
    )
    where = sharding.state_sharding(shapes, mesh)
    return Plan(init, sharding.abstract(shapes, where), jit_step(step, where, mesh), total, every)


def abstract_arguments(task: Task, plan: Plan) -> tuple:
    """Shapes, dtypes and shardings of a step's state, batch and key."""
    rows = sharding.batch_sharding(task.mesh)
    batch = {
        name: jax.ShapeDtypeStruct((task.batch_size, *shape), dtype, sharding=rows)
        for name, (shape, dtype) in task.batch_spec().items()
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=sharding.replicated(task.mesh))
    return plan.abstract, batch, key


def fit(run, task: Task) -> dict[str, float]:
    """Train, or resume, and return the test metrics.

    Args:
      run: a runs.run.Run that is entered.
      task: what is trained.

    Raises:
      UserError: whatever the run or the task refuses; Stopped after a signal; NonFiniteError.
    """
    config = task.config
    plan = make_plan(task, task.open())
    task.render()
    key = jax.jit(lambda: jax.random.key(config.seed), out_shardings=sharding.replicated(task.mesh))()
    with run.open(task.meta(), task.best_by, config, plan.total, task.batch_size, task.same(), plan.abstract) as (
        start,
        state,
    ):
        if start:
            task.resume(run)
        else:
            where = jax.tree.map(lambda leaf: leaf.sharding, plan.abstract)
            make = functools.partial(jit_once(plan.init, out_shardings=where), key)
            state = task.begin(run, make, plan.abstract)
        with run.naming_batch(task.rows), contextlib.closing(task.batches(start)) as batches:
            _loop(run, task, plan, state, start, sharding.to_device(batches, sharding.batch_sharding(task.mesh)), key)
        run.wait()
        best = run.from_first(run.checkpoints.read_best_step())
        variables = run.checkpoints.restore(best, plan.abstract).variables
    return task.finish(run, sharding.local_copy(variables, task.mesh), best)


def _loop(run, task: Task, plan: Plan, state, start: int, batches, key) -> None:
    step_on, total, every = run.compiled_together(plan.step), plan.total, plan.every
    run.timing.start_loop()
    last = None  # number and metrics of the step before, still on the device, so that the host never waits
    for step in range(start, total + 1):
        stopping = run.stop_at(step)
        evaluates = step > start and (step == total or step % every["eval"] == 0)
        if step > start and (evaluates or stopping or step % every["save"] == 0):
            run.log.write_step(last, every["log"], must_be_finite=True)
            last, scores = None, None
            with run.log.paused():
                if evaluates:
                    with run.timing.timed("evaluation"):
                        scores = run.from_first(task.evaluate(sharding.local_copy(state.variables, task.mesh)))
                    run.log.write(step, **{task.logged_as + name: value for name, value in scores.items()})
                    print(f"step {step}/{total}  {task.describe(scores)}", flush=True)
                run.save(step, state, scores)
        if stopping:
            run.stop(step, total, stopping)
        if step == total:
            return
        with run.timing.timed("data"):
            batch = next(batches)
        with jax.transfer_guard("disallow"):
            state, metrics = step_on(state, batch, key)
        run.checkpoints.poll()
        run.log.write_step(last, every["log"])
        last = (step + 1, metrics)
