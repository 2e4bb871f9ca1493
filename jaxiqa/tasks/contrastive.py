"""Contrastive pretraining of an encoder that distinguishes distortions."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxiqa.config import check, complete
from jaxiqa.datasets.file_sizes import data_fingerprint
from jaxiqa.datasets.records import Dataset
from jaxiqa.distortions import label_classes, load_bank
from jaxiqa.distortions.draw import LABEL_MODES
from jaxiqa.errors import ConfigError
from jaxiqa.evaluation import probe as probes
from jaxiqa.figures import report
from jaxiqa.files import write_json
from jaxiqa.inputs.contrastive import make_views, region_side, split_images, with_distortions
from jaxiqa.inputs.image_source import Images
from jaxiqa.inputs.pipeline import rows_of, train_batches
from jaxiqa.inputs.probe_set import CLASSES, FAMILIES, PARTS, make_probe_set
from jaxiqa.inputs.transforms import augment_of, normalise
from jaxiqa.models import create_model, find_model, frozen_options
from jaxiqa.models.blocks.projector import Contrastive, encoder_variables
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.runs.log import clock, curve, read_metrics
from jaxiqa.training import sharding
from jaxiqa.training.loop import Task
from jaxiqa.training.losses import supervised_contrastive
from jaxiqa.training.state import scoring_variables
from jaxiqa.version import __version__
from jaxiqa.weights.initial import part_variables, place

# What the probe is compared with: the same network with other weights.
_BEFORE = {"untrained": "untrained encoder", "initial": "encoder of config.init"}


class Pretraining(Task):
    """The task of jaxiqa.pretrain.

    Args:
      config: config of the run. Missing keys have their defaults (jaxiqa.config).
      mesh: mesh of all devices.

    Raises:
      ConfigError: a value is not valid. No file has been read and nothing has been compiled by then.
    """

    best_by = "probe_accuracy"

    def __init__(self, config: ConfigDict, mesh: Mesh):
        config = complete(config, "contrastive")
        check_config(config)
        super().__init__(config, mesh)
        self._alone = sharding.local_mesh(mesh)  # each process computes the whole probe, which is small
        options = dict(config.model, num_classes=0, dtype=jnp.dtype(config.dtype))
        self._encoder = create_model(**options, **frozen_options(config.model.name, self.frozen))
        self.model = Contrastive(self._encoder, find_model(config.model.name).POOLED, **config.projector)
        self.crop_size = self._encoder.crop_size
        self._instance = config.label_mode == "instance"
        bank, identity = load_bank(config.bank)
        self._classes = label_classes(config.label_mode, bank, identity)
        self._region = region_side(self.crop_size, self._instance)
        self.batch_size //= 2 if self._instance else 1  # each image gives two crops
        self.prepare = make_views(self._encoder, self._instance, mesh, bank)
        self.loss = contrastive_loss(self.model, config.temperature)

    def batch_spec(self):
        columns = dict.fromkeys(("type", "level", "label"), ((), jnp.int32))
        return {"image": ((self._region, self._region, 3), jnp.uint8), **columns}

    def open(self):
        config = self.config
        check_batches(config, self.mesh.size)
        self._records, self._probed = split_images(config.pictures, config.probe_pictures)
        labels = "one label per image" if self._instance else f"{len(self._classes)} labels"
        print(
            f"{len(self._records)} pristine images for training, {len(self._probed)} for the probe; {labels} "
            f"(label_mode {config.label_mode})"
        )
        return len(self._records)

    def render(self):
        config = self.config
        self._images = Images(self._records, self._region, 0, config.cache_gb)
        probed = Images(self._probed, self.crop_size)
        self._probe_set = make_probe_set(probed, self.crop_size, config.eval_batch_size, self._alone)

    def same(self):
        return {"pictures": data_fingerprint(Dataset("pictures", self._records, (0.0, 1.0), True))}

    def meta(self):
        return {"pretrained": self._about()}

    def _about(self) -> dict:
        config = self.config
        return {"model": config.model.to_dict(), "crop_size": self.crop_size, "label_mode": config.label_mode}

    def begin(self, run, make, shapes):
        self._before = {"untrained": self._accuracy(run, make({}))}
        loaded = self._initial(shapes)
        state = make(loaded)
        if loaded:
            self._before["initial"] = self._accuracy(run, state)
        logged = {f"{name}_{part}": value for name, found in self._before.items() for part, value in found.items()}
        run.log.write(0, **{f"{name}_accuracy": value for name, value in logged.items()})
        self._print_before()
        return state

    def _accuracy(self, run, state) -> dict[str, float]:
        return run.from_first(self._probe(sharding.local_copy(state.variables, self.mesh))[2])

    def resume(self, run):
        first = next(iter(read_metrics(run.workdir)), {})  # {}: the file was removed or is damaged
        names = [name for name in _BEFORE if f"{name}_val_accuracy" in first]
        self._before = {name: {part: first[f"{name}_{part}_accuracy"] for part in ("val", "test")} for name in names}
        self._print_before()

    def _print_before(self) -> None:
        for name, accuracy in self._before.items():
            print(f"linear probe of {len(CLASSES) - 1} types, {_BEFORE[name]}: val accuracy {accuracy['val']:.4f}")

    def _initial(self, shapes) -> dict[str, np.ndarray]:
        """{"params/encoder/...": array} of the backbone or the model in config.init.encoder; {} if it is empty."""
        config = self.config
        if not config.init.encoder:
            return {}
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        saved = Saved(config.init.encoder)
        variables = scoring_variables(**saved.load(("params", "batch_stats", "ema"), device))
        if saved.meta.pretrained:
            variables = encoder_variables(variables)
        variables = part_variables("encoder", saved.meta.card, variables)
        own = {"params": shapes.params["encoder"], "batch_stats": shapes.batch_stats["encoder"]}
        leaves = traverse_util.flatten_dict(own, sep="/")
        arrays, line = place("encoder", variables, leaves, config.model.name, config.init.encoder)
        print(line)
        return {path.replace("/", "/encoder/", 1): array for path, array in arrays.items()}

    def _crops(self, start: int):
        return train_batches(
            self._images,
            np.zeros(len(self._images)),
            crop=self._region,
            batch_size=self.batch_size,
            seed=self.config.seed,
            start=start,
            augment=augment_of(self.config),
        )

    def batches(self, start):
        with contextlib.closing(self._crops(start)) as crops:
            yield from with_distortions(crops, self.config.seed, start, self.batch_size, self._classes)

    def rows(self, step):
        with contextlib.closing(self._crops(step - 1)) as again:
            batch = next(again)
        drawn_for = with_distortions([batch], self.config.seed, step - 1, self.batch_size, self._classes)
        return rows_of({**batch, **next(drawn_for)}, self._records)

    @functools.cached_property
    def _pooled(self):
        encoder = self._encoder

        def pooled(variables, images_u8):
            images = normalise(images_u8, encoder.mean, encoder.std, encoder.dtype)
            return self.model.apply(variables, images)[1]

        return jax.jit(pooled)

    def _probe(self, variables) -> tuple[probes.Probe, dict[str, np.ndarray], dict[str, float]]:
        """Returns a probe of the encoder, its predictions for each part, and its accuracy over the types."""
        size, found = self.config.eval_batch_size, self._probe_set
        images, here = found.images, sharding.batch_sharding(self._alone)
        batches = [images[np.arange(i, i + size) % len(images)] for i in range(0, len(images), size)]
        features = [jax.device_get(self._pooled(variables, jax.device_put(b, here))) for b in batches]
        features = np.concatenate(features)[: len(images)]
        part = {name: found.parts == i for i, name in enumerate(PARTS)}
        probe = probes.fit_probe(features[part["fit"]], found.labels[part["fit"]], CLASSES, FAMILIES)
        predicted = {name: probe.predict(features[part[name]]) for name in PARTS}
        # The accuracy is over the distorted crops. Pristine is one more class that the probe may predict wrongly.
        correct = {name: predicted[name] == found.labels[part[name]] for name in PARTS}
        return probe, predicted, {n: float(correct[n][found.labels[part[n]] > 0].mean()) for n in PARTS}

    def evaluate(self, variables, part="val"):
        return {"probe_accuracy": self._probe(variables)[2][part]}

    def describe(self, scores):
        before = ", ".join(f"{name} {accuracy['val']:.4f}" for name, accuracy in self._before.items())
        return f"probe: val accuracy {scores['probe_accuracy']:.4f} ({before})"

    def finish(self, run, variables, step):
        """Write the probe, its confusion matrix, the loss curve and the report. Returns the accuracy for each part."""
        probe, predicted, accuracy = self._probe(variables)
        accuracy, config, workdir = run.from_first(accuracy), self.config, run.workdir
        if not run.is_first:
            return accuracy
        probe.save(workdir / f"probe_{step}.npz")
        tested = self._probe_set.labels[self._probe_set.parts == PARTS.index("test")]
        counts = probes.confusion(predicted["test"], tested, len(CLASSES))
        name = f"{config.model.name} ({config.model.variant})"
        title = f"{name}, step {step}: accuracy {accuracy['test']:.3f} over the types"
        report.draw_confusion(workdir / "confusion_matrix.png", counts, CLASSES, title)
        report.loss_curve(workdir / "loss_curve.png", *curve(workdir, "probe_accuracy"), "probe accuracy")
        result = {
            **self._about(),
            "seed": config.seed,
            "step": step,
            "probe_pictures": config.probe_pictures,
            "probe_accuracy": accuracy["test"],
            **{f"{name}_accuracy": accuracy["test"] for name, accuracy in self._before.items()},
            "classes": CLASSES,
            "confusion": counts,
            "jaxiqa": __version__,
        }
        write_json(workdir / "report.json", result)
        before = ", ".join(f"{_BEFORE[name]} {found['test']:.4f}" for name, found in self._before.items())
        print(
            f"linear probe of {len(CLASSES) - 1} types on {len(self._probed) // 4} test images: accuracy "
            f"{accuracy['test']:.4f}, {before} (step {step}, best on val)\n"
            f"confusion matrix, loss curve, probe_{step}.npz and report.json are in {workdir} "
            f"(took {clock(run.timing.elapsed)})"
        )
        return accuracy


def contrastive_loss(model: Contrastive, temperature: float):
    """Returns the function Task.loss. Its batches are (normalised images, labels)."""

    def loss(params, batch_stats, batch, key):
        images, label = batch
        variables = {"params": params, "batch_stats": batch_stats}
        (z_BD, _), updated = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return supervised_contrastive(z_BD, label, temperature), updated["batch_stats"]

    return loss


def check_config(config: ConfigDict) -> None:
    """Refuse values that are not valid, before a file is read or anything is compiled.

    Raises:
      ConfigError: the message names the key and what to write instead.
    """
    check(config)
    if config.label_mode not in LABEL_MODES:
        raise ConfigError(
            f'config.label_mode="{config.label_mode}" must be one of {", ".join(LABEL_MODES)}',
            code="value",
            key="config.label_mode",
        )
    if config.accumulate != 1:
        raise ConfigError(
            f"config.accumulate={config.accumulate} must be 1: a contrastive loss compares all crops of a batch, and "
            "parts of a batch have fewer negatives; use a smaller batch or a larger config.mesh.fsdp",
            code="conflict",
            key="config.accumulate",
        )
    if not hasattr(find_model(config.model.name), "POOLED"):
        raise ConfigError(
            f'config.model.name="{config.model.name}" must be a backbone with four stages, e.g. resnet50',
            code="value",
            key="config.model.name",
        )


def check_batches(config: ConfigDict, devices: int) -> None:
    """Raise ConfigError if the batch sizes cannot be divided over the devices."""
    unit = devices * (2 if config.label_mode == "instance" else 1)
    if config.batch_size < 8 or config.batch_size % unit:
        near = -(-max(8, config.batch_size) // unit) * unit
        raise ConfigError(
            f"config.batch_size={config.batch_size} must be 8 or more and a multiple of {unit}; use {near}",
            code="value",
            key="config.batch_size",
        )
    if config.eval_batch_size < 1 or config.eval_batch_size % devices:
        raise ConfigError(
            f"config.eval_batch_size={config.eval_batch_size} must be a multiple of {devices}, the number of devices",
            code="value",
            key="config.eval_batch_size",
        )
