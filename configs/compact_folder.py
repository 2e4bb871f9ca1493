"""The model that ships, fine-tuned on your own images: a folder and a CSV with one row per rated image.

  jaxiqa train --config compact_folder --workdir workdir/mine \
      --config.dataset.data_dir=/path/to/folder --config.dataset.group_column=content

The CSV and the split are as in glintiqa_folder. The run starts from the weights that come with jaxiqa
(config.init.model="ready"). Their variant is s195 (96-pixel crops), for a CPU. With --config.init.model= (empty), the
network starts from random weights.

The duration and the learning rate were not tuned.
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg, "smoke")
    c = default_config("quality")
    c.model = dict(name="compact", variant="s195")
    c.init.model = "ready"
    c.dataset.update(name="folder", csv="index.csv", path_column="path", label_column="mos")
    c.dataset.group_column = ""  # column of the content; "": every image is its own content
    c.dataset.score_range = (1.0, 5.0)  # ends of the rating scale
    c.dataset.higher_is_better = True  # False for DMOS
    c.cache_gb = 4.0
    c.batch_size = c.eval_batch_size = 64
    c.total = "1500 steps"
    c.loss = "huber+0.5*plcc"
    c.optimizer.learning_rate = 5e-4
    c.test_crops = "auto:25"  # a bounded number, as the weights that ship
    if arg == "smoke":
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    return c
