"""Pretrain an encoder to tell distortions apart, by supervised contrastive learning on pristine pictures.

  python -m jaxiqa.pretrain --config configs/dan_folder.py --workdir workdir/dan --config.pictures=/path/to/pictures

Any folder of good photographs will do: they are distorted on the device, inside the training step, by 24 types at five
levels. Crops with the same distortion attract one another, all others repel (config.label_mode says what is the same).
The result is the distortion-aware branch of MFEN: --config.init.dan=workdir/dan.

Every evaluation fits a linear probe of the distortion's type on pictures that are never trained on and prints its
accuracy beside that of the untrained encoder. The workdir receives config.json, metrics.jsonl, TensorBoard event files,
checkpoints (the latest two and the best), ledger.json (where the time went), and at the end report.json,
probe_STEP.npz, a confusion matrix and a loss curve. The same command again goes on from the last checkpoint; one that
is damaged is set aside in quarantine/ and the one before it is used. --override lets a run go on with another
optimizer, schedule or total; --allow_restart lets it start anew where every checkpoint is damaged.

On many hosts start the same command on all of them (launch/README.md).

Exit codes: 0 done, 2 usage or config, 3 bad data, 4 unusable checkpoint, 5 non-finite loss, 6 workdir in use, 75 try
again (disk full, a host is missing), 130 / 143 stopped by Ctrl-C / SIGTERM after a good save.
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
from jaxiqa import program
from jaxiqa.datasets.records import Dataset
from jaxiqa.datasets.sizes import data_fingerprint
from jaxiqa.distortions import label_classes
from jaxiqa.distortions.draw import LABEL_MODES
from jaxiqa.errors import ConfigError, Stopped, full_disk
from jaxiqa.evaluation import probe as probes
from jaxiqa.evaluation import report
from jaxiqa.inputs.contrastive import make_views, region_side, split_pictures, with_distortions
from jaxiqa.inputs.pictures import Pictures
from jaxiqa.inputs.pipeline import rows_of, to_device, train_batches
from jaxiqa.inputs.probe_set import CLASSES, FAMILIES, PARTS, make_probe_set
from jaxiqa.inputs.transforms import normalise
from jaxiqa.models import create_model
from jaxiqa.models.contrastive import Contrastive
from jaxiqa.training import compile_cache, distributed, lock, optim, sharding
from jaxiqa.training.checkpoint import Checkpoints, Saved, abstract
from jaxiqa.training.contrastive import make_pretrain_step
from jaxiqa.training.durations import to_steps
from jaxiqa.training.ledger import Ledger
from jaxiqa.training.logging import MetricLog, clock, read_metrics
from jaxiqa.training.nonfinite import naming_batch, skipping
from jaxiqa.training.run_folder import open_run_folder
from jaxiqa.training.state import TrainState, jit_once, make_init, scoring_variables
from jaxiqa.training.step import jit_step
from jaxiqa.training.values import check_values
from jaxiqa.training.workdir import open_workdir, save_config
from jaxiqa.weights.initial import place

_CONFIG, _WORKDIR, _OVERRIDE, _ALLOW_RESTART = program.training_flags()
_CLUSTER = program.cluster_flags()


def pretrain(
    config: ConfigDict, workdir: epath.Path, override: bool = False, allow_restart: bool = False
) -> dict[str, float]:
    """Pretrains, or goes on, and returns the probe's accuracies on its test part (see the module's docstring)."""
    began, ledger = time.monotonic(), Ledger("pretrain_step")
    if distributed.is_first():
        open_workdir(workdir)
    compile_cache.enable()

    mesh = sharding.make_mesh(**config.mesh)
    alone = distributed.local_mesh(mesh)  # what every process does by itself: the probe, which is small
    check_config(config)
    encoder = create_model(**config.model, num_classes=0, dtype=jnp.dtype(config.dtype))
    model = Contrastive(encoder, **config.projector)
    crop = encoder.crop_size
    instance = config.label_mode == "instance"
    region = region_side(crop, instance)

    # ---- Data --------------------------------------------------------------------------------------------------------
    train_records, probe_records = split_pictures(config.pictures, config.probe_pictures)
    classes = label_classes(config.label_mode)
    print(
        f"{len(train_records)} pristine pictures train, {len(probe_records)} probe; "
        f"{'every picture a label' if instance else f'{len(classes)} labels'} (label_mode {config.label_mode})"
    )
    fingerprint = data_fingerprint(Dataset("pictures", train_records, (0.0, 1.0), True))
    drawn = config.batch_size // 2 if instance else config.batch_size  # pictures distorted in a step
    steps = functools.partial(to_steps, batch_size=drawn, examples=len(train_records))
    total = steps(config.total, "total", least=1)
    every = {k: steps(config[f"{k}_every"], f"{k}_every", total=total, least=1) for k in ("log", "eval", "save")}

    # ---- Model, optimiser, and where every array of the state lives --------------------------------------------------
    schedule = optim.schedule_of(config, total, steps)
    tx = optim.make_optimizer(config.optimizer, schedule)
    key = jax.jit(lambda: jax.random.key(config.seed), out_shardings=sharding.replicated(mesh))()
    init = make_init(model, crop, tx, ())
    shapes = jax.eval_shape(init, key, {})
    print(f"{config.model.name} {config.model.variant}: {optim.freeze_report(shapes.params, ())}")
    state_sharding = sharding.state_sharding(shapes, mesh)
    batch_sharding = sharding.batch_sharding(mesh)
    views = make_views(encoder, instance, mesh)
    one_step = make_pretrain_step(model, tx, schedule, config.temperature, views)
    one_step = skipping(one_step, config.skip_nonfinite, config.optimizer.grad_skip_norm)
    train_step = distributed.compiled_together(jit_step(one_step, state_sharding, mesh))

    # ---- Pictures, and what is asked of the encoder ------------------------------------------------------------------
    pictures = Pictures(train_records, region, 0, config.cache_gb)
    probe_set = make_probe_set(Pictures(probe_records, crop), crop, config.eval_batch_size, alone)

    @jax.jit
    def pooled(variables, images_u8):
        return model.apply(variables, normalise(images_u8, encoder.mean, encoder.std, encoder.dtype))[1]

    def probed(state) -> tuple[probes.Probe, dict[str, np.ndarray], dict[str, float]]:
        """A probe fitted on the encoder, what it predicts for each part, and its accuracy over the types."""
        size, images = config.eval_batch_size, probe_set.images
        variables, here = distributed.local_copy(state.variables, mesh), sharding.batch_sharding(alone)
        batches = [images[np.arange(i, i + size) % len(images)] for i in range(0, len(images), size)]
        features = [jax.device_get(pooled(variables, jax.device_put(b, here))) for b in batches]
        features = np.concatenate(features)[: len(images)]
        part = {name: probe_set.parts == i for i, name in enumerate(PARTS)}
        probe = probes.fit_probe(features[part["fit"]], probe_set.labels[part["fit"]], CLASSES, FAMILIES)
        predicted = {name: probe.predict(features[part[name]]) for name in PARTS}
        # Over the distorted crops; the pristine ones are one more class to err into.
        correct = {name: predicted[name] == probe_set.labels[part[name]] for name in PARTS}
        accuracy = {name: float(correct[name][probe_set.labels[part[name]] > 0].mean()) for name in PARTS}
        return probe, predicted, distributed.from_first(accuracy)

    # ---- Restore, or start -------------------------------------------------------------------------------------------
    meta = {
        "pretrained": {"model": config.model.to_dict(), "crop_size": crop, "label_mode": config.label_mode},
        "config": config.to_dict(),
        "jaxiqa": jaxiqa.__version__,
    }
    with (
        Checkpoints(workdir, meta, best_by="probe_accuracy") as checkpoints,
        program.stop_signals() as stopped_by,
        contextlib.ExitStack() as stack,
    ):
        folder = stack.enter_context(open_run_folder(workdir))
        distributed.check_same(config=config.to_json(), pictures=fingerprint)
        save_config(config, fingerprint, folder.path, distributed.from_first(checkpoints.latest_step), override)
        start, state = checkpoints.resume(abstract(shapes, state_sharding), allow_restart)
        log = stack.enter_context(contextlib.closing(MetricLog(folder.path, start, total, drawn)))
        if start:
            print(f"resumed at step {start} of {total} from {workdir}")
            untrained = {part: read_metrics(workdir)[0][f"untrained_{part}_accuracy"] for part in ("val", "test")}
        else:
            make = jit_once(init, out_shardings=state_sharding)
            untrained = probed(make(key, {}))[2]
            log.write(0, **{f"untrained_{part}_accuracy": value for part, value in untrained.items()})
            state = make(key, initial_weights(config, shapes))
        print(f"linear probe of {len(CLASSES) - 1} types, untrained encoder: val accuracy {untrained['val']:.4f}")
        batches_from = functools.partial(
            train_batches, pictures, np.zeros(len(pictures)), crop=region, batch_size=drawn, seed=config.seed
        )

        def seen(step):
            with contextlib.closing(batches_from(start=step - 1)) as again:
                batch = next(again)
            drawn_for = with_distortions([batch], config.seed, step - 1, drawn, classes)
            return rows_of({**batch, **next(drawn_for)}, train_records)

        stack.callback(lambda: ledger.write(workdir, log.skipped))
        stack.enter_context(naming_batch(workdir, seen))
        source = batches_from(start=start)
        stack.callback(source.close)
        batches = to_device(with_distortions(source, config.seed, start, drawn, classes), batch_sharding)

        # ---- Loop: evaluate, save, next batch, step, log the step before (so that the host never waits) --------------
        ledger.start_loop()
        last = None  # number and metrics of the step before, still on the device
        for step in range(start, total + 1):
            lock.check()
            stopping = distributed.stop_at(step, stopped_by)
            evaluates = step > start and (step == total or step % every["eval"] == 0)
            if step > start and (evaluates or stopping or step % every["save"] == 0):
                log.write_step(last, every["log"], must_be_finite=True)
                last, paused, found = None, log.pause(), None
                if evaluates:
                    with ledger.timed("evaluation"):
                        accuracy = probed(state)[2]["val"]
                    found = {"probe_accuracy": accuracy}
                    log.write(step, **found)
                    print(
                        f"step {step}/{total}  probe: val accuracy {accuracy:.4f} (untrained {untrained['val']:.4f})",
                        flush=True,
                    )
                with ledger.timed("save"):
                    checkpoints.save(step, state, found)
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

        # ---- The probe's test part, with the step that its validation part picks -------------------------------------
        with ledger.timed("save"):
            checkpoints.wait()
        best = distributed.from_first(checkpoints.best_step)
        state = checkpoints.restore(best, abstract(shapes, state_sharding))
    probe, predicted, accuracy = probed(state)
    if not distributed.is_first():
        return accuracy
    probe.save(workdir / f"probe_{best}.npz")
    counts = probes.confusion(predicted["test"], probe_set.labels[probe_set.parts == PARTS.index("test")], len(CLASSES))
    title = f"{config.model.name} ({config.model.variant}), step {best}: accuracy {accuracy['test']:.3f} over the types"
    probes.draw_confusion(workdir / "confusion_matrix.png", counts, CLASSES, title)
    lines = read_metrics(workdir)
    logged = [line for line in lines if "loss" in line]
    report.loss_curve(
        workdir / "loss_curve.png",
        [line["step"] for line in logged],
        [line["loss"] for line in logged],
        [(line["step"], line["probe_accuracy"]) for line in lines if "probe_accuracy" in line],
        "probe accuracy",
    )
    result = {
        **meta["pretrained"],
        "seed": config.seed,
        "step": best,
        "probe_pictures": config.probe_pictures,
        "probe_accuracy": accuracy["test"],
        "untrained_accuracy": untrained["test"],
        "classes": CLASSES,
        "confusion": counts,
        "jaxiqa": jaxiqa.__version__,
    }
    report.write_json(workdir / "report.json", result)
    print(
        f"probe of {len(CLASSES) - 1} types on {len(probe_records) // 4} pictures never seen: accuracy "
        f"{accuracy['test']:.4f}, untrained encoder {untrained['test']:.4f} (step {best}, picked on others)\n"
        f"confusion matrix, loss curve, probe_{best}.npz and report.json are in {workdir} "
        f"(took {clock(time.monotonic() - began)})"
    )
    return accuracy


def initial_weights(config: ConfigDict, shapes: TrainState) -> dict[str, np.ndarray]:
    """{"params/encoder/...": array} of the converted backbone that config.init.encoder names."""
    if not config.init.encoder:
        return {}
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    variables = scoring_variables(**Saved(config.init.encoder).load(("params", "batch_stats", "ema"), device))
    own = {"params": shapes.params["encoder"], "batch_stats": shapes.batch_stats["encoder"]}
    leaves = traverse_util.flatten_dict(own, sep="/")
    arrays, line = place("model", variables, leaves, config.model.name, config.init.encoder)
    print(line.replace("init.model", "init.encoder"))
    return {path.replace("/", "/encoder/", 1): array for path, array in arrays.items()}


def check_config(config: ConfigDict) -> None:
    """Refuse values that cannot work, before anything is read or compiled.

    Raises:
      ConfigError: with the key and what to write instead.
    """
    check_values(config)
    devices = jax.device_count()
    unit = devices * (2 if config.label_mode == "instance" else 1)
    if config.label_mode not in LABEL_MODES:
        raise ConfigError(f'config.label_mode="{config.label_mode}" must be one of {", ".join(LABEL_MODES)}')
    if config.batch_size < 8 or config.batch_size % unit:
        near = -(-max(8, config.batch_size) // unit) * unit
        raise ConfigError(
            f"config.batch_size={config.batch_size} must be 8 or more and a multiple of {unit}; take {near}"
        )
    if config.eval_batch_size < 1 or config.eval_batch_size % devices:
        raise ConfigError(f"config.eval_batch_size={config.eval_batch_size} must be a multiple of {devices} device(s)")
    if not config.model.name.startswith(("resnet", "van_")):
        raise ConfigError(f'config.model.name="{config.model.name}" must be a backbone with four stages, e.g. resnet50')


def main() -> None:
    """The program."""
    config = program.read_config(_CONFIG, "pretrain")
    if not _WORKDIR.value:
        raise ConfigError("--workdir is missing; name a folder for the run, e.g. --workdir workdir/dan")
    workdir = epath.Path(_WORKDIR.value)
    with distributed.start(workdir, **_CLUSTER()), lock.hold(workdir), full_disk(workdir):
        pretrain(config, workdir, _OVERRIDE.value, _ALLOW_RESTART.value)


if __name__ == "__main__":
    program.run(main)
