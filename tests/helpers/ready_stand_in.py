"""A small checkpoint with random weights and the card of a model whose training images nobody rated."""

import jax
import numpy as np

from jaxiqa.models import create_model
from jaxiqa.runs.checkpoint import save_once
from jaxiqa.runs.checkpoint_meta import CheckpointMeta
from jaxiqa.scoring.card import Card
from jaxiqa.training.state import jit_once

CARD = Card(
    model={"name": "compact", "variant": "test"},
    dtype="float32",
    labels="score01",
    dataset="noise",
    scale=None,
    crops="auto:4",
    note="nobody rated noise",
    reference={"of": "numbers from 0 to 1", "quantiles": [i / 100 for i in range(101)]},
)


def write_stand_in(folder, card=CARD):
    """Writes the checkpoint, and returns its folder."""
    model = create_model(**card.model)
    state = jit_once(model.init)(jax.random.key(0), np.zeros((1, model.crop_size, model.crop_size, 3), np.float32))
    save_once(folder, jax.tree.map(np.asarray, dict(state)), CheckpointMeta(card=card.to_dict()))
    return folder
