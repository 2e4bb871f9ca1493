"""MFEN on your own pictures: a folder and a CSV with one row per rated picture.

  python -m jaxiqa.train --config configs/mfen_folder.py --workdir workdir/mine \
      --config.dataset.data_dir=/path/to/folder --config.dataset.group_column=content

The CSV and the split are as in glintiqa_folder.py. MFEN is an implementation from the paper's description (arXiv
2411.07556); details marked ASSUMED in its files are ours.

The variant is `test` (0.2 M parameters, 64-pixel crops, all of it trained from nothing), which fits a CPU and a hundred
pictures. A distortion-aware branch pretrained by configs/dan_folder.py:test goes in by
--config.init.dan=workdir/dan_small --config.model.dan_frozen=True. With a GPU and thousands of pictures take
--config.model.variant=van_b2 and the recipe of mfen_koniq10k.py.
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    c = ml_collections.ConfigDict()
    c.seed = 0

    c.model = dict(
        name="mfen", variant="test", guidance="inline", ffm="aff", dan_fusion="all", daf="aff", hfen=True,
        dan_frozen=False, multi_scale_head=True, alpha=0.25, dropout=0.1,
    )  # fmt: skip
    c.init = dict(model="", qen="", dan="")  # where it starts: the whole model, or VAN (converted) and DAN (pretrained)
    c.dtype = "float32"  # of the computation: float32 | bfloat16; parameters are float32
    c.frozen = ()  # regular expressions over parameter paths
    c.frozen_bn = "eval"  # BatchNorm of frozen parts: eval (running statistics) | train (batch statistics)

    c.dataset = dict(
        name="folder",
        data_dir="",
        csv="index.csv",
        path_column="path",
        label_column="mos",
        group_column="",  # content; "": every picture is its own
        score_range=(1.0, 5.0),  # of the rating scale
        higher_is_better=True,  # False for DMOS
    )
    c.split = dict(round=1, selection="val", file="")  # selection: val | legacy; file: a split of others
    c.labels = "score01"  # score01 (0..1, higher is better) | native
    c.resize = 0  # shorter side of every picture in pixels; 0: as it is
    c.cache_gb = 4.0  # GiB of decoded pictures kept in memory, for each part

    c.batch_size = 64  # global
    c.total = "1500 steps"  # durations: N steps | epochs | examples | percent
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
    c.eval_batch_size = 64  # crops
    c.log_every = "50 steps"
    c.eval_every = "10 percent"
    c.save_every = "10 percent"
    c.mesh = dict(data=-1, fsdp=1)  # -1: all devices that are left
    if arg == "smoke":
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    elif arg:
        raise ValueError(f'mfen_folder.py takes no argument or "smoke", not "{arg}"')
    return c
