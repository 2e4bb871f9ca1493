"""GlintIQA pretrained on transferred labels (SAQT): pristine pictures, distorted while it trains, KADID-10k's scores.

  python -m jaxiqa.transfer --checkpoint converted/resnet101 --dataset kadid10k --data_dir /path/to/kadid10k \
      --pictures /path/to/kadis700k/ref_imgs --output saqt
  python -m jaxiqa.train --config configs/glintiqa_saqt_kadid10k.py --workdir workdir/saqt \
      --config.dataset.data_dir=saqt
  python -m jaxiqa.evaluate --checkpoint workdir/saqt --dataset tid2013 --data_dir /path/to/tid2013 --part all
  python -m jaxiqa.train --config configs/glintiqa_kadid10k_from_saqt.py --workdir workdir/fine ...

No distorted picture is stored: the step distorts whole pictures of 384x512 on the device and then crops them. An epoch
is every source once, at one type and level that are drawn for it. What validates and tests has a type and level of its
own, drawn once, and is written to the folder of the dataset at the start.

--config.dataset.round=R is the round of KADID-10k's split whose references are held out: a model that is fine-tuned or
tested on KADID-10k in round R must be pretrained in round R, and others are refused. --config.dataset.hold_out=False
trains on the scores of all references, for models that are tested on other datasets only.

glintiqa_saqt_kadid10k.py        our recipe: one cosine, labels 0..1, 300 epochs of 50,000 crops (ASSUMED).
glintiqa_saqt_kadid10k.py:paper  the public code's recipe (arXiv 2408.03885): batch 128, Adam with L2, 1e-5 both, a
                                 cosine stepped each iteration. Its 50 epochs are of all 125 versions of each source:
                                 6,250 of ours. Its labels 0..9 are 1..5 here, its fp16 is bfloat16.
glintiqa_saqt_kadid10k.py:test   the test variant, 1000 steps of 32 pictures: 25 pictures/s on two CPU cores.
glintiqa_saqt_kadid10k.py:smoke  four steps of that, to see that everything is in place.

Both full recipes freeze the first layers of pretrained backbones: convert them (README) and give
--config.init.vgfe=converted/vit_small --config.init.clfe=converted/resnet50.
Nobody has run the full recipes to the end here: no expected score is given.
"""

import ml_collections

# As in glintiqa_kadid10k.py: patch embedding, ViT blocks 0-4, ResNet stem and stages 1-2.
FROZEN = (r"^vgfe/backbone/(patch_embed|block[0-4])/", r"^clfe/backbone/(conv1|bn1|layer[12]_\d+)/")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    c = ml_collections.ConfigDict()
    c.seed = 0

    c.model = dict(name="glintiqa", variant="vit_s16_r50", dropout=0.5, cwsa_layout="reference")
    c.init = dict(model="", vgfe="", clfe="")  # converted checkpoints to start from: the whole model, or its backbones
    c.dtype = "bfloat16"  # of the computation: float32 | bfloat16; parameters are float32
    c.frozen = FROZEN  # regular expressions over parameter paths
    c.frozen_bn = "eval"  # BatchNorm of frozen parts: eval (running statistics) | train (batch statistics)

    c.dataset = dict(
        name="saqt",
        data_dir="",  # what jaxiqa.transfer wrote
        pictures="",  # folder of the pristine pictures; "": where they were then
        types=tuple(range(1, 26)),  # of KADID-10k's distortions; on a CPU 3, 4, 15 and 19 take half of the time
        round=1,  # of the rated dataset's split
        hold_out=True,  # sources that are like its val and test references never train
    )
    c.split = dict(round=1, selection="val", file="")  # selection: val | legacy (val trains too, test selects)
    c.labels = "score01"  # score01 (0..1, higher is better) | native
    c.resize = 0  # of the pictures that validate and test, which are 384x512
    c.cache_gb = 32.0  # GiB of decoded pictures kept in memory, for each part; 50,000 sources take 27.5

    c.batch_size = 128  # global
    c.total = "300 epochs"  # durations: N steps | epochs | examples | percent
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
    c.eval_every = "10 epochs"
    c.save_every = "10 epochs"
    c.mesh = dict(data=-1, fsdp=1)  # -1: all devices that are left
    if arg == "paper":
        c.seed = 12345
        c.frozen_bn = "train"
        c.labels = "native"
        c.total = "6250 epochs"
        c.optimizer.update(name="adam", learning_rate=1e-5, weight_decay=1e-5, decay_on="", grad_clip_norm=0.0)
        c.schedule.update(name="cosine_wave", warmup="0 steps", half_period="30 steps")
        c.test_crops = "random:25"
        c.eval_every = c.save_every = "125 epochs"
    elif arg in ("test", "smoke"):
        c.model.update(variant="test", dropout=0.1)
        c.frozen = ()
        c.dtype = "float32"
        c.loss = "huber+0.5*plcc"
        c.optimizer.learning_rate = 2e-3
        c.cache_gb = 2.0
        c.batch_size, c.total = 32, "1000 steps"
        c.log_every, c.eval_every, c.save_every = "20 steps", "25 percent", "25 percent"
        if arg == "smoke":
            c.batch_size, c.total = 8, "4 steps"
            c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    elif arg:
        raise ValueError(f'glintiqa_saqt_kadid10k.py takes no argument, "paper", "test" or "smoke", not "{arg}"')
    return c
