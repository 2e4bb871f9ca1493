"""Compact on distorted crops of free photographs: the training of the weights that come with jaxiqa.

  bash launch/ready_model/make.sh PHOTOGRAPHS workdir/ready

Nobody rated the training images. Their scores are transferred from KADID-10k's means and from the damage of each crop
against its source (launch/ready_model/damage.py). Crops of 64 pixels of the 112 that are stored train three times as
fast as crops of 96, which the model scores. No rated image chooses the step or the seed: the validation photographs do.
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg)
    c = default_config("quality")
    c.model = dict(name="compact", variant="c96", crop_size=64)
    c.dataset.update(name="folder", csv="index.csv", group_column="content")
    c.split.file = ""  # DATA_DIR/index.csv:split
    c.cache_gb = 4.0
    c.batch_size, c.eval_batch_size = 128, 512
    c.total = "4000 steps"
    c.loss = "huber+0.5*plcc+0.5*rank"
    c.flip_vertical = False
    c.optimizer.learning_rate = 2e-3
    return c
