"""Trains the perceptron of the model that ships, on the statistics of the rendered crops; used by pack.py.

The statistics are not trained, so they are computed once: a training then takes a minute, and a batch can hold
distortions of one view side by side. The loss on single crops is that of `jaxiqa train` with huber+0.5*plcc. The loss
on chains needs no number: a score must fall from the undistorted view to the weakest level of a type, and from there
from level to level. It is taken of the mean of the eight crops that they have in common, all with the same noise and
dropout, because an image is scored by the mean of its crops. Chains come from the series of all levels and from the
pairs of levels of the other views.
"""

import csv
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
from jaxiqa.scoring.robustness import in_order
from jaxiqa.training.losses import parse_loss

STEPS, BATCH, GROUPS, CROPS = 1500, 256, 32, 8  # steps; single crops and chains of a batch; crops of a chain
RATE, DECAY = 2e-3, 1e-2
ORDER, MARGIN = 20.0, 0.005  # weight of the loss on views; the least fall, 0.5 of 100
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


def series(rows: list[dict]) -> np.ndarray:
    """Rows of the same crops of a view, undistorted and from the weakest level of a chain to the strongest.

    Returns int (chains, 6, 8). Of fewer than five levels, the strongest is repeated; of five crops, three are.
    """
    views, found = {}, []
    for i, row in enumerate(rows):
        view = row["path"].rsplit("_", 2)[0]
        views.setdefault(view, {}).setdefault((row["distortion"], row["level"]), []).append(i)
    for cells in views.values():
        for row in DISTORTIONS:
            for chain in row.chains:
                levels = [cells[row.name, str(k + 1)] for k in chain if (row.name, str(k + 1)) in cells]
                if len(levels) > 1:
                    crops = [(level * 2)[:CROPS] for level in (cells["", ""], *levels)]
                    found.append(crops + crops[-1:] * (6 - len(crops)))
    return np.array(found)


def fit(model, values_NF: np.ndarray, rows: list[dict], seed: int) -> tuple[dict, float, float]:
    """Trains on the parts `train` and `train_series`.

    Returns {"params", "batch_stats"}, the SRCC of the part `val`, and the share of chains of `val_series` in order.

    Args:
      model: of jaxiqa.models.compact.
      values_NF: the statistics of the rows.
      seed: of the initial weights, the batches, the noise and the dropout.
    """
    part = np.array([row["split"] for row in rows])
    train, val, held = (np.flatnonzero(part == name) for name in ("train", "val", "val_series"))
    label = {i: (float(rows[i]["mos"]) - 1) / 4 for i in (*train, *val)}  # the crops of series have none
    seen = np.concatenate([train, np.flatnonzero(part == "train_series")])
    views, unseen = (series([rows[i] for i in some]) for some in (seen, held))
    x, y = jnp.asarray(values_NF[seen]), jnp.array([label[i] for i in train], jnp.float32)
    variables, loss = model.init(jax.random.key(seed), x[:2], train=False), parse_loss(LOSS)
    normalise = {"mean": x[: len(y)].mean(0), "var": x[: len(y)].var(0)}
    fixed = {"batch_stats": {"normalise": normalise}}
    optimiser = optax.adamw(optax.warmup_cosine_decay_schedule(0.0, RATE, STEPS // 20, STEPS), weight_decay=DECAY)

    def objective(params, single_B, chain_GLC, key):
        def score(x, key):
            return model.apply({"params": params} | fixed, x, train=True, rngs={"dropout": key})[0]

        def of_level(rows_GC):
            return score(x[rows_GC.reshape(-1)], keys[0]).reshape(rows_GC.shape).mean(1)

        keys = jax.random.split(key)
        levels_GL = jax.vmap(of_level, 1, 1)(chain_GLC)
        rises = jnp.maximum(MARGIN + levels_GL[:, 1:] - levels_GL[:, :-1], 0.0).sum(1)
        return loss(score(x[single_B], keys[1]), y[single_B]) + ORDER * rises.mean()

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
    agreement = srcc(scores_of(model, found, values_NF[val]), [label[i] for i in val])
    falls = in_order(100 * scores_of(model, found, values_NF[held])[unseen].mean(2), [range(1, 6)])
    return jax.tree.map(np.asarray, found), float(agreement), float(falls.mean())


def scores_of(model, variables: dict, values_NF: np.ndarray) -> np.ndarray:
    """Scores of statistics, 0..1: float32 (N,)."""
    return np.asarray(jax.jit(lambda x: model.apply(variables, x, train=False)[0])(values_NF))
