"""CNNIQA (CVPR 2014) on LIVE: 32-pixel patches of the luminance, L1, Adam at 1e-3, batch 128, 500 epochs, dropout 0.5.

  jaxiqa train --config cnniqa_live --workdir workdir/cnniqa \
      --config.dataset.data_dir=/path/to/live

The numbers are those of the public PyTorch port, with three differences. An epoch has one random patch per image
instead of all patches, so an epoch is a few steps, and 500 epochs see fewer patches. Labels are 0..1 instead of DMOS.
The split by reference is 70/10/20 instead of 60/20/20. The score of a test image is the mean over its grid of patches.
The full run has not been done here, so no expected score is given. A CPU is enough.
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg, "smoke")
    c = default_config("quality")
    c.model = dict(name="cnniqa", variant="patch32", dropout=0.5)
    c.dataset.name = "live"
    c.cache_gb = 4.0
    c.batch_size = 128
    c.total = "500 epochs"
    c.optimizer.update(name="adam", learning_rate=1e-3, weight_decay=0.0, grad_clip_norm=0.0)
    c.schedule.update(name="constant", warmup="0 steps")
    c.test_crops = "whole"  # the model's own grid of patches
    c.eval_batch_size = 960
    if arg == "smoke":
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    return c
