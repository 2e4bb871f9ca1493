"""The data of a quality run: a dataset with its split and labels, batches from any step, and who is in them."""

import contextlib
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxiqa import datasets
from jaxiqa.datasets.leaks import lent_scores, refuse_leak
from jaxiqa.datasets.sizes import data_fingerprint
from jaxiqa.datasets.split_files import refuse_other_data, write_split
from jaxiqa.datasets.splits import make_split
from jaxiqa.inputs.pictures import Pictures
from jaxiqa.inputs.pipeline import rows_of, train_batches
from jaxiqa.inputs.render import render
from jaxiqa.inputs.transferred import Sources, batch_columns, make_crops


class TrainingData:
    """What a run trains, validates and tests on. The images of some datasets are distorted inside the step, again in
    every epoch: then batches hold whole clean images, and `prepare` makes crops of them.

    Args:
      config: of the run; read are dataset, split, labels, resize, cache_gb, batch_size and seed.
      crop: side of a crop in pixels.
      mesh: that a batch is spread over.

    Attributes:
      dataset, split: of open().
      pictures: {"train", "val", "test": Pictures}; of render().
    """

    def __init__(self, config: ConfigDict, crop: int, mesh: Mesh):
        self._config, self._crop, self._mesh = config, crop, mesh
        self._cells = datasets.distorted_cells(config.dataset)
        self._sources = None

    @property
    def prepare(self):
        """(batch, key) -> crops, for images that the step distorts; None for others."""
        return None if self._cells is None else make_crops(self._cells, self._crop, self._mesh)

    def batch_spec(self) -> dict:
        """{name: (shape of one row, dtype)} of a batch."""
        columns = {
            "image": ((self._crop, self._crop, 3), jnp.uint8),
            "label": ((), jnp.float32),
            "index": ((), jnp.int32),
        }
        return columns | (batch_columns() if self._cells else {})

    def open(self) -> int:
        """Read labels and split; the number of images that train.

        Raises:
          DataError, ConfigError: what datasets.load and make_split refuse.
        """
        config = self._config
        self.dataset = dataset = datasets.load(**config.dataset)
        self.split = split = make_split(dataset, **config.split)
        self._fingerprint = data_fingerprint(dataset)
        self.transferred = lent_scores(dataset, split)
        if dataset.transferred:
            self._sources = Sources(dataset, split.train, config.labels == "native", config.cache_gb, config.resize)
            self._cells = self._sources.cells
        print(
            f"{dataset.name}: {len(split.train)} pictures train, {len(split.val)} validate, {len(split.test)} test "
            f"({split.name}, round {split.round}, selection {split.selection}, split {split.fingerprint})"
        )
        if dataset.note:
            print(f"note: {dataset.note}")
        return len(split.train)

    def render(self) -> None:
        """Write the distorted images that are needed as files, which may take minutes."""
        config, split = self._config, self.split
        needed = {*split.val, *split.test} if self._sources else None
        self.dataset = render(self.dataset, config.dataset.data_dir, needed)
        self.pictures = {
            part: Pictures(
                [self.dataset.records[i] for i in getattr(split, part)], self._crop, config.resize, config.cache_gb
            )
            for part in ("train", "val", "test")
        }

    def same(self) -> dict[str, str]:
        """Fingerprints of what all processes must have alike."""
        return {"split": self.split.fingerprint, "data": self._fingerprint}

    def write_split(self, folder, resumed: bool) -> None:
        """split.json; DataError if a resumed run had other images or labels."""
        if resumed:
            refuse_other_data(folder / "split.json", self._fingerprint)
        write_split(folder / "split.json", self.split, self.dataset, self._fingerprint)

    def refuse_leak(self, meta, path: str) -> None:
        """ConfigError if the checkpoint at `path` has seen scores of references that this run tests."""
        refuse_leak(
            meta.transferred, meta.config.get("dataset", {}), path, self.dataset, self._config.dataset, self.split
        )

    def batches(self, start: int) -> Iterator[dict]:
        """This process's share of the batches from number `start` on; close it."""
        if self._sources:
            images, labels, draw = self._sources, self._sources.labels, self._sources.draw
        else:
            mos = np.array([self.dataset.records[i].mos for i in self.split.train])
            native = self._config.labels == "native"
            images, draw = self.pictures["train"], None
            labels = mos if native else self.dataset.scale.to_score01(mos)
        return train_batches(
            images,
            labels,
            crop=self._crop,
            batch_size=self._config.batch_size,
            seed=self._config.seed,
            start=start,
            draw=draw,
        )

    def rows(self, step: int) -> list[dict]:
        """{"id", "path", "label", ...} of each image in this process's share of the batch that led to `step`."""
        with contextlib.closing(self.batches(step - 1)) as again:
            return rows_of(next(again), (self._sources or self.pictures["train"]).records)
