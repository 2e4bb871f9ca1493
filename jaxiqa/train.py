"""Train an image quality model on pictures with opinion scores.

  python -m jaxiqa.train --config configs/glintiqa_sample.py --workdir workdir/quickstart

Any value of the config can be given on the command line: --config.batch_size=32 --config.total="20 epochs".
The same command again goes on from the last checkpoint. The workdir receives config.json, split.json (what trains, what
tests), metrics.jsonl, TensorBoard event files, checkpoints (the latest two and the best), ledger.json (where the time
went), and at the end test scores (report.html, report.json, predictions_test.csv) with a loss curve, a scatter plot and
a contact sheet of the best and the worst predictions.

A checkpoint that is damaged is set aside in quarantine/ and the one before it is used. --override lets a run go on with
another optimizer, schedule, loss or total; --allow_restart lets it start anew where every checkpoint is damaged.

On many hosts start the same command on all of them (launch/README.md).

Exit codes: 0 done, 2 usage or config, 3 bad data, 4 unusable checkpoint, 5 non-finite loss, 6 workdir in use, 75 try
again (disk full, a host is missing), 130 / 143 stopped by Ctrl-C / SIGTERM after a good save.
"""

import contextlib
import functools
import time

import jax
import numpy as np
from etils import epath
from flax import traverse_util
from ml_collections import ConfigDict

import jaxiqa
from jaxiqa import datasets, program
from jaxiqa.datasets.leaks import lent_scores, refuse_leak
from jaxiqa.datasets.sizes import data_fingerprint
from jaxiqa.datasets.split_files import refuse_other_data, write_split
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import ConfigError, Stopped, full_disk
from jaxiqa.evaluation import report
from jaxiqa.inputs.pictures import Pictures
from jaxiqa.inputs.pipeline import rows_of, to_device, train_batches
from jaxiqa.inputs.render import render
from jaxiqa.inputs.transferred import Sources, distorting, make_crops
from jaxiqa.inputs.transforms import images_of
from jaxiqa.models import model_to_train
from jaxiqa.models.contrastive import encoder_variables
from jaxiqa.scoring.card import Card
from jaxiqa.scoring.crops import parse_policy
from jaxiqa.scoring.evaluate import describe, evaluate, provenance
from jaxiqa.scoring.explain import keep_probe
from jaxiqa.scoring.predict import Predictor
from jaxiqa.scoring.results import write_results
from jaxiqa.scoring.shares import predict_shares
from jaxiqa.training import compile_cache, distributed, lock, optim, sharding
from jaxiqa.training.checkpoint import Checkpoints, Saved, abstract
from jaxiqa.training.durations import to_steps
from jaxiqa.training.ledger import Ledger
from jaxiqa.training.logging import MetricLog, clock, read_metrics
from jaxiqa.training.losses import parse_loss
from jaxiqa.training.nonfinite import naming_batch, skipping
from jaxiqa.training.run_folder import open_run_folder
from jaxiqa.training.state import TrainState, jit_once, make_init, scoring_variables
from jaxiqa.training.step import jit_step, make_train_step
from jaxiqa.training.values import check_values
from jaxiqa.training.workdir import open_workdir, save_config
from jaxiqa.weights.initial import check_init, place

_CONFIG, _WORKDIR, _OVERRIDE, _ALLOW_RESTART = program.training_flags()
_CLUSTER = program.cluster_flags()


