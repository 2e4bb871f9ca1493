"""MFEN on your own images: a folder and a CSV with one row per rated image.

  jaxiqa train --config mfen_folder --workdir workdir/mine \
      --config.dataset.data_dir=/path/to/folder --config.dataset.group_column=content

The CSV and the split are as in glintiqa_folder. MFEN is implemented from the description in the paper (arXiv
2411.07556). Details marked ASSUMED in the source are ours.

The variant is `test` (0.2 M parameters, 64-pixel crops, random initial weights), for a CPU. To use a distortion-aware
branch pretrained with dan_folder:test, give --config.init.dan=workdir/dan_small --config.model.dan_frozen=True. With a
GPU and thousands of images, use --config.model.variant=van_b2 and the recipe of mfen_koniq10k. With a few hundred
images, use compact_folder.
--config.flip_vertical=False keeps photographs upright: crops are then mirrored left-right only.
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg, "smoke")
    c = default_config("quality")
    c.model = dict(
        name="mfen", variant="test", guidance="inline", ffm="aff", dan_fusion="all", daf="aff", hfen=True,
        dan_frozen=False, multi_scale_head=True, alpha=0.25, dropout=0.1,
    )  # fmt: skip
    c.init.update(qen="", dan="")  # VAN (converted) and DAN (pretrained) to start from
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
