"""MFEN with a small quality branch on AGIQA-3K: 2,982 AI-generated images of 300 prompts, split 80/20 by prompt.

  jaxiqa train --config mfen_agiqa3k --workdir workdir/mfen_agiqa3k \
      --config.dataset.data_dir=/path/to/agiqa3k --config.init.dan=workdir/dan

The distortion-aware branch (DAN) is a frozen ResNet-50: a converted one, or one that dan_folder has pretrained. All
other parts are those of the variant `test` and train from random weights, so that the run takes minutes on a CPU.
Images are resized to 160 pixels, and crops have 128, so that a crop shows most of what was generated. Crops are
mirrored left-right only. To leave out the DAN, give --config.model.dan_fusion=none; to leave out the high-frequency
branch, --config.model.hfen=False. docs/results.md has our results. With a GPU, use --config.model.variant=van_b2
--config.model.crop_size=224 --config.resize=256, a converted VAN (--config.init.qen) and the recipe of mfen_koniq10k.

mfen_agiqa3k:smoke  four steps with a small DAN, to check the set-up.
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg, "smoke")
    c = default_config("quality")
    c.model = dict(
        name="mfen", variant="test", crop_size=128, dan_width=64, dan_stages=(3, 4, 6, 3), dan_frozen=True,
        dan_fusion="all", hfen=True, dropout=0.1,
    )  # fmt: skip
    c.init.update(qen="", dan="")  # VAN (converted) and DAN (converted or pretrained) to start from
    c.dataset.name = "agiqa3k"
    c.resize = 160
    c.flip_vertical = False
    c.total = "400 steps"
    c.loss = "huber+0.5*plcc"
    c.optimizer.learning_rate = 2e-3
    c.eval_every = c.save_every = "25 percent"
    c.test_crops = "auto:4"
    if arg == "smoke":
        c.model.update(crop_size=64, dan_width=8, dan_stages=(1, 1, 1, 1))
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    return c
