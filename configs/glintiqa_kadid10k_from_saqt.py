"""GlintIQA on KADID-10k, from a model pretrained on transferred labels (glintiqa_saqt_kadid10k).

  jaxiqa train --config glintiqa_kadid10k_from_saqt --workdir workdir/kadid_from_saqt \
      --config.dataset.data_dir=/path/to/kadid10k --config.init.model=workdir/saqt

--config.split.round must equal --config.dataset.round of the pretraining. The pretraining has then held out the
references that are tested here. Any other round is refused. The whole model is initialised, including its regression
head. The state of the optimiser is not.

To fine-tune on another dataset, use its own config with --config.init.model=workdir/saqt, e.g. glintiqa_folder with
--config.model.variant=vit_s16_r50 (or the variant test, after pretraining with :test).

glintiqa_kadid10k_from_saqt        our recipe: one cosine schedule, labels 0..1, the epoch selected on validation
                                   references.
glintiqa_kadid10k_from_saqt:paper  the recipe of the public code for KADID-10k (as glintiqa_kadid10k:paper), from
                                   pretrained weights.
glintiqa_kadid10k_from_saqt:test   the test variant, 1000 steps of 32 images, from glintiqa_saqt_kadid10k:test.
glintiqa_kadid10k_from_saqt:smoke  four steps of :test, to check the set-up.

The full recipes have not been run to the end here, so no expected score is given.
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config

# As in glintiqa_kadid10k: patch embedding, ViT blocks 0-4, ResNet stem and stages 1-2.
FROZEN = (r"^vgfe/backbone/(patch_embed|block[0-4])/", r"^clfe/backbone/(conv1|bn1|layer[12]_\d+)/")


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg, "paper", "test", "smoke")
    c = default_config("quality")
    c.model = dict(name="glintiqa", variant="vit_s16_r50", dropout=0.5, cwsa_layout="reference")
    c.init.update(model="workdir/saqt", vgfe="", clfe="")  # the pretrained model
    c.dtype = "bfloat16"
    c.frozen = FROZEN
    c.dataset.name = "kadid10k"
    c.eval_every = c.save_every = "1 epochs"
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
    elif arg in ("test", "smoke"):
        c.model.update(variant="test", dropout=0.1, cwsa_layout="plain")
        c.dtype, c.frozen = "float32", ()
        c.loss = "huber+0.5*plcc"
        c.optimizer.learning_rate = 1e-3
        c.total, c.log_every, c.eval_every, c.save_every = "1000 steps", "20 steps", "25 percent", "25 percent"
    if arg == "smoke":
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    return c
