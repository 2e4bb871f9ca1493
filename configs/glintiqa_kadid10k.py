"""GlintIQA (ViT-S/16 + ResNet-50) on KADID-10k, split 80/20 by reference.

  python -m jaxiqa.train --config configs/glintiqa_kadid10k.py --workdir workdir/kadid10k \
      --config.dataset.data_dir=/path/to/kadid10k

glintiqa_kadid10k.py        our recipe: one cosine, labels 0..1, the epoch is picked on validation references.
glintiqa_kadid10k.py:paper  the public code's recipe (arXiv 2408.03885): Adam with L2, 1e-5 both, a cosine stepped each
                            iteration, batch 32, 300 epochs, native labels, BatchNorm in training mode everywhere, 25
                            random test crops, the epoch picked on the test references. Its ten rounds are
                            --config.split.round=R --config.seed=12345*R for R = 1..10; medians are reported.
glintiqa_kadid10k.py:smoke  the test variant for four steps, to see that everything is in place.

Both full recipes freeze the first layers of pretrained backbones: convert them (README) and give
--config.init.vgfe=converted/vit_small --config.init.clfe=converted/resnet50. Without them frozen layers stay random
(the program says so), and --config.frozen="()" trains everything from nothing.
Nobody has run the full recipes to the end here: no expected score is given. One H200 allows at most about 8.9 k crops/s
(computed, not measured).
"""

import ml_collections

# arXiv 2408.03885, public code: patch embedding, ViT blocks 0-4, ResNet stem and stages 1-2. Class token and position
# embedding train.
FROZEN = (r"^vgfe/backbone/(patch_embed|block[0-4])/", r"^clfe/backbone/(conv1|bn1|layer[12]_\d+)/")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    c = ml_collections.ConfigDict()
    c.seed = 0

    c.model = dict(name="glintiqa", variant="vit_s16_r50", dropout=0.5, cwsa_layout="reference")
    c.init = dict(model="", vgfe="", clfe="")  # converted checkpoints to start from: the whole model, or its backbones
    c.dtype = "bfloat16"  # of the computation: float32 | bfloat16; parameters are float32
    c.frozen = FROZEN  # regular expressions over parameter paths
    c.frozen_bn = "eval"  # BatchNorm of frozen parts: eval (running statistics) | train (batch statistics)

    c.dataset = dict(name="kadid10k", data_dir="")
    c.split = dict(round=1, selection="val", file="")  # selection: val | legacy; file: a split of others
    c.labels = "score01"  # score01 (0..1, higher is better) | native
    c.resize = 0  # shorter side of every picture in pixels; 0: as it is
    c.cache_gb = 8.0  # GiB of decoded pictures kept in memory, for each part; the whole set takes 5.6

    c.batch_size = 32  # global
    c.total = "50 epochs"  # durations: N steps | epochs | examples | percent
    c.accumulate = 1  # parts of a batch that are computed one after the other; gradients are their mean
    c.ema = 0.0  # decay of averaged parameters, which then score (0.999 averages the last 1000 steps); 0: off
    c.loss = "l1"  # l1 | l2 | huber | plcc | rank, or a weighted sum of them
    c.skip_nonfinite = False  # True: a step whose loss or gradient is no number changes nothing
    c.optimizer = dict(
        name="adamw", learning_rate=1e-4, weight_decay=1e-2, decay_on="kernel$", b1=0.9, b2=0.999, eps=1e-8,
        grad_skip_norm=0.0,  # a step whose gradient has a larger norm changes nothing and is counted; 0: off
        grad_clip_norm=1.0, lr_multipliers=(),
    )  # fmt: skip
    c.schedule = dict(name="cosine", warmup="3 percent", half_period="30 steps", drops=())

    c.test_crops = "grid"  # grid (every pixel) | random:N
    c.eval_batch_size = 128  # crops
    c.log_every = "50 steps"
    c.eval_every = "1 epochs"
    c.save_every = "1 epochs"
    c.mesh = dict(data=-1, fsdp=1)  # -1: all devices that are left
    if arg == "paper":
        c.seed = 12345
        c.dtype = "float32"
        c.frozen_bn = "train"
        c.split.selection = "legacy"
        c.labels = "native"
        c.total = "300 epochs"
        c.optimizer.update(name="adam", learning_rate=1e-5, weight_decay=1e-5, decay_on="", grad_clip_norm=0.0)
        c.schedule.update(name="cosine_wave", warmup="0 steps", half_period="30 steps")
        c.test_crops = "random:25"
    elif arg == "smoke":
        c.model.variant = "test"
        c.frozen = ()
        c.dtype = "float32"
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    elif arg:
        raise ValueError(f'glintiqa_kadid10k.py takes no argument, "paper" or "smoke", not "{arg}"')
    return c
