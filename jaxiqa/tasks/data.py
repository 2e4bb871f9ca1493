"""The data of a quality run: a dataset with its split and labels, and batches from any step."""

import contextlib
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxiqa import datasets
from jaxiqa.datasets.file_sizes import data_fingerprint
from jaxiqa.datasets.formats.split_files import refuse_other_data, write_split
from jaxiqa.datasets.leakage import lent_scores, refuse_leak
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.inputs.image_source import Images
from jaxiqa.inputs.pipeline import rows_of, train_batches
from jaxiqa.inputs.render import render
from jaxiqa.inputs.saqt import PoolImages, batch_columns, make_crops
from jaxiqa.inputs.transforms import a_row_for_each_crop, augment_of
from jaxiqa.scoring.crops import parse_policy


class TrainingData:
    """The images and labels that a run trains, validates and tests on.

    For some datasets the training step distorts the images, in another way in each epoch. Batches of such a dataset
    hold whole clean images, and `prepare` distorts and crops them.

    Args:
      config: config of the run. This class reads dataset, split, labels, resize, cache_gb, crop, flip_horizontal,
        flip_vertical, crops_per_image, test_crops, batch_size and seed.
      crop: side of a crop in pixels.
      mesh: mesh that a batch is spread over.
      columns: names from training.losses.COLUMNS that a batch needs beside images and labels.
      scales: of the model's crops (inputs/scales.py). Crops that `prepare` cuts have the first one only.

    Attributes:
      dataset, split: set by open().
      transferred: dataset and references whose scores are the transferred labels; set by open().
      images: {"train", "val", "test": Images}; set by render().
    """

    def __init__(
        self, config: ConfigDict, crop: int, mesh: Mesh, columns: Sequence[str] = (), scales: Sequence[int] = (1,)
    ):
        self._config, self._crop, self._mesh, self._scales = config, crop, mesh, scales
        self._cells = datasets.distorted_cells(config.dataset)
        self._pool = None
        self._columns = columns

    @property
    def prepare(self):
        """The function (batch, key) -> crops if the step distorts images or images have several crops, else None."""
        if self._cells is not None:
            return make_crops(self._cells, self._crop, self._mesh)
        return (lambda batch, key: a_row_for_each_crop(batch)) if self._config.crops_per_image > 1 else None

    def batch_spec(self) -> dict:
        """Returns {name: (shape of one row, dtype)} of a batch."""
        many = tuple(n for n in (self._config.crops_per_image, len(self._scales)) if n > 1)
        columns = {
            "image": ((*many, self._crop, self._crop, 3), jnp.uint8),
            "label": ((), jnp.float32),
            "index": ((), jnp.int32),
        }
        for name in self._columns:
            columns[name] = ((), jnp.float32) if name == "std" else ((self._categories(),), jnp.float32)
        return columns | (batch_columns(self._config.crops_per_image) if self._cells else {})

    def _categories(self) -> int:
        """The number of rating categories of the dataset, without reading it."""
        options = self._config.dataset
        found = options.get("categories") or datasets.fact(datasets.find(options.name), "CATEGORIES")
        if not found:
            raise ConfigError(
                f"dataset {options.name} has no histograms of ratings, which config.loss needs",
                code="missing",
                key="config.loss",
            )
        return len(found)

    def open(self) -> int:
        """Read labels and split. Returns the number of training images.

        Raises:
          DataError, ConfigError: as for datasets.load and make_split; or all labels of a part are the same.
        """
        config = self._config
        self.dataset = dataset = datasets.load(**config.dataset)
        self.split = split = make_split(dataset, **config.split)
        if not dataset.transferred:
            self._refuse_constant_labels()
        self._fingerprint = data_fingerprint(dataset)
        self.transferred = lent_scores(dataset, split)
        self._more = dataset.spread(split.train, self._columns, config.labels == "native")
        if dataset.transferred:
            self._pool = PoolImages(dataset, split.train, config.labels == "native", config.cache_gb, config.resize)
            self._cells = self._pool.cells
        print(
            f"{dataset.name}: {len(split.train)} images train, {len(split.val)} validate, {len(split.test)} test "
            f"({split.name}, round {split.round}, selection {split.selection}, split {split.fingerprint})"
        )
        if dataset.note:
            print(f"note: {dataset.note}")
        return len(split.train)

    def _refuse_constant_labels(self) -> None:
        for part in ("train", "val", "test"):
            labels = {self.dataset.records[i].mos for i in getattr(self.split, part)}
            if len(labels) == 1:
                raise DataError(
                    f"all labels of the {part} part of {self.dataset.name} are {labels.pop():g}, so nothing can be "
                    "learned or measured there; check the labels, or choose another config.split.round",
                    code="value",
                    key=self.dataset.name,
                )

    def render(self) -> None:
        """Write the distorted images of the dataset that must exist as files. This may take minutes."""
        config, split = self._config, self.split
        needed = {*split.val, *split.test} if self._pool else None
        scored = parse_policy(config.test_crops).min_side(self._crop)
        self.dataset = render(self.dataset, config.dataset.data_dir, needed)
        self.images = {
            part: Images(
                [self.dataset.records[i] for i in getattr(split, part)], min_side, config.resize, config.cache_gb
            )
            for part, min_side in (("train", self._crop), ("val", scored), ("test", scored))
        }

    def same(self) -> dict[str, str]:
        """Returns fingerprints, which must be equal on all processes."""
        return {"split": self.split.fingerprint, "data": self._fingerprint}

    def write_split(self, folder) -> None:
        """Write split.json."""
        write_split(folder / "split.json", self.split, self.dataset, self._fingerprint)

    def refuse_other_data(self, folder) -> None:
        """Raise ConfigError if the run in `folder` began with other images or labels."""
        refuse_other_data(folder / "split.json", self.split, self.dataset, self._fingerprint)

    def refuse_leak(self, meta, path: str) -> None:
        """Raise ConfigError if the checkpoint at `path` was trained on scores of references that this run tests."""
        refuse_leak(
            meta.transferred, meta.config.get("dataset", {}), path, self.dataset, self._config.dataset, self.split
        )

    def batches(self, start: int) -> Iterator[dict]:
        """Returns the batches from number `start` on: this process's share of each. The caller closes the iterator."""
        if self._pool:
            images, labels, draw = self._pool, self._pool.labels, self._pool.draw
        else:
            mos = np.array([self.dataset.records[i].mos for i in self.split.train])
            native = self._config.labels == "native"
            images, draw = self.images["train"], None
            labels = mos if native else self.dataset.scale.to_score01(mos)
        return train_batches(
            images,
            labels,
            crop=self._crop,
            batch_size=self._config.batch_size // self._config.crops_per_image,
            seed=self._config.seed,
            start=start,
            augment=augment_of(self._config),
            draw=draw,
            more=self._more,
            scales=self._scales,
            crops_per_image=self._config.crops_per_image,
        )

    def rows(self, step: int) -> list[dict]:
        """Returns {"id", "path", "label", ...} for each image of this process in the batch that led to `step`."""
        with contextlib.closing(self.batches(step - 1)) as again:
            return rows_of(next(again), (self._pool or self.images["train"]).records)
