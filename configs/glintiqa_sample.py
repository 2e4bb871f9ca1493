"""GlintIQA (test variant) on the embedded dataset `sample`: the quickstart.

jaxiqa train --config glintiqa_sample --workdir workdir/quickstart
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg, "smoke")
    c = default_config("quality")
    c.model = dict(name="glintiqa", variant="test", dropout=0.1, cwsa_layout="reference")
    c.init.update(vgfe="", clfe="")  # converted backbones to start from
    c.dataset.name = "sample"
    c.split.round = 2  # the test image is motorcycle
    c.cache_gb = 4.0
    c.batch_size = 64
    c.eval_batch_size = 64  # larger batches leave the caches of a CPU
    c.total = "1000 steps"
    c.loss = "huber+0.5*plcc"
    c.optimizer.learning_rate = 2e-3
    c.log_every, c.eval_every, c.save_every = "20 steps", "25 percent", "25 percent"
    if arg == "smoke":
        c.batch_size, c.total = 8, "8 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "4 steps", "4 steps"
    return c
