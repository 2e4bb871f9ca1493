"""Train an image quality model on pictures with opinion scores.

  python -m jaxiqa.train --config configs/glintiqa_sample.py --workdir workdir/quickstart

Any value of the config can be given on the command line: --config.batch_size=32 --config.total="20 epochs".
The same command again goes on from the last checkpoint. The workdir receives config.json, split.json (what trains, what
tests), metrics.jsonl, TensorBoard event files, checkpoints (the latest and the best), and at the end test scores
(report.html, report.json, predictions.csv) with a loss curve, a scatter plot and a contact sheet of the best and the
worst predictions.

Exit codes: 0 done, 2 usage or config, 3 bad data, 4 unusable checkpoint, 5 non-finite loss, 130 / 143 stopped by
Ctrl-C / SIGTERM after a good save.
"""

import contextlib
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util
from ml_collections import ConfigDict

import jaxiqa
from jaxiqa import datasets, program
from jaxiqa.datasets.split_files import write_split
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import ConfigError, Stopped
from jaxiqa.evaluation import report
from jaxiqa.inputs.pictures import Pictures
from jaxiqa.inputs.pipeline import to_device, train_batches
from jaxiqa.inputs.render import render
from jaxiqa.inputs.transforms import images_of
from jaxiqa.models import create_model
from jaxiqa.models.contrastive import encoder_variables
from jaxiqa.scoring.card import Card
from jaxiqa.scoring.evaluate import describe, evaluate, provenance
from jaxiqa.scoring.explain import keep_probe
from jaxiqa.scoring.predict import Predictor
from jaxiqa.scoring.results import write_results
from jaxiqa.training import compile_cache, optim, sharding
from jaxiqa.training.checkpoint import Checkpoints, Saved, abstract
from jaxiqa.training.durations import to_steps
from jaxiqa.training.logging import MetricLog, clock, read_metrics
from jaxiqa.training.losses import parse_loss
from jaxiqa.training.state import TrainState, jit_once, make_init, scoring_variables
from jaxiqa.training.step import jit_step, make_train_step
from jaxiqa.training.workdir import open_workdir, save_config
from jaxiqa.weights.initial import check_init, place

_CONFIG, _WORKDIR = program.training_flags()


