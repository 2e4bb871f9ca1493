"""GlintIQA (test variant) on the embedded dataset `sample`: the quickstart.

python -m jaxiqa.train --config configs/glintiqa_sample.py --workdir workdir/quickstart
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    c = ml_collections.ConfigDict()
    c.seed = 0

    c.model = dict(name="glintiqa", variant="test", dropout=0.1, cwsa_layout="reference")
    c.init = dict(model="", vgfe="", clfe="")  # converted checkpoints to start from: the whole model, or its backbones
    c.dtype = "float32"  # of the computation: float32 | bfloat16; parameters are float32
    c.frozen = ()  # regular expressions over parameter paths
    c.frozen_bn = "eval"  # BatchNorm of frozen parts: eval (running statistics) | train (batch statistics)

    c.dataset = dict(name="sample", data_dir="")
    c.split = dict(round=2, selection="val", file="")  # round 2 tests on motorcycle
    c.labels = "score01"  # score01 (0..1, higher is better) | native
    c.resize = 0  # shorter side of every picture in pixels; 0: as it is
    c.cache_gb = 4.0  # GiB of decoded pictures kept in memory, for each part

    c.batch_size = 64  # global
    c.total = "1000 steps"  # durations: N steps | epochs | examples | percent
    c.accumulate = 1  # parts of a batch that are computed one after the other; gradients are their mean
    c.ema = 0.0  # decay of averaged parameters, which then score (0.999 averages the last 1000 steps); 0: off
    c.loss = "huber+0.5*plcc"  # l1 | l2 | huber | plcc | rank, or a weighted sum of them
    c.skip_nonfinite = False  # True: a step whose loss or gradient is no number changes nothing
    c.optimizer = dict(
        name="adamw", learning_rate=2e-3, weight_decay=1e-2, decay_on="kernel$", b1=0.9, b2=0.999, eps=1e-8,
        grad_skip_norm=0.0,  # a step whose gradient has a larger norm changes nothing and is counted; 0: off
        grad_clip_norm=1.0, lr_multipliers=(),
    )  # fmt: skip
    c.schedule = dict(name="cosine", warmup="3 percent", half_period="30 steps", drops=())

    c.test_crops = "grid"  # grid (every pixel) | random:N
    c.eval_batch_size = 256  # crops
    c.log_every = "20 steps"
    c.eval_every = "25 percent"
    c.save_every = "25 percent"
    c.mesh = dict(data=-1, fsdp=1)  # -1: all devices that are left
    if arg == "smoke":
        c.total = "8 steps"
        c.batch_size = 8
        c.log_every = "1 steps"
        c.eval_every = c.save_every = "4 steps"
    elif arg:
        raise ValueError(f'glintiqa_sample.py takes no argument or "smoke", not "{arg}"')
    return c
