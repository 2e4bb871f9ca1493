"""Compact on distorted crops of free photographs: the training of the weights that come with jaxiqa.

  bash launch/ready_model/make.sh PHOTOGRAPHS workdir/ready

It renders the crops into workdir/ready/pool and runs, for three seeds,

  jaxiqa train --config compact_ready --workdir workdir/ready/seed0 --config.seed=0 \
      --config.dataset.data_dir=workdir/ready/pool --config.split.file=workdir/ready/pool/index.csv:split

Nobody rated the training images. Their scores are KADID-10k's means by type and level, and functions of the strength of
other distortions that were fitted to these means (launch/ready_model/damage.py). The validation photographs choose the
step and the seed. No rated image does.
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg, "smoke")
    c = default_config("quality")
    c.model = dict(name="compact", variant="s171")
    c.dataset.update(name="folder", csv="index.csv", group_column="content")
    c.split.file = ""  # DATA_DIR/index.csv:split
    c.cache_gb = 4.0
    c.batch_size, c.eval_batch_size = 256, 512
    c.total = "1000 steps"
    c.loss = "huber+0.5*plcc"
    c.flip_vertical = False
    c.optimizer.learning_rate = 2e-3
    c.eval_every = c.save_every = "25 percent"
    if arg == "smoke":
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    return c
