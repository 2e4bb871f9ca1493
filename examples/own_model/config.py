"""Trains the small network of this package on a folder of rated images, with a loss that uses the raters' spread.

python -m jaxiqa.train --config config.py --workdir workdir/own --config.dataset.data_dir=/path/to/folder
"""

from ml_collections import ConfigDict

from jaxiqa.config import default_config


def get_config() -> ConfigDict:
    c = default_config("quality")
    c.model = dict(name="own_model.net", variant="small")  # or own_net, the short name of the installed package
    c.dataset.name = "own_model.ratings"
    c.total = "500 steps"
    c.loss = "own_model.losses:tolerant_l1+0.1*plcc"
    c.optimizer.learning_rate = 1e-3
    return c
