"""GlintIQA on your own images: a folder and a CSV with one row per rated image.

  jaxiqa train --config glintiqa_folder --workdir workdir/mine \
      --config.dataset.data_dir=/path/to/folder --config.dataset.group_column=content

The CSV (index.csv) has the names of the images in the column `path` and their opinion scores in `mos`. Other columns,
the rating scale and its direction are options of config.dataset, set below. Images of one content must stay in one part
of the split. Name the column of the content (group_column); otherwise the model trains on contents of test images.
Contents are split 80/20.

The variant is `test` (0.2 M parameters, 64-pixel crops, random initial weights), for a CPU. With a GPU and thousands of
images, use --config.model.variant=vit_s16_r50. With a few hundred images, use compact_folder.
--config.flip_vertical=False keeps photographs upright: crops are then mirrored left-right only.
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg, "smoke")
    c = default_config("quality")
    c.model = dict(name="glintiqa", variant="test", dropout=0.1, cwsa_layout="reference")
    c.init.update(vgfe="", clfe="")  # converted backbones to start from
    c.dataset.update(name="folder", csv="index.csv", path_column="path", label_column="mos")
    c.dataset.group_column = ""  # column of the content; "": every image is its own content
    c.dataset.score_range = (1.0, 5.0)  # ends of the rating scale
    c.dataset.higher_is_better = True  # False for DMOS
    c.cache_gb = 4.0
    c.batch_size = c.eval_batch_size = 64
    c.total = "1500 steps"
    c.loss = "huber+0.5*plcc"
    c.optimizer.learning_rate = 2e-3
    if arg == "smoke":
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    return c
