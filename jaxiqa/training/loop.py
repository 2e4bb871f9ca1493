"""The loop of every training run: evaluate, save, take the next batch, run the step, log the previous step."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jaxiqa.errors import Stopped
from jaxiqa.training import optim, sharding
from jaxiqa.training.durations import parse_duration, to_steps
from jaxiqa.training.state import jit_once, make_init
from jaxiqa.training.step import jit_step, make_train_step


class Task:
    """Base class of what is trained: loss, data and evaluation. Subclasses define what raises NotImplementedError here.

    Attributes:
      config: config of the run. The loop reads seed, batch_size, total, *_every, model, optimizer, schedule,
        skip_nonfinite and, if present, frozen, ema and accumulate.
      mesh: mesh of all devices.
      model: the Flax module that is trained.
      crop_size: side in pixels of the image that initialises the model.
      frozen: regular expressions of the parameters that are not trained.
      batch_size: number of images in a step, for durations in epochs and examples.
      best_by: name of a metric of evaluate(); the best step has its highest value.
      logged_as: prefix of the names of metrics in metrics.jsonl.
    """

    model: Any
    crop_size: int
    best_by: str
    logged_as = ""

    def __init__(self, config, mesh: Mesh):
        check_training(config)
        self.config, self.mesh = config, mesh
        self.frozen = tuple(config.get("frozen", ()))
        self.batch_size = config.batch_size

    def loss(self, params, batch_stats, batch, key):
        """Returns (loss, batch_stats) of a prepared batch. The loss is differentiated by the trainable parameters."""
        raise NotImplementedError

    prepare = None  # or a method (batch, key) -> batch, which runs on the device before the loss

    def batch_spec(self) -> dict:
        """Returns {name: (shape of one row, dtype)} of a batch, to compile a step without data."""
        raise NotImplementedError

    def open(self) -> int:
        """Read labels and splits, and check them. Returns the number of training images."""
        raise NotImplementedError

    def render(self) -> None:
        """Prepare the images, which may take minutes. Called after all checks."""

    def meta(self) -> dict:
        """Returns fields of runs.checkpoint_meta.CheckpointMeta that are stored with each step, besides the config."""
        return {}

    def same(self) -> dict[str, str]:
        """Returns {name: fingerprint}, equal on all processes. The first fingerprint is stored with the config."""
        return {"data": ""}

    def check_data(self, folder) -> None:
        """Refuse to resume the run whose small files are in `folder` if it began with other data."""

    def begin(self, run, make, shapes) -> Any:
        """Returns the state of a new run. make({"params/...": array}) returns an initial state with these values."""
        return make({})

    def resume(self, run) -> None:
        """Check a resumed run."""

    def batches(self, start: int) -> Iterator[dict]:
        """Yields this process's share of the batches from number `start` on. Each depends on seed and number only."""
        raise NotImplementedError

    def rows(self, step: int) -> list[dict]:
        """Returns {"id": ..., "label": ...} for each image of the batch that led to `step`."""
        return []

    def evaluate(self, variables, part: str = "val") -> dict[str, float]:
        """Returns metrics of these variables, which each device of this process holds whole. All processes call it."""
        raise NotImplementedError

    def describe(self, scores: dict[str, float]) -> str:
        """The metrics as text for the progress line."""
        return "  ".join(f"{name} {value:.4f}" for name, value in scores.items())

    def finish(self, run, variables, step: int) -> dict[str, float]:
        """Test the best step and write the results. Returns the test metrics."""
        return self.evaluate(variables, "test")


class Plan(NamedTuple):
    """The functions that a run compiles, and its schedule.

    Attributes:
      init: (key, loaded) -> state.
      abstract: shapes, dtypes and shardings of the state.
      step: (state, batch, key) -> (state, metrics), jitted.
      total: steps of the run.
      every: {"log", "eval", "save": number of steps between two logs, evaluations or saves}.
    """

    init: Any
    abstract: Any
    step: Any
    total: int
    every: dict[str, int]


def check_training(config) -> None:
    """Refuse durations, names and regular expressions that are not valid, before images are read.

    Raises:
      ConfigError: the message names the key and what it must be.
    """
    parse_duration(config.total, "total", least=1, percent=False)
    for key in ("log_every", "eval_every", "save_every"):
        parse_duration(config[key], key, least=1)
    schedule = config.schedule
    for key in ("warmup", "half_period"):
        parse_duration(schedule.get(key, "0 steps"), f"schedule.{key}")
    for duration in schedule.get("drops", ()):
        parse_duration(duration, "schedule.drops")
    optim.make_optimizer(config.optimizer, optim.make_schedule(schedule.name, config.optimizer.learning_rate, total=1))
    optim.split_frozen({}, config.get("frozen", ()))


def make_plan(task: Task, examples: int) -> Plan:
    """The Plan of a task with `examples` training images. Prints what is trained; nothing is compiled yet.

    Raises:
      ConfigError: a duration, schedule, optimiser or regular expression is not valid.
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
    """Returns shapes, dtypes and shardings of the state, batch and key of a step."""
    rows = sharding.batch_sharding(task.mesh)
    batch = {
        name: jax.ShapeDtypeStruct((task.batch_size, *shape), dtype, sharding=rows)
        for name, (shape, dtype) in task.batch_spec().items()
    }
    key = sharding.abstract(jax.eval_shape(lambda: jax.random.key(0)), sharding.replicated(task.mesh))
    return plan.abstract, batch, key


def fit(run, task: Task) -> dict[str, float]:
    """Start or resume a run, and return the test metrics.

    Args:
      run: a runs.run.Run, inside its `with` block.
      task: what is trained.

    Raises:
      Stopped: a signal stopped the run, after a save.
      NonFiniteError: the loss is NaN or infinite.
      UserError: the run or the task refuses something.
    """
    config = task.config
    plan = make_plan(task, task.open())
    task.render()
    key = jax.jit(lambda: jax.random.key(config.seed), out_shardings=sharding.replicated(task.mesh))()
    with run.open(task, plan) as (start, state):
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
    last = None  # number and metrics of the previous step; they are read late, so that the host does not wait
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
            run.wait()
            raise Stopped(f"stopped at step {step} of {total}; the same command resumes", stopping)
        if step == total:
            return
        with run.timing.timed("data"):
            batch = next(batches)
        with jax.transfer_guard("disallow"):
            state, metrics = step_on(state, batch, key)
        jax.block_until_ready(last)  # at most two steps are under way, so that a signal does not wait for more
        run.checkpoints.poll()
        run.log.write_step(last, every["log"])
        last = (step + 1, metrics)
