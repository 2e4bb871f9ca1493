"""A distortion-aware encoder (ResNet-50) from a folder of pristine pictures, by supervised contrastive learning.

  python -m jaxiqa.pretrain --config configs/dan_folder.py --workdir workdir/dan --config.pictures=/path/to/pictures

The paper (MFEN, arXiv 2411.07556) says that its distortion-aware branch is a ResNet-50 pretrained contrastively to tell
distortions apart. Pictures, labels, loss, temperature and optimiser are ASSUMED here, after CONTRIQUE, SaTQA and
ARNIQA.
Pictures: KADIS-700k's ref_imgs (140,000), the Waterloo exploration database, or your own; they should be sharp and
uncompressed or nearly so.

dan_folder.py        ResNet-50, 224-pixel crops, 2 million crops. Start from ImageNet weights (recommended) with
                     --config.init.encoder=converted/resnet50.
dan_folder.py:test   the small encoder of MFEN's test variant on 64-pixel crops; minutes on a CPU.
dan_folder.py:smoke  four steps of that, to see that everything is in place.

Nobody has run the full recipe to the end here.
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    c = ml_collections.ConfigDict()
    c.seed = 0

    c.model = dict(name="resnet50", variant="resnet50")
    c.projector = dict(hidden=2048, features=128)  # discarded afterwards
    c.init = dict(encoder="")  # a converted checkpoint of the encoder to start from; "": random
    c.dtype = "bfloat16"  # of the computation: float32 | bfloat16; parameters, similarities and loss are float32
    c.frozen = ()  # regular expressions over parameter paths, e.g. r"^encoder/layer1"; their BatchNorms keep statistics

    c.pictures = ""  # folder of pristine pictures, searched with everything below it
    c.probe_pictures = 60  # of them are held out for the linear probe: half to fit it, a quarter to select, to test
    c.cache_gb = 8.0  # GiB of decoded pictures kept in memory
    c.label_mode = "type_level"  # what attracts: type_level | type | instance (two crops of one distorted picture)
    c.temperature = 0.1

    c.batch_size = 256  # global, in crops
    c.total = "2000000 examples"  # durations: N steps | epochs | examples | percent
    c.ema = 0.0  # decay of averaged parameters, which then are probed and kept; 0: off
    c.skip_nonfinite = False  # True: a step whose loss or gradient is no number changes nothing
    c.optimizer = dict(
        name="adam", learning_rate=3e-4, weight_decay=1e-5, decay_on="", b1=0.9, b2=0.999, eps=1e-8,
        grad_skip_norm=0.0,  # a step whose gradient has a larger norm changes nothing and is counted; 0: off
        grad_clip_norm=0.0, lr_multipliers=(),
    )  # fmt: skip
    c.schedule = dict(name="cosine", warmup="5 percent")

    c.eval_batch_size = 256  # crops
    c.log_every = "50 steps"
    c.eval_every = "5 percent"
    c.save_every = "5 percent"
    c.mesh = dict(data=-1, fsdp=1)  # -1: all devices that are left
    if arg in ("test", "smoke"):
        c.model.variant = "test"
        c.projector = dict(hidden=256, features=64)
        c.dtype = "float32"
        c.optimizer.learning_rate = 2e-3
        c.total, c.log_every, c.eval_every, c.save_every = "1000 steps", "20 steps", "20 percent", "20 percent"
        if arg == "smoke":
            c.batch_size, c.eval_batch_size, c.probe_pictures, c.total = 16, 64, 4, "4 steps"
            c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    elif arg:
        raise ValueError(f'dan_folder.py takes no argument, "test" or "smoke", not "{arg}"')
    return c
