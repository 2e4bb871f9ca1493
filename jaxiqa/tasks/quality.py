"""Training of a quality model on images with opinion scores."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxiqa import plugins
from jaxiqa.config import check, complete
from jaxiqa.errors import ConfigError
from jaxiqa.evaluation import conformal
from jaxiqa.evaluation.metrics import BEST, HEADLINES
from jaxiqa.figures import report
from jaxiqa.files import write_json
from jaxiqa.inputs.image_paths import find_images
from jaxiqa.inputs.transforms import images_of
from jaxiqa.models import create_model, frozen_options, pretrainable, scales_of
from jaxiqa.models.blocks.projector import encoder_variables
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.runs.log import clock, curve
from jaxiqa.runs.processes import gather
from jaxiqa.scoring import reasons
from jaxiqa.scoring.card import Card
from jaxiqa.scoring.crops import parse_policy
from jaxiqa.scoring.explain import FILE, describe_probe, keep_probe
from jaxiqa.scoring.predict import Predictor
from jaxiqa.scoring.process_shares import predict_shares
from jaxiqa.scoring.rated import Results, describe, evaluate, provenance
from jaxiqa.scoring.rated_report import write_results
from jaxiqa.scoring.stored_interval import write_interval
from jaxiqa.tasks.data import TrainingData
from jaxiqa.training import optim, sharding
from jaxiqa.training.loop import Task
from jaxiqa.training.losses import parse_loss
from jaxiqa.training.state import scoring_variables
from jaxiqa.weights.initial import check_init, part_variables, place


class Quality(Task):
    """The task of jaxiqa.train.

    Args:
      config: config of the run. Missing keys have their defaults (jaxiqa.config).
      mesh: mesh of all devices.

    Raises:
      ConfigError: a value is not valid. No file has been read and nothing has been compiled by then.
    """

    best_by = BEST
    logged_as = "val_"

    def __init__(self, config: ConfigDict, mesh: Mesh):
        config = complete(config, "quality")
        check(config)
        super().__init__(config, mesh)
        loss = parse_loss(config.loss)
        parse_policy(config.test_crops)
        check_init(config.model.name, config.init)
        options = dict(config.model, dtype=jnp.dtype(config.dtype))
        if config.frozen_bn == "eval":
            options |= frozen_options(config.model.name, config.frozen)
        self.model = create_model(**options)
        self.crop_size = self.model.crop_size
        self.frozen += tuple(getattr(self.model, "frozen", ()))  # parts that the model declares as frozen
        self.batch_size //= config.crops_per_image
        self.loss = quality_loss(self.model, loss, images_of(self.model))
        self.data = TrainingData(config, self.crop_size, mesh, loss.columns, scales_of(self.model))

    @property
    def prepare(self):
        return self.data.prepare

    def batch_spec(self):
        return self.data.batch_spec()

    def open(self):
        check_batches(self.config, self.mesh.size)
        if folder := self.config.probe_photographs:  # before hours of training
            reasons.check(self.config.model.name, len(find_images([folder])))
        return self.data.open()

    def render(self):
        config, here = self.config, sharding.batch_sharding(sharding.local_mesh(self.mesh))
        sizes = [config.eval_batch_size // jax.process_count()]
        self._predictor = Predictor(self.model, config.test_crops, here, sizes)
        self.data.render()

    def same(self):
        return self.data.same()

    @property
    def card(self) -> Card:
        """The description of the scores, for the checkpoints of this run."""
        config, dataset = self.config, self.data.dataset
        return Card(
            model=config.model.to_dict(),
            dtype=config.dtype,
            labels=config.labels,
            dataset=dataset.name,
            scale=dataset.scale,
            crops=config.test_crops,
            resize=config.resize,
            note=dataset.note,
            package=plugins.package_of(config.model.name, plugins.MODELS),
        )

    def meta(self):
        split, transferred = self.data.split.fingerprint, self.data.transferred
        return {"card": self.card.to_dict(), "split": split, "transferred": transferred}

    def check_data(self, folder):
        self.data.refuse_other_data(folder)

    def begin(self, run, make, shapes):
        self.data.write_split(run.path)
        sources = {part: Saved(path) for part, path in self.config.init.items() if path}
        for part, saved in sources.items():
            self.data.refuse_leak(saved.meta, self.config.init[part])
        if sources:
            about = {
                part: {"checkpoint": self.config.init[part], "step": saved.step, "sha256": saved.digest()}
                for part, saved in sources.items()
            }
            write_json(run.path / "init.json", about)
        loaded = initial_weights(self.config, sources, shapes)
        for part in pretrainable(self.config.model.name):
            if part in sources and rf"^{part}/" in self.frozen:
                keep_probe(sources[part], run.path)
        state = make(loaded)
        _, frozen = optim.split_frozen(shapes.params, self.frozen)
        random = [path for path in frozen if f"params/{path}" not in loaded]
        if random:
            print(f"warning: {len(random)} frozen tensors are random, because config.init loads none into them")
        return state

    def resume(self, run):
        self.data.write_split(run.path)

    def batches(self, start):
        return self.data.batches(start)

    def rows(self, step):
        return self.data.rows(step)

    def _results(self, variables, part: str, card: Card | None = None) -> Results:
        images = self.data.images[part]
        predictions = predict_shares(self._predictor, variables, images, gather)
        return evaluate(predictions, images.records, self.data.dataset, card or self.card)

    def evaluate(self, variables, part="val"):
        results = self._results(variables, part)
        return results.metrics | {"spread": results.spread}

    def describe(self, scores):
        return "val " + "  ".join(f"{name} {scores[name]:.4f}" for name in (*HEADLINES, "spread") if name in scores)

    def finish(self, run, variables, step):
        """Test, and write the report, figures, predictions and the interval for opinions. Returns the metrics."""
        card, workdir = self.card, run.workdir
        contents = [r.content for r in self.data.images["val"].records]
        if self.data.split.selection == "val" and conformal.enough(contents):  # "legacy" validates on the test part
            card = dataclasses.replace(card, interval=self._results(variables, "val").interval())
        results = self._results(variables, "test", card)
        if not run.is_first:
            return results.metrics
        report.loss_curve(workdir / "loss_curve.png", *curve(workdir, f"val_{BEST}"))
        write_interval(workdir, step, card.interval)
        summary = provenance(self.data.dataset, "test", self.data.split, card)
        summary |= {"step": step, "seed": self.config.seed}
        summary |= warn(results)
        print(describe(write_results(workdir, "test", results, summary)))
        if folder := self.config.probe_photographs:
            weights = Saved(workdir, step).digest()
            probe = reasons.fit_folders(self.model, card, variables, [folder], weights)
            probe.save(workdir / FILE)
            print(describe_probe(probe.about))
        took = clock(run.timing.elapsed)
        print(f"report.html, loss curve, scatter plot, contact sheet and predictions are in {workdir} (took {took})")
        return results.metrics


def warn(results: Results) -> dict[str, str]:
    """Prints a warning if the scores of the test images say nothing. Returns its code for report.json, or {}."""
    if results.informative:
        return {}
    print(
        f"warning: the scores of the test images say nothing about their opinion scores (PLCC "
        f"{results.metrics['plcc']:.2f}; standard deviation: {results.spread:.0%} of the opinion scores'). If "
        "the training loss has not fallen, the run is stuck: train again in another workdir, with a quarter of "
        "config.optimizer.learning_rate. If it has fallen, the training contents are too few or too different"
    )
    return {"warning": "uninformative"}


def initial_weights(config: ConfigDict, sources: Mapping[str, Saved], shapes) -> dict[str, np.ndarray]:
    """Returns the weights that config.init loads, as {"params/...": array}.

    Args:
      config: config of the run.
      sources: {part of the model: its checkpoint, which config.init names}.
      shapes: a TrainState with shapes and dtypes in place of arrays.

    Raises:
      ConfigError: a pretrained encoder cannot be used for this part.
      CheckpointError: a checkpoint does not fit the model.
    """
    name, device = config.model.name, jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    leaves = traverse_util.flatten_dict({"params": shapes.params, "batch_stats": shapes.batch_stats}, sep="/")
    loaded = {}
    for part, saved in sources.items():
        path = config.init[part]
        if part == "model":
            tell_other_options(config.model, saved.meta.card.get("model", {}), path)
        variables = scoring_variables(**saved.load(("params", "batch_stats", "ema"), device))
        if saved.meta.pretrained:
            if part not in pretrainable(name):
                instead = "".join(f"; use it as config.init.{other}" for other in pretrainable(name))
                raise ConfigError(
                    f"config.init.{part}: {path} is an encoder of jaxiqa pretrain, which this part cannot use{instead}",
                    code="format",
                    key=f"config.init.{part}",
                )
            variables = encoder_variables(variables)
        variables = part_variables(part, saved.meta.card, variables)
        arrays, line = place(part, variables, leaves, name, path)
        loaded |= arrays
        print(line)
    return loaded


def tell_other_options(options: Mapping, trained_with: Mapping, path: str) -> None:
    """Prints a warning for each option of the model, except for dropout, that the weights were not trained with."""
    for name, value in options.items():
        value = list(value) if isinstance(value, tuple) else value  # as a card holds it
        if name != "dropout" and (there := trained_with.get(name, value)) != value:
            print(f"warning: config.model.{name}={value}, but the weights in {path} were trained with {there}")


def quality_loss(model, loss_fn, images):
    """Returns the function Task.loss, which applies `loss_fn` to the scores and labels of a batch.

    Args:
      model: Flax module that returns (scores, out).
      loss_fn: from parse_loss, or any function of scores and labels.
      images: function from a batch {"image", "label", ...} to the input of the model.
    """
    needs = getattr(loss_fn, "needs", ())

    def loss(params, batch_stats, batch, key):
        (score_B, out), updated = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images(batch),
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        more = {name: out if name == "out" else batch[name] for name in needs}
        return loss_fn(score_B, batch["label"], **more), updated.get("batch_stats", {})

    return loss


def check_batches(config: ConfigDict, devices: int) -> None:
    """Refuse batch sizes that cannot be divided over the devices.

    Raises:
      ConfigError: names the key and the nearest sizes that can.
    """
    for key in ("batch_size", "eval_batch_size"):
        size = config[key]
        if size < 1 or size % devices:
            near = max(1, size // devices) * devices
            raise ConfigError(
                f"config.{key}={size} must be a multiple of {devices}, the number of devices; use {near} or "
                f"{near + devices}",
                code="value",
                key=f"config.{key}",
            )
    if config.batch_size % (devices * config.crops_per_image):
        raise ConfigError(
            f"config.crops_per_image={config.crops_per_image} must divide config.batch_size={config.batch_size}, and "
            f"the number of images must be a multiple of {devices}, the number of devices",
            code="value",
            key="config.crops_per_image",
        )
    if config.batch_size % (devices * config.accumulate):
        raise ConfigError(
            f"config.accumulate={config.accumulate} must divide config.batch_size="
            f"{config.batch_size} into parts whose size is a multiple of {devices}, the number of devices",
            code="value",
            key="config.accumulate",
        )
