"""Trains the perceptron of the model that ships, on the statistics of the rendered crops; used by pack.py.

The statistics are not trained, so they are computed once: a training then takes a minute, and a batch can hold
distortions of one view side by side. The loss on single crops is that of `jaxiqa train` with huber+0.5*plcc. The loss
on views needs no number: a crop's score must fall from the undistorted view to a weak level of a type, and from there
to a strong one. It is taken of the mean of the five crops that the three have in common, all with the same noise and
dropout, because an image is scored by the mean of its crops.
"""

import csv
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image
from tqdm import tqdm

from jaxiqa.distortions import DISTORTIONS
from jaxiqa.evaluation.metrics import srcc
from jaxiqa.files import writing
from jaxiqa.models.compact import statistics
from jaxiqa.training.losses import parse_loss

STEPS, BATCH, GROUPS = 1500, 256, 32  # steps; single crops and views of a batch
RATE, DECAY = 2e-3, 1e-2
ORDER, MARGIN = 5.0, 0.01  # weight of the loss on views; the least fall, 1 of 100
LOSS = "huber+0.5*plcc"


def read_index(pool: pathlib.Path) -> list[dict]:
    """The rows of index.csv."""
    with open(pool / "index.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_statistics(pool: pathlib.Path, rows: list[dict], crop: int, batch: int = 512) -> np.ndarray:
    """Statistics of the centre of each crop of the pool: float32 (N, F). They are computed once."""
    path = pool / "statistics.npy"
    if not path.exists():
        compute, found = jax.jit(lambda x: statistics(x.astype(jnp.float32) / 255)), []
        for start in tqdm(range(0, len(rows), batch), "statistics", disable=None):
            some, crops = rows[start : start + batch], np.zeros((batch, crop, crop, 3), np.uint8)
            for i, row in enumerate(some):
                image = np.asarray(Image.open(pool / row["path"]))
                edge = (image.shape[0] - crop) // 2
                crops[i] = image[edge : edge + crop, edge : edge + crop]
            found.append(np.asarray(compute(crops))[: len(some)])
        with writing(path, "wb") as file:
            np.save(file, np.concatenate(found))
    return np.load(path)


def triples(rows: list[dict]) -> np.ndarray:
    """Rows of the same five crops of a view: undistorted, with a weak and with a strong level: int (T, 3, 5)."""
    views, found = {}, []
    for i, row in enumerate(rows):
        view = row["path"].rsplit("_", 2)[0]
        views.setdefault(view, {}).setdefault((row["distortion"], row["level"]), []).append(i)
    for cells in views.values():
        for row in DISTORTIONS:
            for chain in row.chains:
                levels = [cells[row.name, str(k + 1)] for k in chain if (row.name, str(k + 1)) in cells]
                found += [(cells["", ""], *pair) for pair in itertools.pairwise(levels)]
    return np.array(found)


def fit(model, values_NF: np.ndarray, rows: list[dict], seed: int) -> tuple[dict, float]:
    """Trains on the part `train`. Returns {"params", "batch_stats"} and the SRCC of the part `val`.

    Args:
      model: of jaxiqa.models.compact.
      values_NF: the statistics of the rows.
      seed: of the initial weights, the batches, the noise and the dropout.
    """
    part = np.array([row["split"] for row in rows])
    label = (np.array([float(row["mos"]) for row in rows], np.float32) - 1) / 4
    train, val = np.flatnonzero(part == "train"), np.flatnonzero(part == "val")
    views = triples([rows[i] for i in train])
    x, y, loss = jnp.asarray(values_NF[train]), jnp.asarray(label[train]), parse_loss(LOSS)
    variables = model.init(jax.random.key(seed), x[:2], train=False)
    normalise = {"mean": x.mean(0), "var": x.var(0)}
    fixed = {"batch_stats": {"normalise": normalise}}
    optimiser = optax.adamw(optax.warmup_cosine_decay_schedule(0.0, RATE, STEPS // 20, STEPS), weight_decay=DECAY)

    def objective(params, single_B, view_G35, key):
        def score(x, key):
            return model.apply({"params": params} | fixed, x, train=True, rngs={"dropout": key})[0]

        keys = jax.random.split(key)
        of_view = [score(x[view_G35[:, k].reshape(-1)], keys[0]).reshape(-1, 5).mean(1) for k in range(3)]
        rises = [jnp.maximum(MARGIN + worse - better, 0.0).mean() for better, worse in itertools.pairwise(of_view)]
        return loss(score(x[single_B], keys[1]), y[single_B]) + ORDER * sum(rises)

    def step(carry, batch):
        params, state, key = carry
        key, now = jax.random.split(key)
        gradient = jax.grad(objective)(params, *batch, now)
        update, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, update), state, key), None

    rng = np.random.default_rng(seed)
    batches = rng.integers(len(train), size=(STEPS, BATCH)), views[rng.integers(len(views), size=(STEPS, GROUPS))]
    params = variables["params"]
    start = params, optimiser.init(params), jax.random.key(seed, impl="rbg")  # of noise and dropout: fast on CPUs
    (params, _, _), _ = jax.jit(lambda start, batches: jax.lax.scan(step, start, batches))(start, batches)
    found = {"params": params} | fixed
    scores = scores_of(model, found, values_NF[val])
    return jax.tree.map(np.asarray, found), float(srcc(scores, label[val]))


def scores_of(model, variables: dict, values_NF: np.ndarray) -> np.ndarray:
    """Scores of statistics, 0..1: float32 (N,)."""
    return np.asarray(jax.jit(lambda x: model.apply(variables, x, train=False)[0])(values_NF))
