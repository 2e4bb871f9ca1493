"""A checkpoint of the test variant of a model, with random weights."""

import dataclasses

import jax
import numpy as np

from jaxiqa.models import create_model
from jaxiqa.runs.checkpoint import save_once
from jaxiqa.runs.checkpoint_meta import CheckpointMeta
from jaxiqa.scoring.card import Card
from jaxiqa.training.state import jit_once


def write_source(folder, name: str, **changes):
    """Writes the checkpoint and returns its folder. `changes` are fields of its card."""
    model = create_model(name, "test")
    state = jit_once(model.init)(jax.random.key(0), np.zeros((1, model.crop_size, model.crop_size, 3), np.float32))
    card = Card({"name": name, "variant": "test"}, "float32", "score01", "", None, "auto:4")
    state = {"params": {}, "batch_stats": {}} | jax.tree.map(np.asarray, dict(state))
    save_once(folder, state, CheckpointMeta(card=dataclasses.replace(card, **changes).to_dict()))
    return folder