def train(config: ConfigDict, workdir: epath.Path) -> dict[str, float]:
    """Trains, or goes on training, and returns the test metrics (see the module's docstring)."""
    began = time.monotonic()
    open_workdir(workdir)
    compile_cache.enable()

    # ---- Mesh, and what the config says ------------------------------------------------------------------------------
    mesh = sharding.make_mesh(**config.mesh)
    check_config(config)
    model = create_model(
        **config.model,
        dtype=jnp.dtype(config.dtype),
        **({"eval_bn": tuple(config.frozen)} if config.frozen and config.frozen_bn == "eval" else {}),
    )
    frozen = (*config.frozen, *getattr(model, "frozen", ()))  # the model's own: what it runs as a fixed extractor

    # ---- Data --------------------------------------------------------------------------------------------------------
    dataset = datasets.load(**config.dataset)
    split = make_split(dataset, **config.split)
    dataset = render(dataset, config.dataset.data_dir)
    print(
        f"{dataset.name}: {len(split.train)} pictures train, {len(split.val)} validate, {len(split.test)} test "
        f"({split.name}, round {split.round}, selection {split.selection}, split {split.fingerprint})"
    )
    if dataset.note:
        print(f"note: {dataset.note}")
    labels = np.array([r.mos for r in dataset.records])
    labels = labels if config.labels == "native" else dataset.scale.to_score01(labels)
    pictures = {
        part: Pictures(
            [dataset.records[i] for i in getattr(split, part)], model.crop_size, config.resize, config.cache_gb
        )
        for part in ("train", "val", "test")
    }
    steps = functools.partial(to_steps, batch_size=config.batch_size, examples=len(split.train))
    total = max(1, steps(config.total, "total"))
    every = {k: max(1, steps(config[f"{k}_every"], f"{k}_every", total=total)) for k in ("log", "eval", "save")}

    # ---- Model, optimiser, and where every array of the state lives --------------------------------------------------
    schedule = optim.schedule_of(config, total, steps)
    tx = optim.make_optimizer(config.optimizer, schedule)
    key = jax.random.key(config.seed)
    init = make_init(model, model.crop_size, tx, frozen, key, with_ema=config.ema > 0)
    shapes = jax.eval_shape(init, {})
    print(f"{config.model.name} {config.model.variant}: {optim.freeze_report(shapes.params, frozen)}")
    trainable, _ = optim.split_frozen(shapes.params, frozen)
    if config.optimizer.lr_multipliers:
        print(optim.lr_report(trainable, config.optimizer.lr_multipliers))
    state_sharding = sharding.state_sharding(shapes, mesh)
    batch_sharding = sharding.batch_sharding(mesh)

    loss = parse_loss(config.loss)
    train_step = jit_step(
        make_train_step(model, tx, schedule, loss, frozen, key, images_of(model), config.accumulate, config.ema),
        state_sharding,
        mesh,
    )

    # ---- Restore, or start -------------------------------------------------------------------------------------------
    predictor = Predictor(model, config.test_crops, batch_sharding, [config.eval_batch_size])
    card = Card(
        model=config.model.to_dict(),
        dtype=config.dtype,
        labels=config.labels,
        dataset=dataset.name,
        scale=dataset.scale,
        crops=config.test_crops,
        resize=config.resize,
        note=dataset.note,
    )
    meta = {
        "card": card.to_dict(),
        "split": split.fingerprint,
        "config": config.to_dict(),
        "jaxiqa": jaxiqa.__version__,
    }

    def evaluated(state, part):
        return evaluate(predictor(state.variables, pictures[part]), pictures[part].records, dataset, card)

    with (
        Checkpoints(workdir, meta) as checkpoints,
        program.stop_signals() as stopped_by,
        contextlib.ExitStack() as stack,
    ):
        start = checkpoints.latest_step or 0
        save_config(config, split.fingerprint, workdir, resumes=start > 0)
        write_split(workdir / "split.json", split, dataset)
        if start:
            state = checkpoints.restore(start, abstract(shapes, state_sharding))
            print(f"resumed at step {start} of {total} from {workdir}")
        else:
            loaded = initial_weights(config, shapes)
            if config.init.get("dan") and r"^dan/" in frozen:
                keep_probe(Saved(config.init.dan), workdir)
            state = jit_once(init, out_shardings=state_sharding)(loaded)
            random = [p for p in optim.split_frozen(shapes.params, frozen)[1] if f"params/{p}" not in loaded]
            if random:
                print(f"warning: {len(random)} frozen tensors are random, because config.init loads none into them")
        log = stack.enter_context(contextlib.closing(MetricLog(workdir, start, total, config.batch_size)))
        source = train_batches(
            pictures["train"],
            labels[split.train],
            crop=model.crop_size,
            batch_size=config.batch_size,
            seed=config.seed,
            start=start,
        )
        stack.callback(source.close)
        batches = to_device(source, batch_sharding)

        # ---- Loop: evaluate, save, next batch, step, log the step before (so that the host never waits) --------------
        last = None  # number and metrics of the step before, still on the device
        for step in range(start, total + 1):
            evaluates = step > start and (step == total or step % every["eval"] == 0)
            if step > start and (evaluates or stopped_by or step % every["save"] == 0):
                log.write_step(last, every["log"], must_be_finite=True)
                last, paused, scores = None, log.pause(), None
                if evaluates:
                    scores = evaluated(state, "val").metrics
                    log.write(step, **{f"val_{name}": value for name, value in scores.items()})
                    print(f"step {step}/{total}  val srcc {scores['srcc']:.4f}  plcc {scores['plcc']:.4f}", flush=True)
                checkpoints.save(step, state, scores)
                log.resume(paused)
            if stopped_by:
                checkpoints.wait()
                raise Stopped(f"stopped at step {step} of {total}; the same command goes on from there", stopped_by[0])
            if step == total:
                break
            batch = next(batches)
            with jax.transfer_guard("disallow"):
                state, metrics = train_step(state, batch)
            log.write_step(last, every["log"])
            last = (step + 1, metrics)

        # ---- The test part, with the step that the selection rule picks ----------------------------------------------
        checkpoints.wait()
        best = checkpoints.best_step
        state = checkpoints.restore(best, abstract(shapes, state_sharding))
    lines = read_metrics(workdir)
    logged = [line for line in lines if "loss" in line]
    report.loss_curve(
        workdir / "loss_curve.png",
        [line["step"] for line in logged],
        [line["loss"] for line in logged],
        [(line["step"], line["val_srcc"]) for line in lines if "val_srcc" in line],
    )
    results = evaluated(state, "test")
    summary = provenance(dataset, "test", split, card) | {"step": best, "seed": config.seed}
    print(describe(write_results(workdir, "test", results, summary)))
    took = clock(time.monotonic() - began)
    print(f"report.html, loss curve, scatter plot, contact sheet and predictions are in {workdir} (took {took})")
    return results.metrics


def initial_weights(config: ConfigDict, shapes: TrainState) -> dict[str, np.ndarray]:
    """{"params/...": array} of what config.init names: converted checkpoints or workdirs."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    leaves = traverse_util.flatten_dict({"params": shapes.params, "batch_stats": shapes.batch_stats}, sep="/")
    loaded = {}
    for part, path in config.init.items():
        if path:
            saved = Saved(path)
            variables = scoring_variables(**saved.load(("params", "batch_stats", "ema"), device))
            if "pretrained" in saved.meta:
                if part != "dan":
                    raise ConfigError(
                        f"config.init.{part}: {path} is a run of jaxiqa.pretrain; it can be config.init.dan"
                    )
                variables = encoder_variables(variables)
            arrays, report_line = place(part, variables, leaves, config.model.name, path)
            loaded |= arrays
            print(report_line)
    return loaded


def check_config(config: ConfigDict) -> None:
    """Refuse values that cannot work, before anything is read or compiled.

    Raises:
      ConfigError: with the key and what to write instead.
    """
    sharding.check_batches(config, jax.device_count())
    check_init(config.model.name, config.init)
    if not 0 <= config.ema < 1:
        raise ConfigError(f"config.ema={config.ema} must be 0 (off) or a decay below 1, e.g. 0.999")
    for key, allowed in (
        ("labels", ("score01", "native")),
        ("frozen_bn", ("eval", "train")),
        ("dtype", ("float32", "bfloat16")),
    ):
        if config[key] not in allowed:
            raise ConfigError(f'config.{key}="{config[key]}" must be one of {", ".join(allowed)}')
    if not config.optimizer.learning_rate > 0:
        raise ConfigError(f"config.optimizer.learning_rate={config.optimizer.learning_rate} must be above 0")


def main() -> None:
    """The program."""
    config = program.read_config(_CONFIG)
    if not _WORKDIR.value:
        raise ConfigError("--workdir is missing; name a folder for the run, e.g. --workdir workdir/quickstart")
    train(config, epath.Path(_WORKDIR.value))


if __name__ == "__main__":
    program.run(main)
