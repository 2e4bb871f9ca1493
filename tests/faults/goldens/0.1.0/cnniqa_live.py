"""CNNIQA (CVPR 2014) on LIVE: 32-pixel patches of the luminance, L1, Adam at 1e-3, batch 128, 500 epochs, dropout 0.5.

  python -m jaxiqa.train --config configs/cnniqa_live.py --workdir workdir/cnniqa \
      --config.dataset.data_dir=/path/to/live

The numbers are those of the public PyTorch port. Where this differs: one random patch per picture and epoch instead of
all of them (so an epoch is a few steps, and 500 epochs see fewer patches), labels 0..1 instead of DMOS, and the house's
split by reference (70/10/20) instead of 60/20/20. A test picture's score is the mean over its whole grid of patches.
Nobody has run it to the end here: no expected score is given. It is small enough for a CPU.
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    c = ml_collections.ConfigDict()
    c.seed = 0

    c.model = dict(name="cnniqa", variant="patch32", dropout=0.5)
    c.init = dict(model="")  # a converted checkpoint to start from
    c.dtype = "float32"  # of the computation: float32 | bfloat16; parameters are float32
    c.frozen = ()  # regular expressions over parameter paths
    c.frozen_bn = "eval"  # BatchNorm of frozen parts: eval (running statistics) | train (batch statistics)

    c.dataset = dict(name="live", data_dir="")
    c.split = dict(round=1, selection="val", file="")  # selection: val | legacy; file: a split of others
    c.labels = "score01"  # score01 (0..1, higher is better) | native
    c.resize = 0  # shorter side of every picture in pixels; 0: as it is
    c.cache_gb = 4.0  # GiB of decoded pictures kept in memory, for each part

    c.batch_size = 128  # global
    c.total = "500 epochs"  # durations: N steps | epochs | examples | percent
    c.accumulate = 1  # parts of a batch that are computed one after the other; gradients are their mean
    c.ema = 0.0  # decay of averaged parameters, which then score (0.999 averages the last 1000 steps); 0: off
    c.loss = "l1"  # l1 | l2 | huber | plcc | rank, or a weighted sum of them
    c.skip_nonfinite = False  # True: a step whose loss or gradient is no number changes nothing
    c.optimizer = dict(
        name="adam", learning_rate=1e-3, weight_decay=0.0, decay_on="kernel$", b1=0.9, b2=0.999, eps=1e-8,
        grad_skip_norm=0.0,  # a step whose gradient has a larger norm changes nothing and is counted; 0: off
        grad_clip_norm=0.0, lr_multipliers=(),
    )  # fmt: skip
    c.schedule = dict(name="constant", warmup="0 steps", half_period="30 steps", drops=())

    c.test_crops = "whole"  # whole (the model's own grid of patches) | grid | random:N
    c.eval_batch_size = 960  # crops
    c.log_every = "50 steps"
    c.eval_every = "10 percent"
    c.save_every = "10 percent"
    c.mesh = dict(data=-1, fsdp=1)  # -1: all devices that are left
    if arg == "smoke":
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    elif arg:
        raise ValueError(f'cnniqa_live.py takes no argument or "smoke", not "{arg}"')
    return c
