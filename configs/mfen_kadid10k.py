"""MFEN (VAN-B2) on KADID-10k, split by reference: 57 references train, 8 validate, 16 test.

  jaxiqa train --config mfen_kadid10k --workdir workdir/mfen_kadid10k \
      --config.dataset.data_dir=/path/to/kadid10k --config.init.qen=converted/van_b2 --config.init.dan=workdir/dan

mfen_kadid10k        our recipe: labels 0..1, the epoch selected on validation images, ten times the learning rate for
                     new parts, all rates divided by 10 after three fifths and after four fifths of the run.
mfen_kadid10k:paper  the recipe of MAMIQA's public code, which is from the same laboratory: Adam, one learning rate,
                     5 epochs of 50 crops of each image, the epoch selected on the test images, native labels.
                     MAMIQA also resets the optimiser state at every drop of the learning rate; this is left out.
                     The recipe of the MFEN paper is not known, so all of this is ASSUMED (our choice).
mfen_kadid10k:smoke  the test variant for four steps, to check the set-up.

The full recipe starts from ImageNet weights of VAN (docs/convert.md) and from a pretrained distortion-aware branch, the
DAN (dan_folder). Without them, all weights are random at the start. The frozen DAN then stays random, and the program
prints a warning.
The full recipes have not been run to the end here, so no expected score is given.
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg, "paper", "smoke")
    c = default_config("quality")
    c.model = dict(
        name="mfen", variant="van_b2", guidance="inline", ffm="aff", dan_fusion="all", daf="aff", hfen=True,
        dan_frozen=True, multi_scale_head=True, alpha=0.25, dropout=0.5,
    )  # fmt: skip
    c.init.update(qen="", dan="")  # VAN (converted) and DAN (pretrained) to start from
    c.dtype = "bfloat16"
    c.dataset.name = "kadid10k"
    c.batch_size = 64
    c.total = "250 epochs"  # each has one crop of each image, so 50 are one epoch of 50 crops
    c.optimizer.update(name="adam", learning_rate=2e-5, weight_decay=5e-4)
    c.optimizer.lr_multipliers = ((r"^(hfen|ffm|aff|dan_proj|head)", 10.0),)
    c.schedule.update(name="steps", warmup="0 steps", drops=("60 percent", "80 percent"))
    c.eval_every = c.save_every = "10 epochs"
    if arg == "paper":
        c.dtype = "float32"
        c.split.selection = "legacy"
        c.labels = "native"
        c.optimizer.update(decay_on="", grad_clip_norm=0.0, lr_multipliers=())
        c.schedule.drops = ()  # the first drop would be after 5 epochs of 50 crops, at the end of the run
        c.test_crops = "random:50"
        c.eval_every = c.save_every = "50 epochs"
    elif arg == "smoke":
        c.model.variant, c.dtype, c.frozen = "test", "float32", ()
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    return c
