"""GlintIQA (ViT-S/16 + ResNet-50) on AGIQA-3K: 2,982 AI-generated images of 300 prompts, split 80/20 by prompt.

  jaxiqa train --config glintiqa_agiqa3k --workdir workdir/agiqa3k \
      --config.dataset.data_dir=/path/to/agiqa3k \
      --config.init.vgfe=converted/vit_small --config.init.clfe=converted/resnet50

The run starts from converted backbones (docs/convert.md). The first layers are frozen, as in the public code
(glintiqa_koniq10k), and so are all BatchNorms of the ResNet, which keep their statistics. The rest of the backbones
trains at a tenth of the learning rate. The shorter side of an image is resized to 320 pixels, so that a crop of 224
shows half of what was generated. Crops are mirrored left-right only. docs/results.md has our results, also those of an
earlier version of this recipe (config.resize=256 and config.model.cwsa_layout="reference").

glintiqa_agiqa3k:smoke  the test variant for four steps, to check the set-up.
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config

FROZEN = (
    r"^vgfe/backbone/(patch_embed|block[0-4])/",
    r"^clfe/backbone/(conv1|bn1|layer[12]_\d+)/",
    r"^clfe/backbone/layer3_\d+/\w*bn\d?/",
)


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg, "smoke")
    c = default_config("quality")
    c.model = dict(name="glintiqa", variant="vit_s16_r50", dropout=0.1, cwsa_layout="plain")
    c.init.update(vgfe="", clfe="")  # converted backbones to start from
    c.frozen = FROZEN
    c.dataset.name = "agiqa3k"
    c.resize = 320
    c.flip_vertical = False
    c.batch_size = 16
    c.total = "4 epochs"
    c.loss = "l1+0.5*plcc"
    c.optimizer.update(learning_rate=2e-4, lr_multipliers=(("backbone/", 0.1),))
    c.eval_every = c.save_every = "1 epochs"
    c.test_crops = "auto:4"
    if arg == "smoke":
        c.model.variant, c.frozen, c.resize = "test", (), 96
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    return c
