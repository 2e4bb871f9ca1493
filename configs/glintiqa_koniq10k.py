"""GlintIQA (ViT-S/16 + ResNet-50) on KonIQ-10k (512x384), official split: 7,058 train, 1,000 validate, 2,015 test.

  jaxiqa train --config glintiqa_koniq10k --workdir workdir/koniq10k \
      --config.dataset.data_dir=/path/to/koniq10k

glintiqa_koniq10k        our recipe: one cosine schedule, labels 0..1, the epoch selected on the official validation
                         part.
glintiqa_koniq10k:paper  the recipe of the public code (arXiv 2408.03885), as in glintiqa_kadid10k:paper, on a random
                         80/20 split of the images (8,058 train, 2,015 test), the epoch selected on the test images.
                         There are ten rounds, --config.split.round=R --config.seed=12345*R for R = 1..10, and the
                         medians over the rounds are reported.
glintiqa_koniq10k:smoke  the test variant for four steps, to check the set-up.

Both full recipes freeze the first layers of pretrained backbones. Convert the backbones (docs/convert.md) and give
--config.init.vgfe=converted/vit_small --config.init.clfe=converted/resnet50. Without them the frozen layers stay
random, and the program prints a warning. To train all layers from random weights, give --config.frozen="()".
The full recipes have not been run to the end here, so no expected score is given. The decoded images take 5.5 GiB of
memory.
--config.flip_vertical=False keeps photographs upright: crops are then mirrored left-right only.
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config

# arXiv 2408.03885, public code: patch embedding, ViT blocks 0-4, ResNet stem and stages 1-2 are frozen. The class token
# and the position embedding train.
FROZEN = (r"^vgfe/backbone/(patch_embed|block[0-4])/", r"^clfe/backbone/(conv1|bn1|layer[12]_\d+)/")


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg, "paper", "smoke")
    c = default_config("quality")
    c.model = dict(name="glintiqa", variant="vit_s16_r50", dropout=0.5, cwsa_layout="reference")
    c.init.update(vgfe="", clfe="")  # converted backbones to start from
    c.dtype = "bfloat16"
    c.frozen = FROZEN
    c.dataset.update(name="koniq10k", official_split=True)
    c.eval_every = c.save_every = "1 epochs"
    if arg == "paper":
        c.seed = 12345
        c.dtype = "float32"
        c.frozen_bn = "train"
        c.split.selection = "legacy"
        c.dataset.official_split = False
        c.labels = "native"
        c.total = "300 epochs"
        c.optimizer.update(name="adam", learning_rate=1e-5, weight_decay=1e-5, decay_on="", grad_clip_norm=0.0)
        c.schedule.update(name="cosine_wave", warmup="0 steps", half_period="30 steps")
        c.test_crops = "random:25"
    elif arg == "smoke":
        c.model.variant, c.dtype, c.frozen = "test", "float32", ()
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    return c
