"""MFEN (VAN-B2) on KADID-10k, split by reference: 65 of 81 references train (8 of them validate), 16 test.

  python -m jaxiqa.train --config configs/mfen_kadid10k.py --workdir workdir/mfen_kadid10k \
      --config.dataset.data_dir=/path/to/kadid10k --config.init.qen=converted/van_b2 --config.init.dan=workdir/dan

mfen_kadid10k.py        our recipe: labels 0..1, the epoch is picked on validation pictures, ten times the learning rate
                        for what starts from nothing, a tenth of it after three and four fifths of the run.
mfen_kadid10k.py:paper  the laboratory's usual recipe (public code of MAMIQA; the paper's own is not known, so all of it
                        is ASSUMED): Adam, one learning rate, 5 epochs of 50 crops of each picture, the epoch picked
                        on the test pictures; MOS as they are.
                        Its new optimiser state at every drop of the learning rate is left out.
mfen_kadid10k.py:smoke  the test variant for four steps, to see that everything is in place.

The full recipe starts from ImageNet weights of VAN (converted, see README) and from a pretrained distortion-aware
branch (configs/dan_folder.py). Without them everything starts from nothing, and the frozen DAN is random, which the
program says.
Nobody has run the full recipes to the end here: no expected score is given.
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    c = ml_collections.ConfigDict()
    c.seed = 0

    c.model = dict(
        name="mfen", variant="van_b2", guidance="inline", ffm="aff", dan_fusion="all", daf="aff", hfen=True,
        dan_frozen=True, multi_scale_head=True, alpha=0.25, dropout=0.5,
    )  # fmt: skip
    c.init = dict(model="", qen="", dan="")  # where it starts: the whole model, or VAN (converted) and DAN (pretrained)
    c.dtype = "bfloat16"  # of the computation: float32 | bfloat16; parameters are float32
    c.frozen = ()  # regular expressions over parameter paths
    c.frozen_bn = "eval"  # BatchNorm of frozen parts: eval (running statistics) | train (batch statistics)

    c.dataset = dict(name="kadid10k", data_dir="")
    c.split = dict(round=1, selection="val", file="")  # selection: val | legacy; file: a split of others
    c.labels = "score01"  # score01 (0..1, higher is better) | native
    c.resize = 0  # shorter side of every picture in pixels; 0: as it is
    c.cache_gb = 8.0  # GiB of decoded pictures kept in memory, for each part; the whole set takes 5.6

    c.batch_size = 64  # global
    c.total = "250 epochs"  # durations: N steps | epochs | examples | percent; 50 of these are one of the papers'
    c.accumulate = 1  # parts of a batch that are computed one after the other; gradients are their mean
    c.ema = 0.0  # decay of averaged parameters, which then score (0.999 averages the last 1000 steps); 0: off
    c.loss = "l1"  # l1 | l2 | huber | plcc | rank, or a weighted sum of them
    c.skip_nonfinite = False  # True: a step whose loss or gradient is no number changes nothing
    c.optimizer = dict(
        name="adam", learning_rate=2e-5, weight_decay=5e-4, decay_on="kernel$", b1=0.9, b2=0.999, eps=1e-8,
        grad_skip_norm=0.0,  # a step whose gradient has a larger norm changes nothing and is counted; 0: off
        grad_clip_norm=1.0, lr_multipliers=((r"^(hfen|ffm|aff|dan_proj|head)", 10.0),),
    )  # fmt: skip
    c.schedule = dict(name="steps", warmup="0 steps", half_period="30 steps", drops=("60 percent", "80 percent"))

    c.test_crops = "grid"  # grid (every pixel) | random:N
    c.eval_batch_size = 128  # crops
    c.log_every = "50 steps"
    c.eval_every = "10 epochs"
    c.save_every = "10 epochs"
    c.mesh = dict(data=-1, fsdp=1)  # -1: all devices that are left
    if arg == "paper":
        c.dtype = "float32"
        c.split.selection = "legacy"
        c.labels = "native"
        c.optimizer.update(decay_on="", grad_clip_norm=0.0, lr_multipliers=())
        c.schedule.drops = ()  # every 5 epochs of 50 crops, which is the run's end
        c.test_crops = "random:50"
        c.eval_every = c.save_every = "50 epochs"
    elif arg == "smoke":
        c.model.variant = "test"
        c.frozen = ()
        c.dtype = "float32"
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    elif arg:
        raise ValueError(f'mfen_kadid10k.py takes no argument, "paper" or "smoke", not "{arg}"')
    return c