def train(
    config: ConfigDict, workdir: epath.Path, override: bool = False, allow_restart: bool = False
) -> dict[str, float]:
    """Trains, or goes on training, and returns the test metrics (see the module's docstring)."""
    began, ledger = time.monotonic(), Ledger("train_step")
    if distributed.is_first():
        open_workdir(workdir)
    compile_cache.enable()

    # ---- Mesh, and what the config says ------------------------------------------------------------------------------
    mesh = sharding.make_mesh(**config.mesh)
    check_config(config)
    model = model_to_train(config)
    frozen = (*config.frozen, *getattr(model, "frozen", ()))  # the model's own: what it runs as a fixed extractor

    # ---- Data --------------------------------------------------------------------------------------------------------
    dataset = datasets.load(**config.dataset)
    split = make_split(dataset, **config.split)
    data = data_fingerprint(dataset)
    sources = None  # pictures that the step distorts, anew in every epoch
    if dataset.transferred:
        sources = Sources(dataset, split.train, config.labels == "native", config.cache_gb, config.resize)
    print(
        f"{dataset.name}: {len(split.train)} pictures train, {len(split.val)} validate, {len(split.test)} test "
        f"({split.name}, round {split.round}, selection {split.selection}, split {split.fingerprint})"
    )
    if dataset.note:
        print(f"note: {dataset.note}")
    labels = np.array([r.mos for r in dataset.records])
    labels = labels if config.labels == "native" else dataset.scale.to_score01(labels)
    steps = functools.partial(to_steps, batch_size=config.batch_size, examples=len(split.train))
    total = steps(config.total, "total", least=1)
    every = {k: steps(config[f"{k}_every"], f"{k}_every", total=total, least=1) for k in ("log", "eval", "save")}

    # ---- Model, optimiser, and where every array of the state lives --------------------------------------------------
    schedule = optim.schedule_of(config, total, steps)
    tx = optim.make_optimizer(config.optimizer, schedule)
    key = jax.jit(lambda: jax.random.key(config.seed), out_shardings=sharding.replicated(mesh))()
    init = make_init(model, model.crop_size, tx, frozen, with_ema=config.ema > 0)
    shapes = jax.eval_shape(init, key, {})
    print(f"{config.model.name} {config.model.variant}: {optim.freeze_report(shapes.params, frozen)}")
    trainable, _ = optim.split_frozen(shapes.params, frozen)
    if config.optimizer.lr_multipliers:
        print(optim.lr_report(trainable, config.optimizer.lr_multipliers))
    state_sharding = sharding.state_sharding(shapes, mesh)
    batch_sharding = sharding.batch_sharding(mesh)

    loss, images = parse_loss(config.loss), images_of(model)
    one_step = make_train_step(model, tx, schedule, loss, frozen, images, config.accumulate, config.ema)
    one_step = skipping(one_step, config.skip_nonfinite, config.optimizer.grad_skip_norm)
    if sources:
        one_step = distorting(one_step, make_crops(sources.cells, model.crop_size, mesh))
    train_step = distributed.compiled_together(jit_step(one_step, state_sharding, mesh))

    here = sharding.batch_sharding(distributed.local_mesh(mesh))
    predictor = Predictor(model, config.test_crops, here, [config.eval_batch_size // jax.process_count()])

    # ---- Pictures: rendering may take minutes, and comes once nothing is left to refuse ------------------------------
    dataset = render(dataset, config.dataset.data_dir, sources and {*split.val, *split.test})
    pictures = {
        part: Pictures(
            [dataset.records[i] for i in getattr(split, part)], model.crop_size, config.resize, config.cache_gb
        )
        for part in ("train", "val", "test")
    }

    # ---- Restore, or start -------------------------------------------------------------------------------------------
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
        "transferred": lent_scores(dataset, split),
        "config": config.to_dict(),
        "jaxiqa": jaxiqa.__version__,
    }

    def evaluated(state, part):
        predictions = predict_shares(predictor, distributed.local_copy(state.variables, mesh), pictures[part])
        return evaluate(predictions, pictures[part].records, dataset, card)

    with (
        Checkpoints(workdir, meta) as checkpoints,
        program.stop_signals() as stopped_by,
        contextlib.ExitStack() as stack,
    ):
        folder = stack.enter_context(open_run_folder(workdir))
        distributed.check_same(config=config.to_json(), split=split.fingerprint, data=data)
        latest = distributed.from_first(checkpoints.latest_step)
        save_config(config, split.fingerprint, folder.path, latest, override)
        start, state = checkpoints.resume(abstract(shapes, state_sharding), allow_restart)
        if start:
            refuse_other_data(folder.path / "split.json", data)
        write_split(folder.path / "split.json", split, dataset, data)
        if start:
            print(f"resumed at step {start} of {total} from {workdir}")
        else:
            for path in filter(None, config.init.values()):
                refuse_leak(Saved(path).meta, path, dataset, config.dataset, split)
            loaded = initial_weights(config, shapes)
            if config.init.get("dan") and r"^dan/" in frozen:
                keep_probe(Saved(config.init.dan), folder.path)
            state = jit_once(init, out_shardings=state_sharding)(key, loaded)
            random = [p for p in optim.split_frozen(shapes.params, frozen)[1] if f"params/{p}" not in loaded]
            if random:
                print(f"warning: {len(random)} frozen tensors are random, because config.init loads none into them")
        log = stack.enter_context(contextlib.closing(MetricLog(folder.path, start, total, config.batch_size)))
        batches_from = functools.partial(
            train_batches,
            sources or pictures["train"],
            sources.labels if sources else labels[split.train],
            crop=model.crop_size,
            batch_size=config.batch_size,
            seed=config.seed,
            draw=sources and sources.draw,
        )

        def seen(step):
            with contextlib.closing(batches_from(start=step - 1)) as again:
                return rows_of(next(again), (sources or pictures["train"]).records)

        stack.callback(lambda: ledger.write(workdir, log.skipped))
        stack.enter_context(naming_batch(workdir, seen))
        source = batches_from(start=start)
        stack.callback(source.close)
        batches = to_device(source, batch_sharding)

        # ---- Loop: evaluate, save, next batch, step, log the step before (so that the host never waits) --------------
        ledger.start_loop()
        last = None  # number and metrics of the step before, still on the device
        for step in range(start, total + 1):
            lock.check()
            stopping = distributed.stop_at(step, stopped_by)
            evaluates = step > start and (step == total or step % every["eval"] == 0)
            if step > start and (evaluates or stopping or step % every["save"] == 0):
                log.write_step(last, every["log"], must_be_finite=True)
                last, paused, scores = None, log.pause(), None
                if evaluates:
                    with ledger.timed("evaluation"):
                        scores = distributed.from_first(evaluated(state, "val").metrics)
                    log.write(step, **{f"val_{name}": value for name, value in scores.items()})
                    print(f"step {step}/{total}  val srcc {scores['srcc']:.4f}  plcc {scores['plcc']:.4f}", flush=True)
                with ledger.timed("save"):
                    checkpoints.save(step, state, scores)
                folder.push()
                log.resume(paused)
            if stopping:
                with ledger.timed("save"):
                    checkpoints.wait()
                raise Stopped(f"stopped at step {step} of {total}; the same command goes on from there", stopping)
            if step == total:
                break
            with ledger.timed("data"):
                batch = next(batches)
            with jax.transfer_guard("disallow"):
                state, metrics = train_step(state, batch, key)
            checkpoints.poll()
            log.write_step(last, every["log"])
            last = (step + 1, metrics)

        # ---- The test part, with the step that the selection rule picks ----------------------------------------------
        with ledger.timed("save"):
            checkpoints.wait()
        best = distributed.from_first(checkpoints.best_step)
        state = checkpoints.restore(best, abstract(shapes, state_sharding))
    results = evaluated(state, "test")
    if not distributed.is_first():
        return results.metrics
    lines = read_metrics(workdir)
    logged = [line for line in lines if "loss" in line]
    report.loss_curve(
        workdir / "loss_curve.png",
        [line["step"] for line in logged],
        [line["loss"] for line in logged],
        [(line["step"], line["val_srcc"]) for line in lines if "val_srcc" in line],
    )
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
    check_values(config)
    parse_policy(config.test_crops)
    sharding.check_batches(config, jax.device_count())
    check_init(config.model.name, config.init)


def main() -> None:
    """The program."""
    config = program.read_config(_CONFIG, "train")
    if not _WORKDIR.value:
        raise ConfigError("--workdir is missing; name a folder for the run, e.g. --workdir workdir/quickstart")
    workdir = epath.Path(_WORKDIR.value)
    with distributed.start(workdir, **_CLUSTER()), lock.hold(workdir), full_disk(workdir):
        train(config, workdir, _OVERRIDE.value, _ALLOW_RESTART.value)


if __name__ == "__main__":
    program.run(main)
